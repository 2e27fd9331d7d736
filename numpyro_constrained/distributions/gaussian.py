"""What all normal laws given ``A x = k`` have in common."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.distributions.location_scale import (
    LOG_TWO_PI,
    ConstrainedLocationScale,
)
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.linear.losses import normal_crps, normal_expected_l1

__all__ = ["ConstrainedGaussian", "kl_gaussian_gaussian"]


class ConstrainedGaussian(ConstrainedLocationScale):
    """N(mu, Sigma) given A x = k: again a normal law, on the subspace."""

    def _log_density(self, mahalanobis: Array) -> Array:
        half_log_det = self._conditional.half_log_det
        normaliser = half_log_det + self._half_sizes()[1] * LOG_TWO_PI
        return -0.5 * mahalanobis - lift(normaliser, mahalanobis.ndim)

    def _half_sizes(self) -> tuple[Any, Any]:
        """Half of r and of n - r, in the rank of the law."""
        constraint, like = self._constraint, self._conditional.half_log_det
        rank, free_size = (
            0.5 * (size if isinstance(size, int) else lift(size, like.ndim).astype(like.dtype))
            for size in (constraint.rank, constraint.free_size)
        )
        return rank, free_size

    def entropy(self) -> Array:
        """``(*batch,)`` differential entropy on the subspace; 0 for a point mass."""
        entropy = self._conditional.half_log_det + self._half_sizes()[1] * (1 + LOG_TWO_PI)
        return self._expanded(self._unless_point(entropy), 0)

    def constraint_log_prob(self) -> Array:
        """``(*batch,)`` log density of A x at k under the base law.

        It is what a soft-constraint loss maximises. With redundant rows, the density is with
        respect to Hausdorff measure on the range of A.
        """
        law = self._conditional
        normaliser = law.constraint_half_log_det + self._half_sizes()[0] * LOG_TWO_PI
        log_density = -0.5 * law.surprise - lift(normaliser, law.surprise.ndim)
        log_volume = law.constraint.matrix.log_range_volume
        return self._expanded(log_density - lift(log_volume, log_density.ndim), 0)

    def expected_l1(self, target: Any) -> Array:
        """``(*batch, n)`` E|x_i - target_i|, exactly (error function)."""
        return normal_expected_l1(*self._moments_and(target))

    def crps(self, target: Any) -> Array:
        """``(*batch, n)`` continuous ranked probability score of every coordinate (Gneiting and
        Raftery 2007); lower is better."""
        return normal_crps(*self._moments_and(target))


def kl_gaussian_gaussian(p: ConstrainedGaussian, q: ConstrainedGaussian) -> Array:
    """KL(p || q) of two normal laws on one subspace.

    Raises:
        ConstraintError: the subspaces differ, so that the divergence is infinite; inside a trace
            it is.
    """
    same = p._has_subspace_of(q)
    batch_shape = jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    one, other = p._conditional, q._conditional
    ndim = max(one.mean.ndim, other.mean.ndim)
    trace = other.precision_trace(one)
    distance = other.mahalanobis(lift(one.mean, ndim) - lift(other.mean, ndim))
    log_dets = lift(other.half_log_det, ndim - 1) - lift(one.half_log_det, ndim - 1)
    size = 2 * lift(jnp.asarray(p._half_sizes()[1]), ndim - 1)
    divergence = 0.5 * (lift(trace, ndim - 1) + distance - size) + log_dets
    divergence = jnp.broadcast_to(p._unless_point(divergence), batch_shape)
    return jnp.where(same, divergence, jnp.inf)
