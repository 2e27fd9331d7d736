"""Laws on the subspace A x = k that the usual cures make of independent normal pixels.

Densities are with respect to Hausdorff measure on the subspace, as those of the constrained laws.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random

from constrained_core import GroupSum
from rivals.layers_jax import complete, last_of_each_row, projected

__all__ = ["CompletedNormal", "ProjectedNormal", "half_log_volume", "pixels_that_follow"]

LOG_TWO_PI = math.log(2 * math.pi)


def half_log_volume(A: GroupSum) -> float:
    """1/2 log det A A': from densities of k to lengths orthogonal to the subspace."""
    return float(0.5 * np.log(A.sizes).sum())


class CuredNormal(dist.Distribution):
    """x ~ N(loc, scale^2), moved to the subspace.

    Args:
        loc, scale: ``(*batch, n)``.
        A: disjoint sums of all n variables, with weights 1.
        k: ``(*batch, m)``.
    """

    support = dist.constraints.real_vector
    reparametrized_params = ["loc", "scale", "k"]

    def __init__(self, loc: Array, scale: Array, A: GroupSum, k: Array) -> None:
        self.loc, self.scale, self.A, self.k = loc, scale, A, k
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def cured(self, values: Array) -> Array:
        """``(*batch, n)`` where values are moved to."""
        raise NotImplementedError

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        noise = random.normal(key, (*sample_shape, *self.loc.shape), self.loc.dtype)
        return self.cured(self.loc + self.scale * noise)

    @property
    def mean(self) -> Array:
        return self.cured(self.loc)  # the move is affine

    def _batched(self, function: Any, values: Array) -> Array:
        """A rival's function of one vector and its k, for all of them."""
        k = jnp.broadcast_to(self.k, (*values.shape[:-1], self.k.shape[-1]))
        flat = values.reshape(-1, values.shape[-1]), k.reshape(-1, k.shape[-1])
        return jax.vmap(function)(*flat).reshape(values.shape)


class ProjectedNormal(CuredNormal):
    """N(loc, scale^2), each draw moved to the nearest point of the subspace.

    What ends at x came from x plus a number t_g, the same for all s_g variables of a group. The
    integral of the normal density over a row's length sqrt(s_g) t_g leaves, for each group with
    precisions p_i = scale_i^-2, gaps d_i = x_i - loc_i and c = sum p_i d_i / sum p_i,

        prod_i N(d_i - c; 0, scale_i^2) * sqrt(2 pi s_g / sum p_i).
    """

    def cured(self, values: Array) -> Array:
        A = self.A.to_dense()
        return self._batched(lambda value, k: projected(value, A, k), values)

    def log_prob(self, value: Array) -> Array:
        rows = jnp.asarray(self.A.to_dense(), value.dtype)
        precision, gap = self.scale**-2, value - self.loc
        total = precision @ rows.T
        common = (precision * gap) @ rows.T / total
        rest = precision * jnp.square(gap - common @ rows) + LOG_TWO_PI
        density = -0.5 * rest.sum(-1) - jnp.log(self.scale).sum(-1)
        lengths = jnp.log(jnp.asarray(self.A.sizes, value.dtype)) + LOG_TWO_PI
        return density + 0.5 * (lengths - jnp.log(total)).sum(-1)


class CompletedNormal(CuredNormal):
    """Independent N(loc, scale^2), but one pixel of each group follows from the others.

    The density of the free pixels becomes one of lengths in the subspace by -1/2 log det A A'. The
    pixel that follows is the one nearest to the middle of the image: where most of the ink is, what
    the others leave shows least.
    """

    @property
    def dependent(self) -> np.ndarray:
        return pixels_that_follow(self.A)

    def cured(self, values: Array) -> Array:
        A, dependent = self.A.to_dense(), self.dependent
        return self._batched(lambda value, k: complete(value, A, k, dependent), values)

    def log_prob(self, value: Array) -> Array:
        terms = dist.Normal(self.loc, self.scale, validate_args=False).log_prob(value)
        free = jnp.ones(value.shape[-1], value.dtype).at[self.dependent].set(0.0)
        return terms @ free - half_log_volume(self.A)


def pixels_that_follow(A: GroupSum) -> np.ndarray:
    """``(m,)`` of each group the pixel nearest to the middle of the image."""
    return last_of_each_row(A.to_dense(), from_the_edge(A.shape[1]))


def from_the_edge(pixels: int) -> list[int]:
    """All pixels of a square image, the nearest to its middle last."""
    side = round(pixels**0.5)
    row, column = np.divmod(np.arange(pixels), side)
    middle = (side - 1) / 2
    distance = (row - middle) ** 2 + (column - middle) ** 2
    return np.argsort(-distance, stable=True).tolist()
