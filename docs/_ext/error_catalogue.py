"""``{error-catalogue}``: every error message with its remedy, read from the sources.

A message says what was expected, what came, and, after a semicolon, what to do: the page is made of
these words and cannot grow stale. What varies in a message is shown as an ellipsis.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("constrained_core", "pyro_constrained", "numpyro_constrained")
TITLES = {
    "ConstraintError": "Shapes, types and arguments",
    "ParameterError": "Values that make no law",
    "InfeasibleConstraintError": "No point satisfies A x = k",
    "IntractableConstraintError": "Too large for an exact answer",
    "UnboundedSupportError": "Infinitely many points",
    "NotImplementedError": "What a law does not have",
    "ImportError": "A package is missing",
    "warning": "Warnings",
}
ALIASES = {
    "TensorParameterError": "ParameterError",
    "NoBaseLawError": "NotImplementedError",
    "FiberSamplerWarning": "warning",
}


class Message(NamedTuple):
    kind: str
    text: str
    module: str


class Sources:
    """The texts of the packages: constants, functions that return a text, and what is raised."""

    def __init__(self) -> None:
        self.trees = {
            path.relative_to(ROOT): ast.parse(path.read_text())
            for package in PACKAGES
            for path in sorted((ROOT / package).rglob("*.py"))
        }
        self.constants: dict[str, ast.expr] = {}
        self.functions: dict[str, list[ast.expr]] = {}
        for tree in self.trees.values():
            for node in tree.body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    self.constants.setdefault(node.targets[0].id, node.value)
                if isinstance(node, ast.FunctionDef):
                    returned = [n.value for n in ast.walk(node) if isinstance(n, ast.Return)]
                    self.functions.setdefault(node.name, [r for r in returned if r is not None])

    def texts(self, node: ast.expr) -> Iterator[str]:
        """The messages that an expression can be."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(self._part(value) for value in node.values)
        elif isinstance(node, ast.Name) and node.id in self.constants:
            yield from self.texts(self.constants[node.id])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for returned in self.functions.get(node.func.id, ()):
                yield from self.texts(returned)

    def _part(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        inner = node.value if isinstance(node, ast.FormattedValue) else node
        if isinstance(inner, ast.Name) and inner.id.isupper():
            return next(self.texts(inner), "…")
        return "…"

    def messages(self) -> Iterator[Message]:
        """All of them, in the order of the sources."""
        for path, tree in self.trees.items():
            for node in ast.walk(tree):
                call = node.exc if isinstance(node, ast.Raise) else None
                call = node.value if isinstance(node, ast.Return) else call
                call = node if _is_warning(node) else call
                if not isinstance(call, ast.Call) or not call.args:
                    continue
                kind = "warning" if _is_warning(call) else getattr(call.func, "id", "")
                kind = ALIASES.get(kind, kind)
                if kind not in TITLES:
                    continue
                for text in self.texts(call.args[0]):
                    yield Message(kind, text, ".".join(path.with_suffix("").parts))

    def requirements(self) -> Iterator[tuple[str, str]]:
        """What is asked of entries of parameters, and the remedies."""
        for value in self.constants.values():
            is_one = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Requirement"
            if is_one and isinstance(value, ast.Call):
                expected, remedy = (next(self.texts(argument)) for argument in value.args)
                yield expected, remedy


def _is_warning(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "warn"


def parted(text: str) -> tuple[str, str]:
    """The message up to its last semicolon, and the remedy after it."""
    text = re.sub(r"(…\s*)+", "… ", text).strip().replace("… ,", "…,").replace("… ;", "…;")
    text = re.sub(r"… ([.)\]:'])", r"…\1", text)
    head, found, remedy = text.rpartition("; ")
    if not found:
        return text.rstrip("."), ""
    return head, remedy[:1].upper() + remedy[1:].rstrip(".") + "."


class ErrorCatalogue(SphinxDirective):
    """A section for each kind of error, each message with its remedy."""

    def run(self) -> list[nodes.Node]:
        sources = Sources()
        for path in sources.trees:
            self.env.note_dependency(str(ROOT / path))
        found: dict[str, dict[str, str]] = {kind: {} for kind in TITLES}
        for message in sources.messages():
            head, remedy = parted(message.text)
            if len(head) > 12:  # else nothing of it is known here
                found[message.kind].setdefault(head, remedy)
        for expected, remedy in sources.requirements():
            head = f"…: expected {expected}, got …"
            found["ParameterError"].setdefault(head, remedy[:1].upper() + remedy[1:] + ".")
        return [self._section(kind, messages) for kind, messages in found.items() if messages]

    def _section(self, kind: str, messages: dict[str, str]) -> nodes.Node:
        name = "" if kind == "warning" else f" ({kind})"
        section = nodes.section(ids=[nodes.make_id(TITLES[kind])])
        section += nodes.title(text=TITLES[kind] + name)
        entries = nodes.definition_list(classes=["errors"])
        for head in sorted(messages, key=lambda text: text.lstrip("… :").lower()):
            item = nodes.definition_list_item()
            item += nodes.term("", "", nodes.literal(text=head))
            remedy = messages[head] or "Give what is expected."
            item += nodes.definition("", nodes.paragraph(text=remedy))
            entries += item
        section += entries
        return section


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("error-catalogue", ErrorCatalogue)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
