"""What the leaves of a pytree no longer tell, and what is computed from them again."""

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions.util import lazy_property

from constrained_core.sparse import SparseMatrix
from numpyro_constrained.kernels.arrays.eager import is_traced

__all__ = [
    "AxesLayout",
    "Layout",
    "PromotedLeaves",
    "derived_property",
    "evaluated",
    "folded",
    "is_sharded",
    "leaf_shape",
    "unstacked",
    "untraced_property",
]

Result = TypeVar("Result")


def evaluated(function: Callable[..., Result]) -> Callable[..., Result]:
    """``function`` of what holds no tracer, computed at once, also inside a trace."""

    @wraps(function)
    def at_once(*args: Any, **kwargs: Any) -> Result:
        # Outside of one all is computed at once; there JAX would compile each constant that is
        # made inside of its own compiled functions for itself.
        if not is_traced():
            return function(*args, **kwargs)
        with jax.ensure_compile_time_eval():
            return function(*args, **kwargs)

    return at_once


def is_sharded() -> bool:
    """Whether this runs inside a ``shard_map``: there constants belong to no mesh, and branches
    have to agree in what varies over it."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def folded(function: Callable[..., Result]) -> Callable[..., Result]:
    """``function`` with all that depends on no tracer computed once, when a trace is made.

    Otherwise JAX would stage it with the rest, and a compiled loop, as that of NUTS, would factor
    the same matrices in every turn.
    """

    at_once = evaluated(function)

    @wraps(function)
    def fold(*args: Any, **kwargs: Any) -> Result:
        # Evaluation at once forgets the mesh of a shard_map, which tracers inside of it need.
        return function(*args, **kwargs) if is_sharded() else at_once(*args, **kwargs)

    return fold


class derived_property(lazy_property):  # named as the property that it is
    """A property unless the instance holds a leaf of this name; never kept, so that the leaves
    stay those that were given."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self.wrapped(instance)


class untraced_property(cached_property):  # named as the property that it is
    """A property computed from the leaves of a pytree, kept unless it holds tracers.

    The value has an attribute ``is_traced``. Kept tracers would outlive their trace.
    """

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        value = super().__get__(instance, owner)
        if instance is not None and value.is_traced:
            del instance.__dict__[self.attrname]
        return value


class Layout(NamedTuple):
    """How A and k are to be read: what their values or shapes no longer tell inside a trace.

    Attributes:
        row_dims: event dimensions of A: 1 for a vector, 2 for a matrix, 0 for a ``GroupSum``.
        matrix_batch, k_batch: batch dimensions of A and k when they were given.
        is_fixed: whether A is the same whenever the law is made again.
        has_fixed_k: whether k is.
        rank: of the A that was given, or None where it was not known.
        pivots: well conditioned columns of that A, or None.
        exact_bits: bits of an exact product with its rows, for redundant rows.
        dropped: the redundant rows of a sparse A.
    """

    row_dims: int
    matrix_batch: int
    k_batch: int
    is_fixed: bool = False
    has_fixed_k: bool = False
    rank: int | None = None
    pivots: tuple[int, ...] | None = None
    exact_bits: int = 0
    dropped: tuple[int, ...] = ()

    @property
    def is_vector(self) -> bool:
        """Whether A was given as one row ``(n,)``, so that k has no row dimension."""
        return self.row_dims == 1


class AxesLayout(Layout):
    """The layout of a law of ``vmap`` axes: equal to that of any law that they are axes of,
    whatever is known of its A."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self[:3] == other[:3]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self[:3])


class PromotedLeaves:
    """A class of pytrees of which leaves in half precision are promoted, as what users give is."""

    @classmethod
    def tree_unflatten(cls, aux_data: Any, params: Any) -> Any:
        """One of these leaves; what is no array stays what it is."""
        return super().tree_unflatten(  # type: ignore[misc]
            aux_data, jax.tree.map(_promoted, params)
        )


def _promoted(leaf: Any) -> Any:
    is_array = isinstance(leaf, jax.Array | np.ndarray)
    if is_array and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4:
        return leaf.astype(np.float32)
    return leaf


def leaf_shape(leaf: Any) -> tuple[int, ...] | None:
    """The shape of a leaf; None where a transformation of JAX put something else in its place."""
    if isinstance(leaf, SparseMatrix) and not hasattr(leaf.values, "shape"):
        return None
    return tuple(leaf.shape) if hasattr(leaf, "shape") else None


def unstacked(leaf: Any, event_dims: int, own_batch: int, batch_dims: int) -> Any:
    """``leaf`` with the batch dimensions that ``vmap`` stacked in front kept in front of others."""
    stacked = leaf.ndim - event_dims - own_batch
    missing = batch_dims - stacked - own_batch
    if stacked <= 0 or missing <= 0:
        return leaf
    return leaf.reshape(leaf.shape[:stacked] + (1,) * missing + leaf.shape[stacked:])
