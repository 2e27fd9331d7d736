"""README.md and docs: their examples run, and what they point at exists."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|\b(?:src|href)=\"([^\"]+)\"")


def fences(language: str, page: str = README) -> list[str]:
    return [body for _, name, body in FENCE.findall(page) if name == language]


EXAMPLES = [code for page in PAGES.values() for code in fences("python", page)]


def prose(page: str = README) -> str:
    """The text without fenced code."""
    return FENCE.sub("", page)


def slug(heading: str) -> str:
    """The anchor of a heading on code hosts."""
    words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return words.strip().replace(" ", "-")


def test_there_are_examples():
    assert fences("python")


def is_of_jax(code: str) -> bool:
    return bool(re.search(r"^\s*(?:import|from) (?:jax|numpyro)", code, re.MULTILINE))


RUN_EACH = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path, run_name='__main__')"


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_examples(framework: str, tmp_path: Path):
    """Every block runs as pasted into a new file, and warns of nothing that it says.

    In single precision, as a reader's would: the setting of these tests is not for it. Blocks of
    one framework share a process, which imports it once, but no names.
    """
    pytest.importorskip(framework)
    paths = []
    for number, code in enumerate(EXAMPLES):
        if is_of_jax(code) == (framework == "jax"):
            paths.append(tmp_path / f"example_{number}.py")
            paths[-1].write_text(code)
    assert paths
    done = subprocess.run(
        [sys.executable, "-c", RUN_EACH, *paths],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for place in ("constrained", "example_"):
        assert place not in done.stderr, f"a warning:\n{done.stderr}"


def environment() -> dict[str, str]:
    """That of a reader, who sees the packages and all their warnings."""
    ours = ("JAX_ENABLE_X64", "XLA_FLAGS")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    own = {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "PYTHONWARNINGS": "default"}
    return inherited | own


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))
    commands = "\n".join([*fences("sh"), *fences("bash"), *fences("console"), *fences("shell")])
    inline = re.findall(r"`([^`\n]+)`", prose())
    named = re.findall(r"^[$ ]*make +([a-z][\w-]*)", "\n".join([commands, *inline]), re.MULTILINE)
    assert set(named) <= targets
    assert {"demo", "test"} <= set(named), "the two commands of a newcomer"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_local_links_exist(page: Path):
    text = prose(PAGES[page])
    targets = {a or b for a, b in LINK.findall(text)}
    anchors = {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    for target in targets:
        path, _, anchor = unquote(target).partition("#")
        if re.match(r"[a-z][a-z+.-]*:", target):
            continue
        assert (page.parent / path).exists(), target
        assert path or anchor in anchors, target


def test_pictures_are_in_the_repository():
    """Not among what is ignored or fetched from elsewhere."""
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)", prose())
    pictures += re.findall(r"<img[^>]*src=\"([^\"]+)\"", prose())
    local = [picture for picture in pictures if not re.match(r"https?:", picture)]
    assert local, "one picture, at least"
    for picture in local:
        assert not picture.startswith(("outputs/", "data/", "/")), picture
        assert (ROOT / picture).is_file(), picture
