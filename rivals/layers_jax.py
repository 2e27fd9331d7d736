"""The usual cures for a broken law ``A x = k``, in JAX.

A is a concrete matrix ``(m, n)`` of independent rows. Each function works on one vector ``(n,)``
with its k ``(m,)``; ``jax.vmap`` makes it work on a batch.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_constrained import ConstrainedNormal

__all__ = [
    "complete",
    "last_of_each_row",
    "projected",
    "semantic_loss",
    "soft_penalty",
    "squared_penalty",
]


def soft_penalty(value: Array, A: np.ndarray, k: Array) -> Array:
    """``(m,)`` by how much each row misses, |A x - k|."""
    return jnp.abs(A @ value - k)


def squared_penalty(value: Array, A: np.ndarray, k: Array) -> Array:
    """``(m,)`` the squares of what each row misses."""
    return jnp.square(A @ value - k)


def semantic_loss(loc: Array, scale: Array, A: np.ndarray, k: Array) -> Array:
    """Minus the log density of ``A x = k`` under independent normal x.

    For continuous variables what the semantic loss of Xu et al. (2018) is for Boolean ones.
    """
    return -ConstrainedNormal(loc, scale, A, k, validate_args=False).constraint_log_prob()


def projected(value: Array, A: np.ndarray, k: Array) -> Array:
    """The nearest point with ``A x = k``: after training, or as a layer of the network.

    Chen, Constante Flores and Li (2024), *Physics-informed neural networks with hard linear
    equality constraints*.
    """
    inverse = np.linalg.pinv(A)
    nearest = value - inverse @ (A @ value - k)
    return nearest - inverse @ (A @ nearest - k)  # again, for what rounding has left


def complete(value: Array, A: np.ndarray, k: Array, dependent: np.ndarray) -> Array:
    """Keep the free variables; the dependent ones follow from ``A x = k``.

    With variables chosen beforehand this is elimination (the network predicts n - m of them); with
    the last variable of each row in some order, see ``last_of_each_row``, it is the constraint
    layer of Stoian et al. (2024) for equalities.

    Args:
        value: ``(n,)``; what it says of the dependent variables is ignored.
        dependent: ``(m,)`` the variables that follow, of m independent columns.
    """
    free = value.at[dependent].set(0.0)
    return free.at[dependent].set(np.linalg.inv(A[:, dependent]) @ (k - A @ free))


def last_of_each_row(A: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """``(m,)`` the variables that a constraint layer overwrites.

    Args:
        A: ``(m, n)`` of independent rows.
        order: a permutation of the n variables; the last that can follow from the others do.
    """
    last: list[int] = []
    for variable in reversed(order):
        if np.linalg.matrix_rank(A[:, [*last, variable]]) == len(last) + 1:
            last.append(int(variable))
    return np.array(last)
