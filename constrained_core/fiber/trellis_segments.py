"""Runs of columns whose tables are of similar sizes, so that padding them to one costs little."""

import numpy as np

__all__ = ["first_values", "is_worth_offsets", "segment_ends"]

MAX_SEGMENTS = 8
"""Each segment is compiled by itself, in about half a second."""

LEAST_GAIN = 50_000
"""Entries that another segment has to save at least, a millisecond or two per pass; and a tenth of
what can be reached."""

MAX_CUTS = 300
"""Places at most where a segment may end."""


def is_worth_offsets(narrow: int, wide: int) -> bool:
    """Whether tables that begin with the first value of every state, ``narrow`` entries of each,
    are better than those that begin with 0, ``wide`` entries: weights then have to be gathered."""
    return 3 * narrow <= 2 * wide


def first_values(source: np.ndarray, value: np.ndarray, num_sources: int) -> np.ndarray:
    """The first value of every source of transitions; zeros where tables would hardly become
    narrower. Every source has a transition."""
    width = int(value.max(initial=-1)) + 1
    first = np.full(num_sources, width, dtype=np.int32)
    np.minimum.at(first, source, value)
    narrow = int((value - first[source]).max(initial=-1)) + 1
    return first if is_worth_offsets(narrow, width) else np.zeros_like(first)


def segment_ends(heights: np.ndarray, widths: np.ndarray) -> list[int]:
    """Where segments end that make the padded tables small, by dynamic programming.

    Args:
        heights: ``(q,)`` number of states of every table.
        widths: ``(q,)`` number of entries of each state.

    Returns:
        Numbers of columns, ascending; the last one is q.
    """
    q = len(heights)
    cuts = np.unique(np.linspace(0, q, min(q, MAX_CUTS) + 1).astype(int))
    cost = _costs(heights, widths, cuts)
    totals, begins = [cost[0]], [np.zeros(len(cuts), dtype=int)]
    for _ in range(1, MAX_SEGMENTS):
        with_one_more = totals[-1][:, None] + cost
        begins.append(with_one_more.argmin(axis=0))
        totals.append(with_one_more.min(axis=0))
    reached = np.array([total[-1] for total in totals])
    price = max(LEAST_GAIN, reached.min() / 10)
    number = int(np.argmin(reached + price * np.arange(MAX_SEGMENTS)))
    ends = [len(cuts) - 1]
    for begin in begins[number:0:-1]:
        ends.append(int(begin[ends[-1]]))
    return [int(cuts[end]) for end in reversed(ends)]


def _costs(heights: np.ndarray, widths: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """``(c, c)`` entries of a segment from one cut to a later one; infinite elsewhere."""
    cost = np.full((len(cuts), len(cuts)), np.inf)
    if len(cuts) == 1:
        return np.zeros((1, 1))
    highest, widest = (np.maximum.reduceat(sizes, cuts[:-1]) for sizes in (heights, widths))
    for i in range(len(cuts) - 1):
        area = np.maximum.accumulate(highest[i:]) * np.maximum.accumulate(widest[i:]).astype(float)
        cost[i, i + 1 :] = area * (cuts[i + 1 :] - cuts[i])
    return cost
