"""Loops and branches that run inside a ``shard_map`` as they do outside of it."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.leaves import is_sharded

__all__ = ["cond", "is_any", "scan", "spread_as", "where_needed", "while_loop"]

Result = TypeVar("Result")


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]], start: Any, columns: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """``jax.lax.scan``, whose state may begin as a constant and end as part of a batch that is
    spread over a mesh."""
    has_columns = all(len(column) for column in jax.tree.leaves(columns))
    if has_columns and is_sharded():
        first = jax.tree.map(lambda column: column[0], columns)
        start = _spread(lambda state: step(state, first)[0], start)
    return jax.lax.scan(step, start, columns, reverse=reverse)


def while_loop(unfinished: Callable[[Any], Any], turn: Callable[[Any], Any], start: Any) -> Any:
    """``jax.lax.while_loop``, in the same way."""
    if is_sharded():
        start = _spread(turn, start)
    return jax.lax.while_loop(unfinished, turn, start)


def _spread(turn: Callable[[Any], Any], start: Any) -> Any:
    """The start, of the type that it has after a turn: it varies over the mesh if that does.

    In values it is the start alone, so that XLA removes the turns.
    """
    for _ in jax.tree.leaves(start):  # each turn may hand on to one part what varies in another
        start = _like(start, turn(start))
    return start


def cond(
    is_true: Array, one: Callable[..., Result], other: Callable[..., Result], *operands: Any
) -> Result:
    """``jax.lax.cond``, of whose branches one may be a constant and the other vary over a mesh."""
    if not is_sharded():
        return jax.lax.cond(is_true, one, other, *operands)
    return jax.lax.cond(
        is_true,
        lambda *given: _like(one(*given), other(*given)),
        lambda *given: _like(other(*given), one(*given)),
        *operands,
    )


def where_needed(is_needed: Array, exact: Callable[[], Array], plain: Callable[[], Array]) -> Array:
    """``exact()`` or ``plain()``, of which only one is computed, inside a trace too."""
    is_needed = stop_gradient(is_needed)
    if isinstance(is_needed, Tracer):
        return cond(is_needed, exact, plain)
    return exact() if is_needed else plain()


@jax.custom_batching.custom_vmap
def is_any(mask: Array) -> Array:
    """Whether an entry is true, in any element of a batch: only one branch is computed then."""
    return mask.any()


@is_any.def_vmap
def _is_any_of_batch(axis_size: int, in_batched: list, mask: Array) -> tuple[Array, bool]:
    return is_any(mask), False


def spread_as(value: Array, other: Array) -> Array:
    """The value, which varies over the mesh also where ``other``, of a shape that broadcasts to
    its own, does.

    A derivative in what is the same everywhere is a sum over the mesh; one in this is not.
    """
    return _like(value, other.astype(value.dtype)) if is_sharded() else value


def _like(value: Any, other: Any) -> Any:
    """The value, which varies over the mesh also where the other does."""
    return jax.tree.map(lambda a, b: jnp.where(True, a, stop_gradient(b)), value, other)
