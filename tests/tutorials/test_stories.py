"""Stories: what a reader copies runs, and what a reader sees on a web page is what it makes.

The stories run in full when their notebooks are built (`make notebooks`); here in their short mode.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from tutorials.stories import (
    BACKENDS,
    LARGEST,
    PRIVATE,
    ROOT,
    SHORT,
    cells,
    notebook_path,
    run,
    scripts,
)

SCRIPTS = scripts()
STEMS = sorted({script.stem for script in SCRIPTS})
LAST = "## What to try next"
LIBRARY = {"pyro": "pyro_constrained", "numpyro": "numpyro_constrained"}
OUR_FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {
    *LIBRARY.values(),
    "constrained_core",
}

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: f"{p.parent.name}-{p.stem}")


def headings(script: Path) -> list[str]:
    prose = [cell.source for cell in cells(script).cells if cell.cell_type == "markdown"]
    return re.findall(r"^#+ .+$", "\n".join(prose), re.MULTILINE)


def imported(script: Path) -> set[str]:
    """Top-level packages that a script imports."""
    names = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@each_script
def test_runs_in_short_mode(script: Path):
    pytest.importorskip(script.parent.name)
    done = run(script, **{SHORT: "1"})
    assert done.returncode == 0, done.stderr
    assert not re.search("[Ww]arning", done.stderr), done.stderr


@each_script
def test_notebook_is_that_of_the_script(script: Path):
    """The same cells; each piece of code was run, in order, and none failed or warned."""
    path = notebook_path(script)
    assert path.is_file(), f"make notebooks STORY={script.stem[:2]} BACKEND={script.parent.name}"
    text = path.read_text()
    notebook, expected = nbformat.reads(text, as_version=4), cells(script)
    nbformat.validate(notebook)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in expected.cells
    ], f"make notebooks STORY={script.stem[:2]} BACKEND={script.parent.name}"
    assert notebook.metadata == expected.metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output
    assert len(text.encode()) <= LARGEST
    assert not PRIVATE.search(text)


@each_script
def test_form(script: Path):
    """Short enough to read, complete enough to copy, and it says how to go on."""
    assert len(script.read_text().splitlines()) <= 150
    assert not imported(script) & OUR_FOLDERS, "a story stands alone"
    other = {*LIBRARY.values()} - {LIBRARY[script.parent.name]}
    assert not imported(script) & other
    assert LIBRARY[script.parent.name] in imported(script)
    notebook = cells(script)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert notebook.cells[-1].cell_type == "markdown" and notebook.cells[-1].source.startswith(LAST)


@pytest.mark.parametrize("stem", STEMS)
def test_both_backends_tell_the_same_story(stem: str):
    ours, theirs = (ROOT / "tutorials" / backend / f"{stem}.py" for backend in BACKENDS)
    assert headings(ours) == headings(theirs)


def test_every_notebook_has_a_script():
    there = set(ROOT.glob("docs/notebooks/*/*.ipynb"))
    assert there == {notebook_path(script) for script in SCRIPTS}
