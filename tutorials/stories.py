"""Run the stories, or build their notebooks: ``python -m tutorials.stories run`` or ``build``.

A story is a script in percent format, `tutorials/BACKEND/NN_name.py`. Its notebook with outputs,
`docs/notebooks/BACKEND/NN_name.ipynb`, is built from it in full, and says nothing of where or when.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("pyro", "numpyro")
SHORT = "SHORT"
"""The environment variable that a story reads: a few steps, to see that it runs."""

LARGEST = 400_000
"""Bytes of a notebook: it must open at once on a repository's page."""

PRIVATE = re.compile(
    rf"{re.escape(str(ROOT))}|{re.escape(sys.prefix)}|{re.escape(str(Path.home()))}/|0x[0-9a-f]{{6,}}"
)
"""What no output may hold: folders of this machine, and addresses in its memory."""


def scripts(backends: tuple[str, ...] = BACKENDS, number: str = "") -> list[Path]:
    """The scripts whose names begin with ``number``; all without one."""
    found = [sorted((ROOT / "tutorials" / name).glob(f"{number}*.py")) for name in backends]
    return [script for of_backend in found for script in of_backend]


def notebook_path(script: Path) -> Path:
    return ROOT / "docs" / "notebooks" / script.parent.name / f"{script.stem}.ipynb"


def environment(**variables: str) -> dict[str, str]:
    """That of a reader who runs the packages beside this folder, on one core."""
    one_thread = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
    ours = SHORT, "JAX_ENABLE_X64"  # the second is a setting of the tests
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return inherited | one_thread | {"PYTHONPATH": str(ROOT)} | variables


def cells(script: Path) -> NotebookNode:
    """The notebook of a script, not run; its bytes depend on the script alone."""
    notebook = jupytext.reads(script.read_text(), fmt="py:percent")
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    for i, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{i:02d}", {}
    return notebook


def execute(notebook: NotebookNode) -> NotebookNode:
    """Run it in full, in a folder of its own, and keep what its cells put out."""
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=1200,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute(
            env=environment(
                MPLBACKEND="module://matplotlib_inline.backend_inline",
                PYTHONWARNINGS="ignore:IProgress not found",  # a page has no widgets
            )
        )
    notebook.metadata.language_info = {"name": "python"}  # the kernel adds its version
    return notebook


def build(script: Path) -> Path:
    """Write the executed notebook, unless it says something that no reader should see."""
    text = nbformat.writes(execute(cells(script))) + "\n"
    path = notebook_path(script)
    if private := PRIVATE.search(text):
        raise ValueError(f"Expected outputs that are the same anywhere, got {private[0]!r}: {path}")
    if len(text) > LARGEST:
        raise ValueError(f"Expected at most {LARGEST} bytes, got {len(text)}: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(script: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a story as a reader would, who has copied the file, without windows."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, script],
            cwd=folder,
            env=environment(MPLBACKEND="agg", **variables),
            capture_output=True,
            text=True,
        )


def _run_all(chosen: list[Path], jobs: int, variables: dict[str, str]) -> int:
    """Print what each story prints when it ends, and say which failed."""
    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        for script, done in zip(
            chosen, pool.map(lambda s: run(s, **variables), chosen), strict=True
        ):
            print(f"--- {script.relative_to(ROOT)}\n{done.stdout}", flush=True)
            if done.returncode:
                print(done.stderr, flush=True)
                failed.append(script.name)
    print(
        f"{len(chosen) - len(failed)} of {len(chosen)} stories ran"
        + "".join(f"\nfailed: {f}" for f in failed)
    )
    return len(failed)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["run", "build"])
    parser.add_argument("--story", default="", metavar="02", help="one story")
    parser.add_argument("--backend", choices=BACKENDS, help="one backend")
    parser.add_argument("--short", action="store_true", help="run: a few steps of each")
    parser.add_argument("--jobs", type=int, default=2, help="run: how many at once")
    options = parser.parse_args(argv)
    chosen = scripts((options.backend,) if options.backend else BACKENDS, options.story)
    if not chosen:
        parser.error(f"there is no story {options.story!r}")
    if options.what == "run":
        return _run_all(chosen, options.jobs, {SHORT: "1"} if options.short else {})
    for script in chosen:
        start = time.perf_counter()
        path = build(script)
        size, seconds = path.stat().st_size / 1e3, time.perf_counter() - start
        print(f"{path.relative_to(ROOT)}  {size:.0f} kB  {seconds:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
