"""The reference shows what is written here, as it is written.

Docstrings have formulas as plain text: what reStructuredText would read as markup is escaped.
Members that come from PyTorch, Pyro or NumPyro are left to their own documentation.
"""

import re
from typing import Any

CODE = re.compile(r"(``.+?``)")


def escape(line: str) -> str:
    """Bars are absolute values, not substitutions; a final underscore is no link."""
    parts = CODE.split(line)
    parts[::2] = (re.sub(r"\|", r"\\|", re.sub(r"(\w)_(?=\W|$)", r"\1\\_", p)) for p in parts[::2])
    return "".join(parts)


def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape lines that are no example."""
    is_code = False
    for i, line in enumerate(lines):
        is_code = line.lstrip().startswith(">>>") or (is_code and bool(line.strip()))
        if not is_code:
            lines[i] = escape(line)


def is_foreign(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Whether a member is defined by another package; None leaves the choice to autodoc."""
    function = getattr(obj, "fget", None) or getattr(obj, "func", None) or obj
    module = getattr(function, "__module__", None) or ""
    return True if module and "constrained" not in module else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-skip-member", is_foreign)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
