"""Peak memory of one step in a process of its own, above that of the imports alone."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import Step

__all__ = ["peak_mib"]


def peak_mib(make: Callable[[], tuple[Step, Step]], which: int) -> tuple[float, float]:
    """Peak of the whole process and what of it the step added, in MiB.

    Args:
        make: makes the steps, ours and the rival's.
        which: 0 for ours, 1 for the rival.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (make, which))


def _peak(make: Callable[[], tuple[Step, Step]], which: int) -> tuple[float, float]:
    before = _resident()
    step = make()[which]
    for _ in range(3):
        step()
    return _resident(), _resident() - before


def _resident() -> float:
    """High-water mark of this process; that of ``getrusage`` is inherited from the parent."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
