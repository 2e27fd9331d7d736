"""Supports: the affine subspace ``{x : A x = k}``."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from constrained_core import GroupSum
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.sparse import as_sparse, is_sparse
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.fiber.constraint import IntegerConstraint, bind_integers
from pyro_constrained.kernels.linear.binding import bind_again, bind_constraint
from pyro_constrained.kernels.linear.constraint import LinearConstraint, default_tolerance

__all__ = ["integer_linear_equality", "linear_equality"]


@in_full_precision
class linear_equality(Constraint):  # a constraint is named as PyTorch names its own
    """The affine subspace ``{x : A x = k}``.

    A value is inside if ``|A x - k| <= tolerance (|A| |x| + |k|)`` in every row, which catches
    mistakes and forgives rounding.

    Args:
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        tolerance: relative tolerance; 1e-6 in float64 and 1e-4 in float32 unless given.

    Raises:
        InfeasibleConstraintError: no point satisfies the constraint.
        ConstraintError: shapes do not fit, NaN or infinity.

    Example:
        >>> import torch
        >>> zero_sum = linear_equality(torch.ones(3), torch.tensor(0.0))
        >>> zero_sum.check(torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]))
        tensor([ True, False])
    """

    is_discrete = False
    event_dim = 1

    @quiet_under_trace
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
        """The constraint in the dtype and on the device of ``like``.

        Raises:
            ConstraintError: A or k was changed in place.
        """
        bound = self._bound
        bound.made_of.require(self)
        if like.dtype != bound.k.dtype or like.device != bound.k.device:
            bound = bind_again(bound, like)
        return bound

    def check(self, value: Tensor) -> Tensor:
        """``(*batch,)`` whether each vector of ``value`` is in the subspace."""
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = default_tolerance(value.dtype)
        with torch.no_grad():  # no derivative is asked for, so that none has to be recorded
            return self.bind(value).contains(value, tolerance)

    def __repr__(self) -> str:
        return (
            f"linear_equality(rank={self._bound.rank}, num_variables={self._bound.num_variables})"
        )


@in_full_precision
class integer_linear_equality(Constraint):
    """The integer points ``{x : A x = k, 0 <= x <= upper}``.

    Args:
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        upper: the largest value of every variable; None if there is none.

    Raises:
        InfeasibleConstraintError: no integer x satisfies A x = k.
        ConstraintError: shapes that do not fit, numbers that are not whole.

    Example:
        >>> import torch
        >>> pairs = integer_linear_equality(torch.ones(3), 2, upper=1)
        >>> pairs.check(torch.tensor([[1.0, 0.0, 1.0], [2.0, 0.0, 0.0]]))
        tensor([ True, False])
    """

    is_discrete = True
    event_dim = 1

    @quiet_under_trace
    def __init__(self, A: Any, k: Any, upper: int | None = None) -> None:
        self._bound = bind_integers(A, k, upper)

    @classmethod
    def of(cls, bound: IntegerConstraint) -> "integer_linear_equality":
        """The points of a constraint that is already read."""
        support = cls.__new__(cls)
        support._bound = bound
        return support

    @property
    def A(self) -> Any:
        """The matrix, as given."""
        return self._bound.A

    @property
    def k(self) -> Tensor:
        """The right-hand side, as given."""
        return self._bound.k

    @property
    def upper(self) -> int | None:
        """The largest value of every variable."""
        return self._bound.upper

    def check(self, value: Tensor) -> Tensor:
        """``(*batch,)`` whether each vector of ``value`` is one of the points."""
        return self._bound.contains(value)

    def __repr__(self) -> str:
        return (
            f"integer_linear_equality(num_variables={self._bound.num_variables}, "
            f"upper={self.upper})"
        )


def _floating(A: Any, k: Any) -> Tensor:
    """A scalar of the dtype that A and k have in common."""
    A = as_sparse("A", A).values if is_sparse(A) else A
    parts = {"A": A, "k": k}
    known = {n: p for n, p in parts.items() if p is not None and not isinstance(p, GroupSum)}
    return floating(**known)[-1].new_zeros(())
