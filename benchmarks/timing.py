"""Interleaved timing: every rival runs in turn in one process, and medians are compared."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Contest", "Row", "measure"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Contest:
    """One line of the table: a step of ours beside the step it is compared with.

    Attributes:
        law: what is measured.
        size: its size, in words.
        rival: name of the baseline.
        make: makes the two steps, ours first, so that only one contest is in memory at a time.
        promise: the promised ratio, or None.
        limit_ms: the promised time of ours, or None.
    """

    law: str
    size: str
    rival: str
    make: Callable[[], tuple[Step, Step]]
    promise: float | None = None
    limit_ms: float | None = None


@dataclass(frozen=True)
class Row:
    """A measured contest: medians in milliseconds and the median of the ratios, pair by pair."""

    contest: Contest
    ours_ms: float
    rival_ms: float
    ratio: float

    @property
    def is_kept(self) -> bool:
        """Whether nothing promised is missed."""
        promise, limit = self.contest.promise, self.contest.limit_ms
        return (promise is None or self.ratio <= promise) and (
            limit is None or self.ours_ms <= limit
        )


def measure(contest: Contest, seconds: float, least: int = 5) -> Row:
    """Time the two steps in turn for about ``seconds``, after a warm-up."""
    ours, rival = contest.make()
    for step in (ours, rival, ours, rival):
        step()
    pairs: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(pairs) < least or time.perf_counter() - start < seconds:
        pairs.append((_timed(ours), _timed(rival)))
    return _row(contest, pairs)


def _row(contest: Contest, pairs: Sequence[tuple[float, float]]) -> Row:
    ours, rival = zip(*pairs, strict=True)
    ratio = median(a / b for a, b in pairs)
    return Row(contest, 1e3 * median(ours), 1e3 * median(rival), ratio)


def _timed(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
