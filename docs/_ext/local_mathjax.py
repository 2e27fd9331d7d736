"""MathJax from the package that bundles it, so that formulas need no network.

Of its 15 MB only the component that reads TeX, its fonts and its extensions are copied.
"""

import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")


def copy_mathjax(app: Any, error: Exception | None) -> None:
    """Put it beside the other static files."""
    if error is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "mathjax"
    with as_file(files("sphinx-mathjax-offline") / "static" / "mathjax") as source:
        for part in PARTS:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            if (source / part).is_dir():
                shutil.copytree(source / part, target / part, dirs_exist_ok=True)
            else:
                shutil.copyfile(source / part, target / part)


def setup(app: Any) -> dict[str, bool]:
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    # Its menu would fetch more of MathJax when it is opened.
    app.config.mathjax3_config = {"options": {"enableMenu": False}}
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
