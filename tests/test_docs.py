"""The examples of the site: they run in both backends and print what the pages say.

An example is a file of ``docs/snippets``; what a line prints stands behind it as a comment, numbers
to the digits that are worth reading. All of a backend run in one process, in single precision, as a
reader's would: the settings of these tests are not for them.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SNIPPETS = ROOT / "docs" / "snippets"
PAGES = {path: path.read_text() for path in (ROOT / "docs").rglob("*.md")}
BACKENDS = "pyro", "numpyro"
COMPILE_LONG = "bernoulli", "fiber_sampler", "field", "gmrf", "large_n", "reparam", "sparse"
NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e[-+]?\d+)?|\binf\b")

RUN = """
import contextlib, io, json, sys, traceback, warnings
from pathlib import Path

warnings.simplefilter("ignore")
warnings.filterwarnings("default", module="__main__")
printed = {}
for path in map(Path, sys.argv[1:]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__"})
        except Exception:
            print(traceback.format_exc())
    printed[str(path)] = out.getvalue().splitlines()
    if "jax" in sys.modules:  # a setting of the whole process
        sys.modules["jax"].config.update("jax_enable_x64", False)
print(json.dumps(printed))
"""


def expected(source: str) -> Iterator[str]:
    """The comments behind the calls of ``print``, in the order of the lines."""
    lines = source.splitlines()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    for node in sorted(nodes, key=lambda node: node.lineno):
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if is_call and getattr(node.value.func, "id", "") == "print":
            code, mark, comment = lines[node.end_lineno - 1].partition("  # ")
            assert mark, f"a print without what it prints: {code}"
            yield comment


def agrees(said: str, printed: str) -> bool:
    """The same words, and the same numbers to the digits that are said."""
    words = ["".join(NUMBER.sub("#", text).split()) for text in (said, printed)]
    numbers = [NUMBER.findall(text) for text in (said, printed)]
    return words[0] == words[1] and all(
        one == other or abs(float(one) - float(other)) <= 0.6 * 0.1 ** _decimals(one)
        for one, other in zip(*numbers, strict=True)
    )


def _decimals(number: str) -> int:
    return len(number.partition("e")[0].partition(".")[2])


def faults(paths: list[Path]) -> list[str]:
    """The examples, run in one process, that do not print what they say."""
    inherited = {name: v for name, v in os.environ.items() if name != "JAX_ENABLE_X64"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, sorted(paths))],
        env=inherited | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "constrained" not in done.stderr, f"a warning of ours:\n{done.stderr}"
    found = []
    for path, printed in json.loads(done.stdout.splitlines()[-1]).items():
        said = list(expected(Path(path).read_text()))
        if len(said) != len(printed) or not all(map(agrees, said, printed)):
            found.append("\n".join([path, "said:", *said, "printed:", *printed]))
    return found


def test_snippets_of_pyro():
    pytest.importorskip("torch")
    assert not faults(list((SNIPPETS / "pyro").glob("*.py")))


def test_snippets_of_numpyro():
    pytest.importorskip("jax")
    paths = (SNIPPETS / "numpyro").glob("*.py")
    assert not faults([path for path in paths if path.stem not in COMPILE_LONG])


@pytest.mark.slow
def test_snippets_of_numpyro_that_compile_for_long():
    pytest.importorskip("jax")
    assert not faults([SNIPPETS / "numpyro" / f"{name}.py" for name in COMPILE_LONG])


@pytest.mark.parametrize("name", ["cvxpylayers", "hierarchicalforecast"])
def test_other_tools(name: str):
    """The answers of others that the pages compare with, where they are installed."""
    pytest.importorskip(name)
    assert not faults(list((SNIPPETS / "other").glob(f"{name}_*.py")))


def test_snippets_are_twins():
    """Both backends have the same examples, but for those that a page shows of one alone."""
    alone = re.findall(r"\{twins\} (\w+)\s*\n:only: (\w+)", "\n".join(PAGES.values()))
    names = {
        backend: {path.stem for path in (SNIPPETS / backend).glob("*.py")} for backend in BACKENDS
    }
    for backend, other in product(BACKENDS, BACKENDS):
        only = {name for name, which in alone if which == backend}
        assert names[backend] - only <= names[other]


def test_snippets_are_shown():
    shown = set(re.findall(r"\{twins\} (\w+)", "\n".join(PAGES.values())))
    assert shown == {path.stem for path in SNIPPETS.glob("*pyro/*.py")}


def test_numbers_are_compared_to_the_digits_that_are_said():
    assert agrees("tensor([1.50, 3.00])", "tensor([1.5000, 3.0049])")
    assert not agrees("[1.50 3.00]", "[1.5000 3.0100]")
    assert not agrees("[1.5]", "[1.5 2.0]")
    assert not agrees("True", "False")


def test_messages_are_found_in_the_sources():
    """The catalogue of errors reads the words of the core; a message of each kind is in it."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        catalogue = pytest.importorskip("error_catalogue", exc_type=ImportError)
    finally:
        sys.path.pop(0)
    messages = list(catalogue.Sources().messages())
    assert {message.kind for message in messages} == set(catalogue.TITLES)
    parts = dict(catalogue.parted(message.text) for message in messages)
    assert parts["k: expected finite values, got …"] == "Check how k is made."
    assert len(parts) > 80
