"""Loops that run inside a ``shard_map`` as they do outside of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from numpyro_constrained.kernels.arrays.leaves import is_sharded

__all__ = ["scan", "while_loop"]


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]], start: Any, columns: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """``jax.lax.scan``, whose state may begin as a constant and end as part of a batch that is
    spread over a mesh."""
    is_any = all(len(column) for column in jax.tree.leaves(columns))
    if is_any and is_sharded():
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
        after = stop_gradient(turn(start))
        start = jax.tree.map(lambda old, new: jnp.where(True, old, new), start, after)
    return start
