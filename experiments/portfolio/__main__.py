"""Portfolios of 20 shares under budget and sector neutrality: ``python -m experiments.portfolio``.

A small net forecasts mean and covariance of the returns of the next 21 trading days; each method
makes weights of the same forecast. The net of a window learns from the years before it only.
"""

import sys
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.command import parse
from experiments.portfolio.comparison import METHODS
from experiments.portfolio.learning import Arena, judge, run
from experiments.portfolio.market import load_market, sector_law, window_days
from experiments.portfolio.report import write_report
from experiments.portfolio.settings import Settings
from experiments.record import Record

NAME = "portfolio"


def make_arena(settings: Settings) -> Arena:
    """The market and its windows."""
    market = load_market()
    windows = [window_days(market, year, settings) for year in settings.first_years]
    return Arena(market, windows, settings)


def run_missing(record: Record, settings: Settings, names: Sequence[str]) -> None:
    """Run each method and seed that the record does not have yet."""
    arena, law = make_arena(settings), sector_law()
    equal = arena.track(np.full((len(arena.days), law.A.shape[1]), 1 / law.A.shape[1]))
    columns = [TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn()) as progress:
        for name in names:
            method = METHODS[name](law, settings)
            seeds = settings.seeds if method.learns else 1
            bar = progress.add_task(name, total=seeds * len(arena.windows))
            for seed in range(seeds):
                key = {"method": name, "seed": seed}
                if key in record:
                    progress.advance(bar, len(arena.windows))
                    continue
                start = time.perf_counter()
                weights, track = run(method, arena, seed, lambda bar=bar: progress.advance(bar))
                seconds = {"seconds": time.perf_counter() - start}
                record.add(key, judge(weights, track, equal, arena, method) | seconds)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Learn and trade what is missing, write the table and the figure; a row for each run."""
    options = parse(__doc__, argv)
    settings = Settings().shortened() if options.is_short else Settings()
    record = options.record(NAME, settings)
    run_missing(record, settings, options.chosen(list(METHODS)))
    frame = record.frame()
    write_report(options.folder, NAME, settings, frame)
    return frame


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
