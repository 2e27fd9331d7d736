"""Looks into the wheel and the source archive, and tries the wheel in empty environments.

``python tests/try_wheel.py dist`` after a build; ``make dist`` does both. Each extra is installed
alone: its package is imported and runs the examples of some docstrings, the other one says what to
install. The environments are made one after another in a temporary folder and removed.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"constrained_core", "pyro_constrained", "numpyro_constrained"}
CORE = ["constrained_core.groups", "constrained_core.sparse"]
EXTRAS = {
    "": (CORE, ["pyro_constrained", "numpyro_constrained"]),
    "pyro": ([*CORE, "pyro_constrained.distributions.normal"], ["numpyro_constrained"]),
    "numpyro": ([*CORE, "numpyro_constrained.distributions.normal"], ["pyro_constrained"]),
}
"""Of every extra: the modules whose examples run, and the packages that need another extra."""

EXAMPLES = """
import doctest, importlib, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    assert "site-packages" in module.__file__, module.__file__
    failed, tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed, name
    print(f"  {name}: {tried} lines of examples")
"""


def look_inside(wheel: Path, archive: Path) -> None:
    """Nothing is missing, and nothing else is there: no tests, data or outputs."""
    names = zipfile.ZipFile(wheel).namelist()
    sources = {
        str(path.relative_to(ROOT)) for name in PACKAGES for path in ROOT.glob(f"{name}/**/*.py")
    }
    sources |= {f"{name}/py.typed" for name in PACKAGES}
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == sources, f"not as in the packages: {sorted(inside ^ sources)}"
    assert any(name.endswith("licenses/LICENSE") for name in names), names
    with tarfile.open(archive) as files:
        archived = {name.partition("/")[2] for name in files.getnames()}
    beside = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"}
    assert sources | beside <= archived, f"not archived: {sorted((sources | beside) - archived)}"
    assert not {name.partition("/")[0] for name in archived} & {"tests", "data", "outputs"}
    print(f"{wheel.name}: {len(sources)} files; {archive.name}: {len(archived)}")


def try_out(wheel: Path, extra: str, folder: Path) -> None:
    """Install it into a new environment, with one extra or none, and run examples."""
    modules, others = EXTRAS[extra]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [python, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )

    def install(*packages: str) -> None:
        done = run(
            "-m", "pip", "install", "--quiet", *packages, "-c", str(ROOT / "constraints.txt")
        )
        assert done.returncode == 0, done.stderr

    if extra == "pyro":  # first, and exactly as pinned: see constraints.txt
        pins = (ROOT / "constraints.txt").read_text().splitlines()
        install(next(pin for pin in pins if pin.startswith("torch==")))
    print(f"constrained-distributions[{extra}]", flush=True)
    install(f"{wheel}[{extra}]" if extra else str(wheel))
    done = run("-c", EXAMPLES, *modules)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout, end="")
    for package in others:
        done = run("-c", f"import {package}")
        assert "pip install 'constrained-distributions[" in done.stderr, done.stderr
        print(f"  {done.stderr.strip().splitlines()[-1]}")


def main(folder: str) -> None:
    (wheel,), (archive,) = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
    look_inside(wheel.resolve(), archive)
    for extra in EXTRAS:
        with tempfile.TemporaryDirectory() as place:
            try_out(wheel.resolve(), extra, Path(place) / "venv")


if __name__ == "__main__":
    main(*sys.argv[1:])
