"""The states of a trellis, stage by stage, as index arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from constrained_core.errors import IntractableConstraintError
from constrained_core.fiber.trellis_segments import first_values
from constrained_core.fiber.trellis_steps import Budget, Step

__all__ = ["Tables", "Transitions", "find_transitions", "prune"]

PIECE = 2**16


@dataclass(frozen=True, eq=False)
class Transitions:
    """Transitions found from the starts on, stage by stage.

    Attributes:
        sizes: number of states of every stage.
        source, value, target: per stage ``(t,)`` int32, the state, the value, the next state.
        last: ``(S, r)`` the states of the last stage.
    """

    sizes: list[int]
    source: list[np.ndarray]
    value: list[np.ndarray]
    target: list[np.ndarray]
    last: np.ndarray


def find_transitions(
    steps: Sequence[Step],
    starts: np.ndarray,
    ends: np.ndarray,
    independent: np.ndarray,
    max_transitions: int,
) -> Transitions:
    """All transitions, breadth first, that stay within reach of the ends.

    Args:
        steps: in order.
        starts: ``(S_0, r)`` distinct states, int64.
        ends: ``(2, r)`` least and largest end of a path.
        independent: rows that tell states apart.
        max_transitions: the budget.

    Raises:
        IntractableConstraintError: more transitions; raised before their arrays are made.
    """
    reach = _Reach(steps, ends)
    code, is_exact = reach.row_code(starts, independent)
    budget = Budget(max_transitions, "first", sum(step.num_stages for step in steps))
    found = Transitions([len(starts)], [], [], [], starts)
    states, key = starts.astype(reach.word(starts)), starts @ code
    for number, step in enumerate(steps):
        after = reach.limits(number + 1)
        for left in reversed(range(step.num_stages)):
            source, value = step.moves(states, after, left, budget)
            key = key[source] - step.taken_code(value, code)
            key, one, target = np.unique(key, return_index=True, return_inverse=True)
            later = states[source[one]] - step.taken(value[one]).astype(states.dtype)
            if not is_exact:
                _require_distinct(states, source, value, step, later, target)
            states = later
            found.sizes.append(len(states))
            found.source.append(source)
            found.value.append(value)
            found.target.append(target.astype(np.int32))
    return Transitions(
        found.sizes, found.source, found.value, found.target, states.astype(np.int64)
    )


@dataclass(frozen=True, eq=False)
class Tables:
    """What is alive of the transitions, stage by stage.

    Attributes:
        alive: ``(S_0,)`` which starts are.
        sizes, num_values, first, next: as those of the trellis.
    """

    alive: np.ndarray
    sizes: np.ndarray
    num_values: np.ndarray
    first: tuple[np.ndarray, ...]
    next: tuple[np.ndarray, ...]


def prune(found: Transitions, max_transitions: int) -> Tables:
    """Drop states from which no end is reached, and lay the others out as tables.

    A table begins with the first value of every state where that saves much: a column whose value
    is decided by the state then takes one entry per state and not one per value.

    Raises:
        IntractableConstraintError: tables past the budget; raised before they are made.
    """
    budget = Budget(max_transitions, "last", len(found.source))
    alive = np.ones(found.sizes[-1], dtype=bool)
    sizes, num_values = [len(alive)], []
    firsts: list[np.ndarray] = []
    tables: list[np.ndarray] = []
    for j in reversed(range(len(found.source))):
        number = np.cumsum(alive) - 1
        kept = alive[found.target[j]]
        source, value = found.source[j][kept], found.value[j][kept]
        alive = np.zeros(found.sizes[j], dtype=bool)
        alive[source] = True
        source = (np.cumsum(alive) - 1)[source]
        num_values_here = int(value.max(initial=-1)) + 1
        first = first_values(source, value, int(alive.sum()))
        shape = (len(first), int((value - first[source]).max(initial=-1)) + 1)
        budget.spend(shape[0] * shape[1])
        table = np.full(shape, sizes[-1], dtype=np.int32)
        table[source, value - first[source]] = number[found.target[j][kept]]
        sizes.append(len(first))
        num_values.append(num_values_here)
        firsts.append(first)
        tables.append(table)
    return Tables(
        alive=alive,
        sizes=np.array(sizes[::-1]),
        num_values=np.array(num_values[::-1], dtype=int),
        first=tuple(firsts[::-1]),
        next=tuple(tables[::-1]),
    )


class _Reach:
    """What can be left before every step, row by row."""

    def __init__(self, steps: Sequence[Step], ends: np.ndarray) -> None:
        num_rows = ends.shape[1]
        spans = np.zeros((2, len(steps), num_rows), dtype=np.int64)
        for number, step in enumerate(steps):
            spans[:, number] = step.span
        self._low, self._high = (_suffix_sums(span) for span in spans)
        self._least, self._largest = ends[0] + self._low, ends[1] + self._high

    def limits(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """``(r,)`` the least and the largest that can be left before a step."""
        return self._least[number], self._largest[number]

    def word(self, starts: np.ndarray) -> np.dtype:
        """The smallest type that holds all states."""
        largest = np.abs(np.concatenate([self._low, self._high, starts])).max(initial=0)
        return np.dtype(np.int32 if largest < 2**29 else np.int64)

    def row_code(self, starts: np.ndarray, independent: np.ndarray) -> tuple[np.ndarray, bool]:
        """``(r,)`` weights that give states a number each, and whether no two can have the same.

        Past 64 bits the weights are random: a hash.
        """
        used_low, used_high = self._low[0] - self._low, self._high[0] - self._high
        low = np.maximum(self._least, starts.min(axis=0) - used_high).min(axis=0)
        high = np.minimum(self._largest, starts.max(axis=0) - used_low).max(axis=0)
        widths = [int(high[i] - low[i]) + 1 for i in independent]
        is_exact = 2 * prod(widths) <= np.iinfo(np.int64).max
        code = np.zeros(starts.shape[1], dtype=np.int64)
        code[independent] = (
            [prod(widths[:i]) for i in range(len(widths))]
            if is_exact
            else 2 * np.random.default_rng(0).integers(2**62, size=len(widths)) + 1
        )
        return code, is_exact


def _suffix_sums(steps: np.ndarray) -> np.ndarray:
    """``(q + 1, r)`` sums of the steps from j on."""
    sums = np.zeros((len(steps) + 1, steps.shape[1]), dtype=np.int64)
    sums[:-1] = np.cumsum(steps[::-1], axis=0)[::-1]
    return sums


def _require_distinct(
    states: np.ndarray,
    source: np.ndarray,
    value: np.ndarray,
    step: Step,
    after: np.ndarray,
    target: np.ndarray,
) -> None:
    """Check that no two different states had one hash; in pieces, to save memory."""
    for start in range(0, len(source), PIECE):
        piece = slice(start, start + PIECE)
        left = states[source[piece]] - step.taken(value[piece]).astype(states.dtype)
        if not (left == after[target[piece]]).all():
            raise IntractableConstraintError(
                "the states of A x = k could not be told apart by their hashes; change the order "
                "of the rows of A."
            )
