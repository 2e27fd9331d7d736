"""``{twins} NAME``: the same example in both backends, as tabs.

The examples are ``snippets/pyro/NAME.py`` and ``snippets/numpyro/NAME.py``, which
``tests/test_docs.py`` runs. What a line prints stands behind it as a comment.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

BACKENDS = {"pyro": "Pyro", "numpyro": "NumPyro"}

PAGE = """
:::::{{tab-set}}
:sync-group: backend
{tabs}
:::::
"""
TAB = """
::::{{tab-item}} {title}
:sync: {backend}
```{{literalinclude}} /snippets/{backend}/{name}.py
:language: python
```
::::
"""


class Twins(SphinxDirective):
    """Tabs of both backends; ``:only:`` for what one of them alone has."""

    required_arguments = 1
    option_spec = {"only": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        only = self.options.get("only")
        backends = [only] if only else list(BACKENDS)
        for backend in backends:
            path = Path(self.env.srcdir) / "snippets" / backend / f"{name}.py"
            if not path.is_file():
                raise self.error(f"twins: expected the example {path}, which is not there.")
        tabs = (TAB.format(title=BACKENDS[b], backend=b, name=name) for b in backends)
        return self.parse_text_to_nodes(PAGE.format(tabs="".join(tabs)))


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("twins", Twins)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
