"""Packages as their sources say, read and not imported."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "ROOT",
    "classes",
    "exported",
    "has_member",
    "imported",
    "lineage",
    "methods",
    "parameters",
    "sources",
    "surface",
]

ROOT = Path(__file__).parent.parent


@cache
def sources(package: str) -> dict[str, ast.Module]:
    """Syntax trees by path inside the package."""
    folder = ROOT / package
    paths = sorted(folder.rglob("*.py"))
    return {path.relative_to(folder).as_posix(): ast.parse(path.read_text()) for path in paths}


@cache
def classes(package: str) -> dict[str, ast.ClassDef]:
    nodes = (node for tree in sources(package).values() for node in tree.body)
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def lineage(package: str, name: str) -> Iterator[ast.ClassDef]:
    """A class, then those of its ancestors that are in the package."""
    node = classes(package).get(name)
    if node is not None:
        yield node
        for base in node.bases:
            yield from lineage(package, ast.unparse(base))


def exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            return ast.literal_eval(node.value)
    return []


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """Public methods and properties, and the constructor."""
    functions = (part for part in node.body if isinstance(part, ast.FunctionDef))
    return {f.name: f for f in functions if f.name == "__init__" or not f.name.startswith("_")}


def attributes(node: ast.ClassDef) -> set[str]:
    """What methods assign to ``self``."""
    parts = (part for part in ast.walk(node) if isinstance(part, ast.Attribute))
    return {
        part.attr
        for part in parts
        if isinstance(part.ctx, ast.Store) and ast.unparse(part.value) == "self"
    }


def has_member(package: str, name: str, member: str) -> bool:
    return any(member in {*methods(c), *attributes(c)} for c in lineage(package, name))


def parameters(function: ast.FunctionDef) -> list[str]:
    """``name=default`` of every parameter, without annotations; ``*`` before keywords."""
    for part in ast.walk(function.args):
        if isinstance(part, ast.arg):
            part.annotation = None
    return ast.unparse(function.args).replace("torch.Size()", "()").split(", ")


def summary(node: ast.FunctionDef | ast.ClassDef) -> str:
    """First sentence of the docstring, in the words of both frameworks."""
    sentence = re.split(r"(?<=\.)\s|\n\n", ast.get_docstring(node) or "")[0]
    words = " ".join(sentence.split())
    return words.replace("tensor", "array").replace("poutine", "handlers")


class Facet(NamedTuple):
    """What twins have in common about one public object."""

    kind: str
    parameters: list[str]
    summary: str


def facet(node: ast.FunctionDef | ast.ClassDef) -> Facet:
    if isinstance(node, ast.ClassDef):
        return Facet("class", [], summary(node))
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    kind = "property" if any("property" in name for name in decorators) else "function"
    own = [parameter for parameter in parameters(node) if parameter != "key"]
    return Facet("classmethod" if "classmethod" in decorators else kind, own, summary(node))


def surface(package: str, path: str) -> dict[str, Facet]:
    """Public classes and functions of a module, and ``Class.method``."""
    found = {}
    for node in sources(package)[path].body:
        is_definition = isinstance(node, ast.ClassDef | ast.FunctionDef)
        if is_definition and not node.name.startswith("_"):
            found[node.name] = facet(node)
            parts = methods(node) if isinstance(node, ast.ClassDef) else {}
            found |= {f"{node.name}.{name}": facet(part) for name, part in parts.items()}
    return found


def module_name(package: str, path: str) -> str:
    return f"{package}/{path}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Modules that are imported, absolutely."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


@cache
def imported(package: str) -> dict[str, set[str]]:
    names = {path: module_name(package, path) for path in sources(package)}
    known = set(names.values())
    return {names[path]: set(imports(tree, known)) for path, tree in sources(package).items()}
