"""The usual cures for a broken law ``A x = k``, in PyTorch.

A is a matrix ``(m, n)`` of independent rows or a ``GroupSum``; k is ``(*batch, m)`` and x
``(*batch, n)``.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from constrained_core import ConstraintError, GroupSum
from pyro_constrained import ConstrainedNormal
from pyro_constrained.kernels.linear.binding import bind_constraint

__all__ = [
    "complete",
    "last_of_each_row",
    "projected",
    "semantic_loss",
    "soft_penalty",
    "squared_penalty",
]


def soft_penalty(value: Tensor, A: Tensor | GroupSum, k: Tensor) -> Tensor:
    """``(*batch, m)`` by how much each row misses, |A x - k|."""
    return bind_constraint(A, k, value).residual(value).abs()


def squared_penalty(value: Tensor, A: Tensor | GroupSum, k: Tensor) -> Tensor:
    """``(*batch, m)`` the squares of what each row misses."""
    return bind_constraint(A, k, value).residual(value).square()


def semantic_loss(loc: Tensor, scale: Tensor, A: Tensor | GroupSum, k: Tensor) -> Tensor:
    """``(*batch,)`` minus the log density of ``A x = k`` under independent normal x.

    For continuous variables what the semantic loss of Xu et al. (2018) is for Boolean ones.
    """
    return -ConstrainedNormal(loc, scale, A, k, validate_args=False).constraint_log_prob()


def projected(value: Tensor, A: Tensor | GroupSum, k: Tensor) -> Tensor:
    """The nearest point with ``A x = k``: after training, or as a layer of the network.

    Chen, Constante Flores and Li (2024), *Physics-informed neural networks with hard linear
    equality constraints*.
    """
    return bind_constraint(A, k, value).nearest(value)


def complete(
    value: Tensor, A: Tensor | GroupSum, k: Tensor, dependent: Tensor, *, refine: bool = True
) -> Tensor:
    """Keep the free variables; the dependent ones follow from ``A x = k``.

    With variables chosen beforehand this is elimination (the network predicts n - m of them); with
    the last variable of each row in some order, see ``last_of_each_row``, it is the constraint
    layer of Stoian et al. (2024) for equalities.

    Args:
        value: ``(*batch, n)``; what it says of the dependent variables is ignored.
        A: ``(m, n)`` with independent rows, or a ``GroupSum`` without empty groups.
        k: ``(*batch, m)``.
        dependent: ``(m,)`` the variables that follow: one in each group of a ``GroupSum``, in the
            order of the groups; otherwise those of m independent columns.
        refine: repeat the solution once on what rounding has left.
    """
    free = value.index_fill(-1, dependent, 0.0)
    found = _solved(A, k - _applied(A, free), dependent)
    completed = free.index_copy(-1, dependent, found)
    if refine:
        with torch.no_grad():
            rest = _solved(A, k - _applied(A, completed), dependent)
        completed = completed.index_add(-1, dependent, rest)
    return completed


def last_of_each_row(A: np.ndarray | GroupSum, order: Sequence[int]) -> np.ndarray:
    """``(m,)`` the variable of each row that comes last in the order; rows are reduced so that no
    two have the same.

    Args:
        A: ``(m, n)`` of independent rows, or a ``GroupSum``.
        order: a permutation of the n variables.

    Raises:
        ConstraintError: a row is left without a variable, because the rows depend on each other.
    """
    order = np.asarray(order)
    if isinstance(A, GroupSum):
        last = np.full(A.num_groups, -1)
        np.maximum.at(last, A.index[order], np.arange(len(order)))
        if (last < 0).any():
            raise ConstraintError("expected a member in every group, got an empty group.")
        return order[last]
    rows = np.array(A, dtype=float)[:, order]
    tolerance = 1e-10 * np.abs(rows).max()
    found = np.empty(len(rows), dtype=int)
    for i, row in enumerate(rows):
        present = np.flatnonzero(np.abs(row) > tolerance)
        if not present.size:
            raise ConstraintError(
                f"expected independent rows, got row {i}, which depends on others."
            )
        found[i] = present[-1]
        others = np.arange(len(rows)) != i
        rows[others] -= np.outer(rows[others, found[i]] / row[found[i]], row)
    return order[found]


def _applied(A: Tensor | GroupSum, value: Tensor) -> Tensor:
    """``A x``."""
    k = value.new_zeros(A.shape[0])
    return bind_constraint(A, k, value).residual(value)


def _solved(A: Tensor | GroupSum, target: Tensor, dependent: Tensor) -> Tensor:
    """The dependent variables whose part of ``A x`` is the target."""
    if isinstance(A, GroupSum):
        if A.weights is None:
            return target
        return target / target.new_tensor(A.weights)[dependent]
    return torch.linalg.solve(A[:, dependent].to(target), target[..., None])[..., 0]
