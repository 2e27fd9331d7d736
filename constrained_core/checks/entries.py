"""What the entries of parameters must be."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "FINITE",
    "INDEPENDENT_ROWS",
    "LOG_ODDS",
    "LOWER_TRIANGULAR",
    "NONNEGATIVE",
    "POSITIVE",
    "POSSIBLE_CATEGORY",
    "PROBABILITY",
    "SYMMETRIC",
    "Requirement",
    "beyond_range",
    "no_factor",
    "violation",
]


class Requirement(NamedTuple):
    """What the entries of a parameter must be, and what to do where they are not."""

    expected: str
    remedy: str


FINITE = Requirement("finite values", "check how it is computed")

POSITIVE = Requirement("positive finite values", "use exp or softplus to make it so")

NONNEGATIVE = Requirement("nonnegative finite values", "use exp or softplus to make it so")

PROBABILITY = Requirement("probabilities in [0, 1]", "use sigmoid, or give logits instead")

LOG_ODDS = Requirement("log odds or log probabilities", "check for NaN")

POSSIBLE_CATEGORY = Requirement(
    "a category that is possible in every row", "raise a logit above -inf"
)

SYMMETRIC = Requirement("a symmetric matrix", "use (S + S.mT) / 2")

LOWER_TRIANGULAR = Requirement("a lower triangular matrix", "use tril or a Cholesky factor")

INDEPENDENT_ROWS = Requirement(
    "scales under which the rows of A x are independent in the digits of the dtype",
    "check for scales that are zero, infinite or many orders of magnitude apart, or use float64",
)


def beyond_range(dtype: Any) -> str:
    """The message about a variance of A x that a dtype does not hold."""
    return (
        f"expected scales whose squares are numbers of {dtype} with all their digits, got ones "
        "under which the variance of a row of A x overflows or vanishes; measure x in other units, "
        "or use float64."
    )


def violation(name: str, requirement: Requirement, values: np.ndarray, holds: np.ndarray) -> str:
    """The message about the first entry, or matrix, of ``values`` where ``holds`` is false."""
    where = tuple(int(i) for i in np.argwhere(~holds)[0])
    found = values[where]
    got = f"{float(found):.6g}" if found.ndim == 0 else f"a matrix of shape {found.shape}"
    at = f" at {where}" if where else ""
    return f"{name}: expected {requirement.expected}, got {got}{at}; {requirement.remedy}."


def no_factor(requirement: Requirement, shape: Iterable[int], dtype: Any) -> str:
    """The message about a matrix that is not positive definite."""
    return (
        f"expected {requirement.expected}, got a matrix of shape {tuple(shape)} and dtype {dtype} "
        f"without a Cholesky factor; {requirement.remedy}."
    )
