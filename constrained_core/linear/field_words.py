"""What is wrong with a precision matrix or the rows beside it, in words."""

from collections.abc import Sequence

__all__ = ["NOT_DEFINITE_ALONE", "NOT_PROPER", "NO_ROOT", "different_ranks", "few_digits"]

NOT_PROPER = (
    "precision_matrix: expected Q to be positive definite, as the law without the constraint asks "
    "for, got one that is not; a Q that is singular off the null space of A has no such law: "
    "adding c A'A to Q, c > 0, gives it one and leaves the law given A x = k as it is."
)

NO_ROOT = (
    "precision_root: expected D with Q = D'D, for the noise of a given value, got none; give D "
    "(fields have theirs)."
)

NOT_DEFINITE_ALONE = (
    "precision_matrix: expected a positive semidefinite Q, from which alone noise can be drawn, "
    "got one with negative eigenvalues; give precision_root, a D with Q = D'D, or add c A'A to Q, "
    "which changes nothing where A x = k."
)


def different_ranks(ranks: Sequence) -> str:
    """Matrices of a batch whose saddle-point matrices have no common size."""
    return (
        "A: expected matrices of one rank, for a field, whose [[Q, A'], [A, 0]] is factored, got "
        f"ranks {ranks}; give laws of different rank apart."
    )


def few_digits(loss: float, dtype: str) -> str:
    """A field of which rounding leaves little."""
    remedy = "float64 values, " if dtype == "float32" else ""
    return (
        f"precision_matrix: expected a Q of which {dtype} leaves digits on the null space of A, "
        f"got one whose variances and draws may be wrong by {loss:.0e} of themselves: its smallest "
        "eigenvalues there are as small as rounding of its entries (n^-4 of the largest, of a "
        f"random walk of second order); give {remedy}fewer points, a lower order, or rows of A "
        "that hold its smooth directions."
    )
