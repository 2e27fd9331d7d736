"""Cost of the dynamic programme against its states and its columns: a picture."""

import importlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.problems import knapsack
from benchmarks.timing import Step
from constrained_core.fiber.planner import plan_fiber

__all__ = ["save_picture"]

COLUMNS, WEIGHTS = 32, (10, 30, 100, 300, 1000, 3000)
"""More states per column: the same columns, ever larger weights."""

LENGTHS, TOTAL, WEIGHT = (32, 64, 128, 256, 512), 100, 10
"""More columns, with about as many states each: the same sum of ever more weights."""


def _num_states(weights: np.ndarray, k: int) -> int:
    plan = plan_fiber(weights[None], np.array([k]), upper=np.ones(len(weights), dtype=int))
    return int(sum(plan.trellis.sizes))


def _milliseconds(step: Step, seconds: float) -> float:
    step()
    step()
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def _curve(axis: Axes, backend: str, problems: dict[int, tuple], seconds: float) -> None:
    """One line, and under it what it would be if cost were proportional to the abscissa."""
    module = importlib.import_module(f"benchmarks.{backend}_discrete_contests")
    sizes = np.array(list(problems))
    costs = [_milliseconds(module.cost_step(*problem), seconds) for problem in problems.values()]
    (line,) = axis.loglog(sizes, costs, "o-", label=backend)
    proportional = costs[-1] * sizes / sizes[-1]
    axis.loglog(sizes, proportional, ":", color=line.get_color(), label="proportional")


def save_picture(path: Path, backends: Sequence[str], seconds: float) -> None:
    """Measure and draw: log normaliser and gradient, batch of 8, float32."""
    by_states = [knapsack(COLUMNS, largest) for largest in WEIGHTS]
    by_columns = [(knapsack(n, WEIGHT)[0], TOTAL) for n in LENGTHS]
    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    for backend in backends:
        states = {_num_states(*problem): problem for problem in by_states}
        _curve(left, backend, states, seconds / 5)
        columns = {len(problem[0]): problem for problem in by_columns}
        _curve(right, backend, columns, seconds / 5)
    left.set(xlabel=f"states, in {COLUMNS} columns", ylabel="log normaliser and gradient, CPU ms")
    right.set(xlabel=f"columns, of at most {TOTAL + 1} states each")
    right.set_xticks(LENGTHS, map(str, LENGTHS), minor=False)
    right.set_xticks([], minor=True)
    for axis in (left, right):
        axis.legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
