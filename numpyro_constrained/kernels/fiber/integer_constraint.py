"""``A x = k`` in whole numbers, without a plan.

Sums are those of integers, which wrap around: without ``jax_enable_x64`` they have 32 bits. Floats
tell where they do.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from constrained_core import ConstraintError, GroupSum
from numpyro_constrained.kernels.arrays.groups import Groups
from numpyro_constrained.kernels.arrays.inputs import refuse_unless_real
from numpyro_constrained.kernels.arrays.leaves import Layout, folded
from numpyro_constrained.kernels.arrays.linalg import if_everywhere, lift, matvec

__all__ = ["IntegerConstraint", "require_known_sums"]


def _largest() -> int:
    """Integer, a little below the last, so that no float rounds it up."""
    bits = np.iinfo(jnp.result_type(int)).bits
    return 2 ** (bits - 1) - 2 ** (bits - 8)


def require_known_sums(terms: float, num_variables: int, dtype: Any) -> None:
    """
    Raises:
        ConstraintError: integers and floats of a dtype together do not know sums of such terms.
    """
    rounding = num_variables * float(jnp.finfo(dtype).eps)
    if _largest() < terms < np.inf and terms * rounding >= _largest():
        raise ConstraintError(
            f"k: expected sums that integers of {np.iinfo(jnp.result_type(int)).bits} bits and "
            f"{np.dtype(dtype).name} know, got rows of A x whose terms may add up to {terms:g}; "
            "enable double precision by jax.config.update('jax_enable_x64', True), or divide rows "
            "and their k by common factors."
        )


class IntegerConstraint:
    """``A x = k`` in whole numbers, 0 <= x <= upper.

    Attributes:
        layout: how A and k are to be read.
        A, k: as given, as arrays (A may be a ``GroupSum``); of an A that was stacked with the
            leaves of a law one copy, since all are the one that was planned.
        upper: largest value by the base law, or None.
        k_rows: ``(*batch, m)`` k.
        integers: the same as int64, or None where it is traced.
    """

    def __init__(self, A: Any, k: Array, layout: Layout, upper: int | None) -> None:
        if not isinstance(A, GroupSum) and A.ndim > layout.row_dims:
            A = A[(0,) * (A.ndim - layout.row_dims)]
        self.A, self.k, self.layout, self.upper = A, k, layout, upper
        self.num_variables = int(A.shape[-1])
        is_known = not isinstance(k, Tracer)
        given: Any = np.asarray(k) if is_known else k  # what is known stays known inside a trace
        self.k_rows: Any = given[..., None] if self.is_vector else given
        self.batch_shape = self.k_rows.shape[:-1]
        self.integers = self.k_rows.astype(np.int64) if is_known else None

    @property
    def is_vector(self) -> bool:
        """Whether A was given as one row ``(n,)``, so that k has no row dimension."""
        return self.layout.is_vector

    @property
    def is_traced(self) -> bool:
        """Whether k or A belongs to a trace."""
        return any(isinstance(part, Tracer) for part in (self.A, self.k))

    def residual(self, value: Array) -> Array:
        """``A value - k``, in the rows of A; in whole numbers where value is of such a type, at
        most the largest of these."""
        refuse_unless_real("value", value)
        value = lift(value, 1 + len(self.batch_shape))
        if jnp.issubdtype(value.dtype, jnp.floating):
            return self._less_k(self._total(value))
        residual = self._whole_residual(value.astype(jnp.result_type(int)))
        value = value.astype(self.k.dtype)
        size = jnp.abs(value).max(initial=0) * self._longest + jnp.abs(self.k).max(initial=0)
        is_small = size <= _largest()
        return if_everywhere(is_small, lambda: residual, lambda: self._clipped(residual, value))

    def _whole_residual(self, value: Array) -> Array:
        """In whole numbers, up to multiples of what they wrap around at."""
        k = self.k_rows if self.integers is None else self.integers
        total, k = self._total(value), _wrapped(k[..., 0] if self.is_vector else k)
        return total - lift(k, total.ndim)

    def _clipped(self, residual: Array, value: Array) -> Array:
        """A residual that may have wrapped around; the largest integers where it has, or is not
        seen to have not, by floats."""
        about = self._less_k(self._total(value))
        size = self._total(jnp.abs(value), absolute=True)
        size = size + lift(jnp.abs(self.k), size.ndim)
        rounding = self.num_variables * float(jnp.finfo(size.dtype).eps)
        is_within = jnp.abs(about) + rounding * size < _largest()
        largest = np.iinfo(residual.dtype).max
        return jnp.where(is_within, residual, jnp.where(about < 0, -largest, largest))

    def _less_k(self, total: Array) -> Array:
        return total - lift(self.k, total.ndim)

    def _total(self, value: Array, absolute: bool = False) -> Array:
        """``A value``, or ``|A| value``, in the dtype of the value."""
        is_whole = jnp.issubdtype(value.dtype, jnp.integer)
        A: Any = self.A.weights if isinstance(self.A, GroupSum) else self.A
        if A is not None:
            A = abs(A) if absolute else A
            A = _wrapped(A) if is_whole else A.astype(value.dtype)
        if isinstance(self.A, GroupSum):
            value = value if A is None else value * lift(A, value.ndim)
            return Groups(self.A.index, self.A.num_groups).totals(value)
        return value @ A if self.is_vector else matvec(A, value)

    @property
    def _longest(self) -> Any:
        """At least the largest sum of a row of |A|."""
        if isinstance(self.A, GroupSum):
            return self.num_variables**0.5 * float(self.A.norms.max(initial=0))
        A: Any = self.A if isinstance(self.A, Tracer) else np.asarray(self.A)
        return abs(A).sum(-1).max(initial=0)

    @property
    def _limit(self) -> int | None:
        """What no value on the support exceeds, so that sums of others do not overflow, if that is
        known."""
        return None

    @folded
    def contains(self, value: Array) -> Array:
        """``(*batch,)`` whether every entry is a whole number in range and the sums are right.

        Values are summed as integers: no float has to hold their sums.
        """
        value, limit = stop_gradient(value), self._limit
        largest = int(np.iinfo(jnp.result_type(int)).max)
        inside = (value >= 0).all(-1)
        if jnp.issubdtype(value.dtype, jnp.floating):
            value = value.astype(jnp.result_type(float))
            is_whole = (value == jnp.floor(value)) & (value < largest)  # not of NaN
            inside, value = inside & is_whole.all(-1), jnp.where(is_whole, value, 0)
        elif value.dtype in (np.uint32, np.uint64):
            inside = inside & (value <= largest).all(-1)
        value = value.astype(jnp.result_type(int))
        upper = min(bound for bound in (largest, limit, self.upper) if bound is not None)
        if upper < largest:
            inside = inside & (value <= upper).all(-1)
        if limit is None:
            exact = self.residual(value) == 0
        else:
            value = lift(value.clip(0, limit), 1 + len(self.batch_shape))
            exact = self._whole_residual(value) == 0
        if self.integers is None:
            exact = exact & lift(jnp.rint(self.k) == self.k, exact.ndim)
        exact = exact if self.is_vector else exact.all(-1)
        return lift(inside, exact.ndim) & exact


def _wrapped(whole: Any) -> Any:
    """Whole numbers of any dtype as integers, which of 32 bits wrap around."""
    dtype = jnp.result_type(int)
    if not isinstance(whole, Tracer):
        return np.asarray(whole).astype(np.int64).astype(dtype)
    if dtype.itemsize > 4 or jnp.issubdtype(whole.dtype, jnp.integer):
        return jnp.rint(whole).astype(dtype)
    whole = jnp.rint(whole)
    return (whole - 2.0**32 * jnp.floor(whole / 2.0**32)).astype(jnp.uint32).astype(dtype)
