"""Products of the polynomials of many variables by a balanced tree, upwards and downwards.

In plain numbers, or in their logarithms where a coefficient may be smaller than the least number
of the dtype. Nodes are along the second dimension, coefficients along the first.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.kernels.arrays.polynomials import (
    convolve,
    correlate,
    log_convolve,
    log_correlate,
)

__all__ = ["LINEAR", "LOG", "Arithmetic", "outside", "products"]


class Arithmetic(NamedTuple):
    """How coefficients are written.

    Attributes:
        zero, one: the numbers 0 and 1.
        times: product of two coefficients.
        convolve, correlate: product of two polynomials, and its adjoint.
    """

    zero: float
    one: float
    times: Callable[[Array, Array], Array]
    convolve: Callable[[Array, Array, int], Array]
    correlate: Callable[[Array, Array, int], Array]


LINEAR = Arithmetic(0.0, 1.0, jnp.multiply, convolve, correlate)
LOG = Arithmetic(-jnp.inf, 0.0, jnp.add, log_convolve, log_correlate)


def products(leaves: Array, size: int, number: Arithmetic) -> list[Array]:
    """Products of ever more members, ``(degree + 1, nodes, N)``, the last of all of them.

    Args:
        leaves: ``(2, L, N)`` the polynomials of the members.
        size: number of coefficients that are needed.
        number: how they are written.
    """
    levels = [leaves]
    while levels[-1].shape[1] > 1:
        level = levels[-1] = _even(levels[-1], number)
        half = level.shape[1] // 2
        degree = min(2 * len(level) - 1, size)
        levels.append(number.convolve(level[:, :half], level[:, half:], degree))
    return levels


def outside(levels: list[Array], top: Array, number: Arithmetic) -> Array:
    """``(2, L', N)`` what a coefficient of every leaf is multiplied with in all terms of the
    product that ``top`` takes, ``(degree + 1, 1, N)``."""
    found = top
    for level in reversed(levels[:-1]):
        half = level.shape[1] // 2
        left, right = level[:, :half], level[:, half:]
        sides = [number.correlate(found[:, :half], part, len(level)) for part in (right, left)]
        found = jnp.concatenate(sides, 1)
    return found


def _even(level: Array, number: Arithmetic) -> Array:
    """With the polynomial 1 as a last node where the number of nodes is odd."""
    if level.shape[1] % 2 == 0:
        return level
    one = jnp.full_like(level[:, :1], number.zero).at[0].set(number.one)
    return jnp.concatenate([level, one], 1)
