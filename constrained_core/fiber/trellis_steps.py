"""Steps of the paths of a trellis: what each takes away from what is left of k."""

from abc import ABC, abstractmethod

import numpy as np

from constrained_core.errors import IntractableConstraintError

__all__ = ["Budget", "ColumnStep", "DealStep", "Step"]

Limits = tuple[np.ndarray, np.ndarray]


class Budget:
    """Transitions that may still be made.

    Args:
        max_transitions: all of them.
        which: ``first`` or ``last``, from which end stages are made.
        num_stages: number of stages.
    """

    def __init__(self, max_transitions: int, which: str, num_stages: int) -> None:
        self._limit, self._which, self._num_stages = max_transitions, which, num_stages
        self._total = self._done = 0

    def spend(self, count: int) -> None:
        """Count the transitions of one more stage.

        Raises:
            IntractableConstraintError: too many.
        """
        self._total, self._done = self._total + count, self._done + 1
        if self._total > self._limit:
            raise IntractableConstraintError(
                "the fiber of A x = k is too large for an exact answer: at least "
                f"{self._total} transitions for the {self._which} {self._done} of "
                f"{self._num_stages} columns, the budget is {self._limit}; raise it with "
                "max_transitions (8 bytes and about 20 nanoseconds each), draw with FiberSampler "
                "instead, or use smaller totals, fewer rows, or rows that share fewer variables. "
                "Rates of exactly 0, and probabilities of exactly 0 or 1, make it smaller where "
                "they are no traced arrays."
            )


class Step(ABC):
    """Some stages of a trellis; ``num_stages`` says how many."""

    num_stages: int

    @property
    @abstractmethod
    def span(self) -> np.ndarray:
        """``(2, r)`` the least and the most that is taken in all."""

    @abstractmethod
    def moves(
        self, states: np.ndarray, after: Limits, left: int, budget: Budget
    ) -> tuple[np.ndarray, np.ndarray]:
        """States and values ``(t,)``, int32, of one stage, in the order of states.

        Args:
            states: ``(S, r)`` what is left before it.
            after: ``(r,)`` the least and the largest that can be left after the whole step.
            left: stages of the step that come later.
            budget: is charged before arrays are made.
        """

    @abstractmethod
    def taken(self, value: np.ndarray) -> np.ndarray:
        """``(t, r)`` what values ``(t,)`` take away, int64."""

    @abstractmethod
    def taken_code(self, value: np.ndarray, code: np.ndarray) -> np.ndarray:
        """``(t,)`` the same, weighted by ``code (r,)``."""


class ColumnStep(Step):
    """One column: u times itself for one of its values u.

    Args:
        column: ``(r,)``.
        lowest, highest: its values.
        possible: ``(highest + 1,)`` which of them it can have; None where all.
    """

    num_stages = 1

    def __init__(
        self, column: np.ndarray, lowest: int, highest: int, possible: np.ndarray | None = None
    ) -> None:
        self._column, self._lowest, self._highest = column, lowest, highest
        self._possible = None if possible is None else np.flatnonzero(possible)

    @property
    def span(self) -> np.ndarray:
        return np.sort(np.outer([self._lowest, self._highest], self._column), axis=0)

    def moves(
        self, states: np.ndarray, after: Limits, left: int, budget: Budget
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values that leave no more, and no less, than later steps can take."""
        rows = np.flatnonzero(self._column)
        size, sign = np.abs(self._column[rows]), np.sign(self._column[rows])
        least, largest = after[0][rows], after[1][rows]
        near, far = np.where(sign > 0, [largest, least], [-least, -largest])
        state = states[:, rows] * sign
        first = (-((near - state) // size)).max(axis=1, initial=self._lowest)
        last = ((state - far) // size).min(axis=1, initial=self._highest)
        if self._possible is not None:  # places among the possible values instead of values
            first = np.searchsorted(self._possible, first)
            last = np.searchsorted(self._possible, last, side="right") - 1
        count = np.maximum(last - first + 1, 0)
        budget.spend(int(count.sum()))
        source = np.repeat(np.arange(len(states), dtype=np.int32), count)
        within = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
        value = within + first[source]
        value = value if self._possible is None else self._possible[value]
        return source, value.astype(np.int32)

    def taken(self, value: np.ndarray) -> np.ndarray:
        return value[:, None] * self._column

    def taken_code(self, value: np.ndarray, code: np.ndarray) -> np.ndarray:
        return value * (self._column @ code)


class DealStep(Step):
    """A row that is dealt out, one unit after another, to its columns.

    The value of a stage is the column that takes the unit; where the row is spent, it is one more.

    Args:
        columns: ``(J, r)``, equal in this row.
        row: position of the row in r.
        num_stages: the largest number of units.
    """

    def __init__(self, columns: np.ndarray, row: int, num_stages: int) -> None:
        self._columns, self._row, self.num_stages = columns, row, num_stages
        self._taken = np.concatenate([columns, np.zeros_like(columns[:1])])

    @property
    def span(self) -> np.ndarray:
        least, most = self._columns.min(axis=0), self._columns.max(axis=0)
        return np.stack([np.minimum(least, 0), np.maximum(most, 0)]) * self.num_stages

    def moves(
        self, states: np.ndarray, after: Limits, left: int, budget: Budget
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns that leave what the later units and steps can take."""
        units = states[:, self._row] // self._columns[0, self._row] - 1
        least = after[0] + units[:, None] * self._columns.min(axis=0)
        largest = after[1] + units[:, None] * self._columns.max(axis=0)
        fits = np.zeros((len(states), len(self._taken)), dtype=bool)
        fits[:, -1] = units < 0
        is_open = (units >= 0) & (units <= left)
        for number, column in enumerate(self._columns):
            rest = states - column.astype(states.dtype)
            fits[:, number] = is_open & ((rest >= least) & (rest <= largest)).all(axis=1)
        budget.spend(int(fits.sum()))
        source, value = np.nonzero(fits)
        return source.astype(np.int32), value.astype(np.int32)

    def taken(self, value: np.ndarray) -> np.ndarray:
        return self._taken[value]

    def taken_code(self, value: np.ndarray, code: np.ndarray) -> np.ndarray:
        return (self._taken @ code)[value]
