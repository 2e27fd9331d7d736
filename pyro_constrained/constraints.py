"""Supports: the affine subspace ``{x : A x = k}``."""

from typing import Any

import torch
from pyro.util import ignore_jit_warnings
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_constrained.kernels.constraint import (
    LinearConstraint,
    bind_constraint,
    default_tolerance,
)

__all__ = ["linear_equality"]


class linear_equality(Constraint):  # a constraint is named as PyTorch names its own
    """The affine subspace ``{x : A x = k}``.

    A value is inside if ``|A x - k| <= tolerance (|A| |x| + |k|)`` in every row, which catches
    mistakes and forgives rounding.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        tolerance: relative tolerance; 1e-6 in float64 and 1e-4 in float32 unless given.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes do not fit, NaN or infinity.

    Example:
        >>> zero_sum = linear_equality(torch.ones(3), torch.tensor(0.0))
        >>> zero_sum.check(torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
        tensor([ True, False])
    """

    is_discrete = False
    event_dim = 1

    @ignore_jit_warnings()
    def __init__(self, A: Any, k: Any, tolerance: float | None = None) -> None:
        self._bound = bind_constraint(A, k, _floating(A, k))
        self.tolerance = tolerance

    @classmethod
    def of(cls, bound: LinearConstraint, tolerance: float | None = None) -> "linear_equality":
        """The subspace of a constraint that is already analysed."""
        support = cls.__new__(cls)
        support._bound, support.tolerance = bound, tolerance
        return support

    @property
    def A(self) -> Any:
        """The matrix, as given."""
        return self._bound.A

    @property
    def k(self) -> Tensor:
        """The right-hand side, as given."""
        return self._bound.k

    def bind(self, like: Tensor) -> LinearConstraint:
        """The constraint in the dtype and on the device of ``like``."""
        bound = self._bound
        if like.dtype != bound.k.dtype or like.device != bound.k.device:
            bound = bind_constraint(self.A, self.k, like)
        return bound

    def check(self, value: Tensor) -> Tensor:
        """``(*batch,)`` whether each vector of ``value`` is in the subspace."""
        tolerance = self.tolerance or default_tolerance(value.dtype)
        return self.bind(value).contains(value, tolerance)

    def __repr__(self) -> str:
        return (
            f"linear_equality(rank={self._bound.rank}, num_variables={self._bound.num_variables})"
        )


def _floating(A: Any, k: Any) -> Tensor:
    """A scalar of the dtype that A and k have in common."""
    parts = [torch.as_tensor(part) for part in (A, k) if not hasattr(part, "num_groups")]
    dtype = parts[0].dtype
    for part in parts:
        dtype = torch.promote_types(dtype, part.dtype)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    return torch.zeros((), dtype=dtype, device=parts[-1].device)
