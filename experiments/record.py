"""Outcomes of runs, kept on disk as they come, and the tables made from them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd

Key = Mapping[str, str | int]
Outcome = Mapping[str, float]


class Record:
    """Outcomes of the runs of an experiment, in one JSON file that is rewritten after each.

    A run that is there already need not be done again, so that an interrupted experiment goes on
    where it was. Outcomes that were made with other settings are dropped.

    Args:
        path: the file; it need not exist.
        settings: a dataclass of all that the outcomes depend on.
    """

    def __init__(self, path: Path, settings: Any) -> None:
        if not is_dataclass(settings):
            raise TypeError(f"Expected settings in a dataclass, got {type(settings).__name__}")
        self.path = path
        self.settings = json.loads(json.dumps(asdict(settings)))  # as it reads after a round trip
        kept = json.loads(path.read_text()) if path.exists() else {}
        self._runs = kept["runs"] if kept.get("settings") == self.settings else []

    def __contains__(self, key: Key) -> bool:
        return any(all(run.get(name) == value for name, value in key.items()) for run in self._runs)

    def add(self, key: Key, outcome: Outcome) -> None:
        """Keep the outcome of the run with this key, and write the file."""
        if key in self:
            raise KeyError(f"Expected a run that is not there yet, got {dict(key)} again")
        self._runs.append({**key, **{name: float(value) for name, value in outcome.items()}})
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n  ".join(json.dumps(run) for run in self._runs)
        settings = json.dumps(self.settings)
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(f'{{"settings": {settings},\n "runs": [\n  {lines}\n]}}\n')
        unfinished.replace(self.path)

    def frame(self) -> pd.DataFrame:
        """A row for each run: its key and its outcome."""
        return pd.DataFrame(self._runs)


def mean_and_spread(
    frame: pd.DataFrame, by: str | Sequence[str], forms: Mapping[str, str]
) -> pd.DataFrame:
    """Mean ± standard deviation over runs, as text.

    Args:
        frame: a row for each run.
        by: the columns that name a line of the table, in the order of their first appearance.
        forms: column of a figure -> how to write it, like ``".4f"``.
    """
    groups = frame.groupby(by, sort=False)[list(forms)]
    mean, spread = groups.mean(), groups.std()

    def cell(mean: float, spread: float, form: str) -> str:
        if pd.isna(mean):
            return ""
        return f"{mean:{form}}" + ("" if pd.isna(spread) else f" ± {spread:{form}}")

    columns = {
        name: [cell(*pair, form) for pair in zip(mean[name], spread[name], strict=True)]
        for name, form in forms.items()
    }
    return pd.DataFrame(columns, index=mean.index)


def write_table(path: Path, title: str, note: str, table: pd.DataFrame) -> None:
    """Write a markdown page with a heading, a note (what was run, how often) and a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = table.reset_index().to_markdown(index=False)
    path.write_text(f"# {title}\n\n{note.strip()}\n\n{content}\n")
