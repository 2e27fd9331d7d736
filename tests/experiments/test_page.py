"""The page of experiments shows what full runs gave."""

import re

import pytest

from experiments.page import PAGE, refreshed

RESULTS = """\
| method   | error       | seconds |
|:---------|:------------|--------:|
| ours     | 0.10 ± 0.02 |       3 |
| theirs   | 0.20        |      40 |
"""


def test_page_is_up_to_date():
    page = PAGE.read_text()
    assert refreshed(page) == page, "run `python -m experiments.page`"


def test_every_experiment_has_a_table_there():
    names = re.findall(r"^EXPERIMENTS := (.+)$", (PAGE.parents[1] / "Makefile").read_text(), re.M)
    page = PAGE.read_text()
    for name in names[0].split():
        assert f"<!-- table {name}:" in page


def test_columns_are_chosen(tmp_path):
    (tmp_path / "runs.md").write_text(f"# Runs\n\nTwo of them.\n\n{RESULTS}")
    page = "Before.\n\n<!-- table runs: method; error -->\nold\n<!-- end -->\n\nAfter.\n"
    found = refreshed(page, tmp_path)
    assert "seconds" not in found and "old" not in found
    assert "0.10 ± 0.02" in found and "0.20" in found
    assert found.startswith("Before.") and found.endswith("After.\n")
    assert refreshed(found, tmp_path) == found
    page = "<!-- table runs: method where seconds = 40 -->\n<!-- end -->\n"
    assert "theirs" in refreshed(page, tmp_path) and "ours" not in refreshed(page, tmp_path)
    with pytest.raises(KeyError, match="missing"):
        refreshed("<!-- table runs: method; missing -->\n<!-- end -->\n", tmp_path)
