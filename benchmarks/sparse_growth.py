"""Cost of a field's density and its gradient against its size, beside a bare factorisation."""

import importlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import sparse_problems
from benchmarks.timing import Step

__all__ = ["save_growth", "slope"]

SIDES = (40, 60, 90, 135)
"""Of a square lattice with one sum: the structure is the same, the number of nodes grows."""

LEAST = 3
"""Runs of each; the quickest counts."""


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The power of the size that the cost grows by, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def _milliseconds(step: Step) -> float:
    step()  # which chooses an order for the pattern, kept for later values
    times = []
    for _ in range(LEAST):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def save_growth(folder: Path, backends: Sequence[str]) -> None:
    """Measure, draw ``sparse_growth.png`` and write its table."""
    costs: dict[str, list[float]] = {}
    for side in SIDES:
        problem = sparse_problems.lattice(side)
        bare = None
        for backend in backends:
            module = importlib.import_module(f"benchmarks.{backend}_sparse_contests")
            for name in ("density", "gradient"):
                ours, bare = module.field_steps(problem, name)
                costs.setdefault(f"{backend}, {name}", []).append(_milliseconds(ours))
        assert bare is not None
        costs.setdefault("SuperLU of Q alone", []).append(_milliseconds(bare))
    sizes = np.square(SIDES)
    figure = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
    axis = figure.subplots()
    lines = [
        "# Growth with the number of nodes",
        "",
        "Square lattices with one sum, new values of Q at every step, CPU milliseconds. Slope: the "
        "power of the number of nodes that the cost grows by.",
        "",
        "| nodes | " + " | ".join(map(str, sizes)) + " | slope |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for name, times in costs.items():
        power = slope(list(sizes), times)
        axis.loglog(sizes, times, "o-", label=f"{name}: slope {power:.2f}")
        cells = [f"{cost:.3g}" for cost in times]
        lines.append(f"| {name} | " + " | ".join([*cells, f"{power:.2f}"]) + " |")
    axis.set(xlabel="nodes of a square lattice with one sum", ylabel="CPU ms")
    axis.legend()
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "sparse_growth.png")
    (folder / "sparse_growth.md").write_text("\n".join([*lines, ""]))
