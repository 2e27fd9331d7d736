"""What is known of ``A x = k`` before any law."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from constrained_core.checks.shapes import check_matrix_shape, check_shapes
from constrained_core.checks.sides import infinite_sides
from constrained_core.errors import ConstraintError, InfeasibleConstraintError, ParameterError
from constrained_core.explanation.card import Line, as_html, as_text, plural
from constrained_core.explanation.exactness import Exactness, whole_number_laws
from constrained_core.explanation.facts import ConstraintFacts
from constrained_core.explanation.rows import (
    row_norms,
)
from constrained_core.explanation.words import lines_of
from constrained_core.fiber.lattice import as_integers, integer_weights
from constrained_core.groups import GroupSum
from constrained_core.linear.plan import DensePlan, Plan
from constrained_core.linear.planner import check_consistency, plan_constraint
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.sparse import SparseMatrix

__all__ = ["LEARNED", "Explanation", "explain", "unknown_values"]

LEARNED = (
    "A requires a gradient: a law takes its rows as they are, whatever their rank, and factors "
    "them each time that it is made"
)

DENSE_ENTRIES = 2**24
"""Entries of the dense form up to which the discrete laws, which need it, look at a sparse A."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(ConstraintFacts):
    """What is known of ``A x = k`` before any law: text in a shell, a table in a notebook.

    Its facts can be read one by one: those of ``ConstraintFacts``.
    """

    @property
    def title(self) -> str:
        """One line that tells what this is about."""
        m, n = self.shape
        rows = "one row" if self.form == "one row" else f"{plural(m, 'row')}, {self.form}"
        return f"A x = k: {rows}, {plural(n, 'variable')}, {self.dtype}"

    @cached_property
    def lines(self) -> list[Line]:
        """The facts in words, as ``print`` shows them."""
        return lines_of(self)

    def __str__(self) -> str:
        return as_text(self.title, self.lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.title, self.lines)


def explain(
    A: np.ndarray | GroupSum | SparseMatrix,
    k: np.ndarray | None = None,
    *,
    num_categories: int | None = None,
    max_transitions: int | None = None,
    notes: tuple[str, ...] = (),
) -> Explanation:
    """What is found of a constraint before any law; the plans are those that the laws will use.

    Args:
        A: ``(m, n)`` floats, ``(n,)`` for one row, a ``GroupSum``, or a ``SparseMatrix`` of known
            values.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; None to look at A alone.
        num_categories: C, to look at ``ConstrainedCategorical`` with values 0..C-1 too.
        max_transitions: the budget of the exact discrete laws, 10^7 unless given.
        notes: what else is to be said.

    Raises:
        ConstraintError: shapes that do not fit, a batch of matrices, NaN or infinity in A.
        ParameterError: k is not finite.
    """
    check_matrix_shape(A.shape)
    form, is_vector = _form(A), A.ndim == 1
    if A.ndim > 2:
        raise ConstraintError(
            f"A: expected one matrix, got a batch of shape {tuple(A.shape)}; explain one of them."
        )
    sides = None if k is None else _sides(A, k)
    matrix = np.atleast_2d(A) if isinstance(A, np.ndarray) else A
    plan = plan_constraint(matrix)
    disagreement = None
    if sides is not None:
        try:
            check_consistency(plan, sides)
        except InfeasibleConstraintError as error:
            disagreement = str(error)
    laws, notes = tuple[Exactness, ...](), (*notes, *_hints(plan))
    try:
        laws = whole_number_laws(_integers(matrix), sides, num_categories, max_transitions)
    except ConstraintError as error:
        notes = (*notes, f"no discrete law: {error}")
    return Explanation(
        shape=(plan.num_rows, plan.num_variables),
        form="one row" if is_vector else form,
        dtype=np.dtype(np.float64) if isinstance(A, GroupSum) else _values(A).dtype,
        plan=plan,
        row_norms=row_norms(matrix),
        k=sides,
        disagreement=disagreement,
        laws=laws,
        notes=notes,
    )


def unknown_values() -> ConstraintError:
    """A matrix or right-hand side whose values cannot be looked at."""
    return ConstraintError(
        "explain: expected values that are known, got a traced array; explain the constraint "
        "outside of jit, vmap and compiled functions."
    )


def _form(A: np.ndarray | GroupSum | SparseMatrix) -> str:
    if isinstance(A, GroupSum):
        return "GroupSum"
    return "sparse" if isinstance(A, SparseMatrix) else "dense"


def _values(A: np.ndarray | SparseMatrix) -> np.ndarray:
    return A.values if isinstance(A, SparseMatrix) else A


def _sides(A: np.ndarray | GroupSum | SparseMatrix, k: np.ndarray) -> np.ndarray:
    """``(*batch, m)``, floating."""
    check_shapes(A.shape, k.shape)
    k = k if k.dtype.kind == "f" else k.astype(np.float64)
    if not np.isfinite(k).all():
        raise ParameterError(infinite_sides(float(k[~np.isfinite(k)][0])))
    return k[..., None] if A.ndim == 1 else k


def _integers(matrix: np.ndarray | GroupSum | SparseMatrix) -> np.ndarray | GroupSum:
    """The matrix as the discrete laws take it.

    Raises:
        ConstraintError: they do not.
    """
    if isinstance(matrix, GroupSum):
        integer_weights(matrix)
        return matrix
    if isinstance(matrix, SparseMatrix):
        m, n = matrix.pattern.shape
        if m * n > DENSE_ENTRIES:
            raise ConstraintError(
                f"A: discrete laws make it dense, with {m * n:,} entries; not looked at here."
            )
        as_integers("A", np.asarray(matrix.values))
        matrix = matrix.to_dense()
    return as_integers("A", matrix)


def _hints(plan: Plan) -> list[str]:
    """What would be better."""
    if plan.rank < 2 or not isinstance(plan, DensePlan | SparsePlan):
        return []
    column = plan.pattern.column if isinstance(plan, SparsePlan) else plan.rows.nonzero()[1]
    if np.bincount(column).max() > 1:
        return []
    return ["no variable is in two independent rows: as a GroupSum, every operation costs O(n)"]
