"""What a release says of itself in several places is the same in all of them."""

import re
import tomllib

import pytest

import constrained_core
from tests.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OLDEST = ROOT / "constraints-oldest.txt"
VERSION = constrained_core.__version__


def requirements() -> list[str]:
    """Of the packages, with the extras that users install."""
    extras = PROJECT["project"]["optional-dependencies"]
    own = [extras[name] for name in ("pyro", "numpyro", "diagnostics")]
    return sum(own, PROJECT["project"]["dependencies"])


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.M))


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["project"]["dynamic"] and "version" not in PROJECT["project"]
    source = PROJECT["tool"]["setuptools"]["dynamic"]["version"]
    assert source == {"attr": "constrained_core.__version__"}
    for package in ("pyro_constrained", "numpyro_constrained"):
        framework = {"pyro_constrained": "pyro", "numpyro_constrained": "numpyro"}[package]
        pytest.importorskip(framework)
        assert pytest.importorskip(package).__version__ == VERSION


def test_citation_and_changelog_have_it():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(VERSION)}$", citation, re.M)
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text()
    license_name = PROJECT["project"]["license"]
    assert re.search(rf"^license: {re.escape(license_name)}$", citation, re.M)


def test_the_oldest_versions_are_the_floors():
    """Padded: 2.4 is 2.4.0. What ArviZ needs beside them is below an empty line."""
    ours = OLDEST.read_text().split("\n\n")[1]
    found = {name: version.split(".") for name, version in pins(ours).items()}
    found.pop("jaxlib")  # as jax
    floors = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in requirements())
    padded = {name: (floor.split(".") + ["0", "0"])[:3] for name, floor in floors.items()}
    assert found == padded


def test_the_table_of_versions_has_them():
    page = (ROOT / "docs" / "supported_versions.md").read_text()
    oldest, newest = pins(OLDEST.read_text()), pins((ROOT / "constraints.txt").read_text())
    for name in ("numpy", "scipy", "torch", "pyro-ppl", "jax", "numpyro", "arviz"):
        row = re.search(rf"^\| {name} \|(.*)$", page, re.M)
        assert row and oldest[name] in row[1] and newest[name] in row[1], name
