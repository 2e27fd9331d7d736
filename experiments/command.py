"""The command line that all experiments share."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.record import Record

FULL_RESULTS = Path(__file__).parent / "results"
SHORT_RESULTS = Path("outputs") / "experiments"


class Options(NamedTuple):
    """What was asked for.

    Attributes:
        is_short: a try of seconds; its figures mean nothing.
        only: run those methods only whose name contains this text.
        folder: where the results go.
    """

    is_short: bool
    only: str
    folder: Path

    def record(self, name: str, settings: object) -> Record:
        """The outcomes of experiment ``name`` so far, those made with the same settings."""
        return Record(self.folder / f"{name}.json", settings)

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those of the methods that were asked for."""
        return [name for name in names if self.only in name]


def parse(description: str | None, argv: Sequence[str] | None) -> Options:
    """Read ``--short`` or ``--full``, ``--only`` and ``--folder``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="the real thing (default)")
    mode.add_argument("--short", action="store_true", help="a try of seconds")
    parser.add_argument("--only", default="", help="methods whose name contains this text")
    parser.add_argument("--folder", type=Path, help="where results go")
    given = parser.parse_args(argv)
    default = SHORT_RESULTS if given.short else FULL_RESULTS
    return Options(given.short, given.only, given.folder or default)
