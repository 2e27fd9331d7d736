"""``explain``: what is known of a constraint before any law."""

from typing import Any

import torch

from constrained_core import Explanation, GroupSum, SparseMatrix
from constrained_core import explain as explain_arrays
from constrained_core.explanation.explanation import LEARNED, unknown_values
from pyro_constrained.kernels.arrays.inputs import as_tensor, read_matrix
from pyro_constrained.kernels.arrays.inspection import are_known, host_array
from pyro_constrained.kernels.arrays.sparse import as_sparse, is_sparse

__all__ = ["explain"]


def explain(
    A: Any, k: Any = None, *, num_categories: int | None = None, max_transitions: int | None = None
) -> Explanation:
    """What is found of ``A x = k`` before any law, to be printed or shown in a notebook.

    The plans are those that the laws use, and are kept for them. Rank and redundant rows, whether k
    agrees with them, variables that the constraint alone determines, independent blocks, structure,
    scales and condition, method and cost of the Gaussian laws; of whole numbers also what the exact
    discrete laws would do, with the size of their trellis, where parameters rule no value out, and
    how ``FiberSampler`` would walk. A trellis at its budget takes some seconds.

    Args:
        A: ``(m, n)``, ``(n,)`` for one row, a ``GroupSum``, or sparse.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; None to look at A alone.
        num_categories: C, to look at ``ConstrainedCategorical`` with values 0..C-1 too.
        max_transitions: the budget of the exact discrete laws, 10^7 unless given.

    Raises:
        ConstraintError: shapes that do not fit, a batch of matrices, NaN or infinity in A, values
            that are not known.
        ParameterError: k is not finite.

    Example:
        >>> import torch
        >>> A = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
        >>> explanation = explain(A, torch.tensor([3, 2, 4, 1]))
        >>> explanation
        A x = k: 4 rows, dense, 4 variables, float64
          rank         3 of 4 rows; x has 1 dimension left
          redundant    row 3 = row 0 + row 1 - row 2
          k            agrees with the redundant rows
          ...
        >>> counts, subsets = explanation.laws
        >>> counts.is_exact, counts.transitions, counts.points
        (True, 8, 2)
        >>> print(subsets.reason)
        A x = k has no solution: expected k[0] between 0 and 2, ...
    """
    given = A.values if isinstance(A, SparseMatrix) else A
    is_learned = isinstance(given, torch.Tensor) and given.requires_grad
    return explain_arrays(
        _known_matrix(A),
        None if k is None else _known(as_tensor("k", k)),
        num_categories=num_categories,
        max_transitions=max_transitions,
        notes=(LEARNED,) if is_learned else (),
    )


def _known_matrix(A: Any) -> Any:
    if is_sparse(A):
        entries = as_sparse("A", A)
        return entries.with_values(_known(entries.values))
    matrix = read_matrix(A, torch.device("cpu"))
    return matrix if isinstance(matrix, GroupSum) else _known(matrix)


def _known(tensor: torch.Tensor) -> Any:
    if not are_known(tensor):
        raise unknown_values()
    return host_array(tensor)
