"""Effective draws per second of ``FiberSampler`` on fibers too large for exact answers."""

import importlib
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from constrained_core import FiberSamplerWarning

__all__ = ["save_table"]

NUM_DRAWS, NUM_CHAINS = 1000, 4
NOTE = f"""{NUM_CHAINS} chains of {NUM_DRAWS} draws, {{day}}, 2 cores. Flows: 28 pairs of 8 stops of
a line, loads of its 7 links of {{load}} in all. Table: counts of 10 x 10 cells with {{total}} in
all, given the sums of rows and columns. Rates are uneven: gamma of shape 1. ESS: of the worst
variable. First: the first run, which JAX compiles; seconds: of the second.
"""


class Problem(NamedTuple):
    """Poisson variables whose sums are known."""

    rate: np.ndarray
    A: np.ndarray
    k: np.ndarray


def line() -> Problem:
    """Flows between 8 stops of a line, whose 7 links are counted."""
    first, last = np.triu_indices(8, 1)
    link = np.arange(7)[:, None]
    return _drawn(((first <= link) & (link < last)).astype(int), 12.0)


def table() -> Problem:
    """Ten rows and ten columns."""
    cell = np.arange(100)
    rows, columns = np.eye(10, dtype=int)[:, cell // 10], np.eye(10, dtype=int)[:, cell % 10]
    return _drawn(np.concatenate([rows, columns]), 30.0)


def _drawn(A: np.ndarray, mean: float) -> Problem:
    rng = np.random.default_rng(0)
    rate = mean * rng.gamma(1.0, size=A.shape[1]) + 0.1
    return Problem(rate, A, A @ rng.poisson(rate))


PROBLEMS: dict[str, Callable[[], Problem]] = {"7 x 28 flows": line, "10 x 10 table": table}


def save_table(path: Path, backends: Sequence[str]) -> None:
    """Measure and write."""
    rows = [_measured(name, backend) for name in PROBLEMS for backend in backends]
    note = NOTE.format(day=date.today(), load=line().k.sum(), total=int(table().k.sum()) // 2)
    content = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4g")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# FiberSampler\n\n{note}\n{content}\n")


def _measured(name: str, backend: str) -> dict[str, Any]:
    module = importlib.import_module(f"benchmarks.{backend}_discrete_contests")
    run, diagnostics = module.fiber_runs(*PROBLEMS[name](), NUM_DRAWS, NUM_CHAINS)
    first, seconds = _timed(run), _timed(run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FiberSamplerWarning)
        found = diagnostics()
    ess = np.nanmin(found.ess)
    return {
        "fiber": name,
        "backend": backend,
        "ESS per second": ess / seconds,
        "seconds": seconds,
        "ESS": ess,
        "worst R-hat": np.nanmax(found.r_hat),
        "first, s": first,
    }


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
