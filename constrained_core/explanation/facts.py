"""Facts about ``A x = k`` without any parameter: what its plan says, to be read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from constrained_core.errors import ConstraintError
from constrained_core.explanation.card import listed
from constrained_core.explanation.exactness import Exactness
from constrained_core.explanation.methods import COVARIANCES, method, structure
from constrained_core.explanation.rows import (
    block_labels,
    combination,
    condition,
    determined_values,
)
from constrained_core.linear.plan import GroupPlan, Plan, RowPlan

__all__ = ["ConstraintFacts"]


@dataclass(frozen=True, eq=False)
class ConstraintFacts:
    """What the plan of ``A x = k`` says.

    Attributes:
        shape: ``(m, n)``.
        form: how A was given: ``dense``, ``one row``, ``GroupSum`` or ``sparse``.
        dtype: of its values, by which the rank is decided.
        plan: what the laws with densities execute.
        row_norms: ``(m,)`` lengths of the rows.
        k: ``(*batch, m)``, or None if it was not given.
        disagreement: the error of a redundant row whose k is not what other rows imply, or None.
        laws: what each discrete law makes of it; none where A is not of whole numbers.
        notes: what else there is to know.
    """

    shape: tuple[int, int]
    form: str
    dtype: np.dtype
    plan: Plan
    row_norms: np.ndarray
    k: np.ndarray | None
    disagreement: str | None
    laws: tuple[Exactness, ...]
    notes: tuple[str, ...]

    @property
    def rank(self) -> int:
        """r, the number of independent rows."""
        return self.plan.rank

    @property
    def free_size(self) -> int:
        """n - r, the dimension of the subspace."""
        return self.plan.free_size

    @property
    def redundant_rows(self) -> np.ndarray:
        """``(m - r,)`` rows that follow from the others, ascending."""
        return self.plan.dropped

    def follows_from(self, row: int) -> dict[int, float]:
        """The rows that a redundant row is a combination of, and their coefficients."""
        if row not in self.redundant_rows:
            raise ConstraintError(
                f"row: expected one of redundant_rows, {listed(self.redundant_rows.tolist())}, got "
                f"{row}; the others are independent."
            )
        return combination(self.plan, row)

    @property
    def agrees(self) -> bool | None:
        """Whether k agrees with the redundant rows; None if it was not given."""
        return None if self.k is None else self.disagreement is None

    @property
    def determined(self) -> np.ndarray:
        """``(d,)`` variables that the constraint alone determines."""
        return self.plan.determined

    @cached_property
    def determined_values(self) -> np.ndarray | None:
        """``(*batch, d)`` their values; None without a k that agrees."""
        if self.k is None or self.disagreement is not None:
            return None
        return determined_values(self.plan, self.k)

    @cached_property
    def blocks(self) -> np.ndarray:
        """``(n,)`` the independent block of every variable, -1 for variables in no row."""
        return block_labels(self.plan)

    @property
    def num_blocks(self) -> int:
        """How many blocks there are: independent constraints, if the base law has no correlation
        between them."""
        return int(self.blocks.max(initial=-1)) + 1

    @cached_property
    def block_sizes(self) -> np.ndarray:
        """``(b, 2)`` rows and variables of every block."""
        inside = self.blocks >= 0
        sizes = np.bincount(self.blocks[inside], minlength=self.num_blocks)
        if isinstance(self.plan, RowPlan | GroupPlan):
            return np.stack([np.ones_like(sizes), sizes], axis=-1)
        ranks = np.bincount(self.blocks[self.plan.pivots], minlength=self.num_blocks)
        return np.stack([ranks, sizes], axis=-1)

    @property
    def structure(self) -> str:
        """What the plan uses, in words."""
        return structure(self.plan)

    @cached_property
    def condition(self) -> float | None:
        """Condition number of the independent rows, each scaled to about length one; None for
        sparse ones."""
        return condition(self.plan)

    @property
    def methods(self) -> dict[str, str]:
        """The method of every Gaussian law and its cost, in words."""
        return {law: method(kind, self.plan) for law, kind in COVARIANCES.items()}
