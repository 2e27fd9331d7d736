"""Errors about the two sides of ``A x = k``."""

from collections.abc import Sequence

from constrained_core.errors import ConstraintError, InfeasibleConstraintError

__all__ = [
    "dependent_rows",
    "infinite_matrix",
    "infinite_sides",
    "mostly_zeros",
    "row_disagrees",
]

Shape = tuple[int, ...]


def infinite_matrix() -> ConstraintError:
    """NaN or infinity somewhere in A."""
    return ConstraintError("A: expected finite entries, got NaN or infinity; check how A is made.")


def dependent_rows(rows: Sequence[int] = ()) -> str:
    """Rows of a sparse A without a plan that follow from others; which ones, where that is seen."""
    which = f"rows {list(rows)} follow" if len(rows) else "some rows follow"
    return (
        "A: expected independent rows of a sparse matrix that is learned, traced or a batch, got "
        f"one where {which} from the others or are zero; leave them out, or give A as a dense "
        "array, of whatever rank."
    )


def mostly_zeros(shape: Shape, share: float) -> str:
    """The hint about a large dense matrix of few entries."""
    return (
        f"A: got a dense array of shape {shape} of which {share:.2%} are zeros; a sparse A "
        "(scipy.sparse, SparseMatrix) or, for disjoint sums, a GroupSum takes a fraction of the "
        "time and memory."
    )


def infinite_sides(entry: float) -> str:
    """NaN or infinity in k."""
    return f"k: expected finite values, got {entry}; check how k is made."


def row_disagrees(where: Sequence[int]) -> InfeasibleConstraintError:
    """A redundant row, ``(*batch, row)``, whose k is not what the others imply."""
    *batch, row = where
    return InfeasibleConstraintError(
        f"A x = k has no solution: row {row} of A{batch or ''} depends on other rows, which imply "
        "another value than its k; correct k, or drop the row."
    )
