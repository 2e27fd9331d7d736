"""Outcomes survive an interruption, and are dropped when the settings change."""

from dataclasses import dataclass

import numpy as np
import pytest

from experiments.command import FULL_RESULTS, SHORT_RESULTS, parse
from experiments.record import Record, mean_and_spread, write_table


@dataclass(frozen=True)
class Settings:
    epochs: int = 3
    widths: tuple[int, ...] = (4, 5)


KEY = {"method": "ours", "seed": 0}


def test_a_record_is_read_back(tmp_path):
    path = tmp_path / "folder" / "record.json"
    Record(path, Settings()).add(KEY, {"error": np.float32(0.5)})
    record = Record(path, Settings())
    assert KEY in record and {"method": "ours", "seed": 1} not in record
    assert record.frame().to_dict("records") == [{**KEY, "error": 0.5}]
    with pytest.raises(KeyError, match="not there yet"):
        record.add(KEY, {"error": 1.0})


def test_other_settings_start_anew(tmp_path):
    path = tmp_path / "record.json"
    Record(path, Settings()).add(KEY, {"error": 0.5})
    assert KEY not in Record(path, Settings(epochs=4))
    with pytest.raises(TypeError, match="dataclass"):
        Record(path, {"epochs": 3})


def test_table_of_means_and_spreads(tmp_path):
    record = Record(tmp_path / "record.json", Settings())
    for seed, error in enumerate([1.0, 2.0, 3.0]):
        record.add({"method": "ours", "seed": seed}, {"error": error})
    record.add({"method": "a rival", "seed": 0}, {"error": 4.0})
    table = mean_and_spread(record.frame(), "method", {"error": ".1f"})
    assert table["error"].to_dict() == {"ours": "2.0 ± 1.0", "a rival": "4.0"}
    write_table(tmp_path / "table.md", "Errors", "Three seeds.", table)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "# Errors" and lines[2] == "Three seeds."
    assert lines[-2].startswith("| ours") and "2.0 ± 1.0" in lines[-2]


def test_options(tmp_path):
    assert parse("", []).folder == FULL_RESULTS
    short = parse("", ["--short", "--only", "our"])
    assert short.is_short and short.folder == SHORT_RESULTS
    assert short.chosen(["a rival", "ours"]) == ["ours"]
    assert parse("", ["--folder", str(tmp_path)]).folder == tmp_path
