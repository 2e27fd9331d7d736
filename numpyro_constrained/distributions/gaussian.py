"""What all normal laws given ``A x = k`` have in common."""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from numpyro_constrained.distributions.location_scale import ConstrainedLocationScale
from numpyro_constrained.kernels.linalg import lift
from numpyro_constrained.kernels.losses import normal_crps, normal_expected_l1

__all__ = ["ConstrainedGaussian", "kl_gaussian_gaussian"]

LOG_TWO_PI = math.log(2 * math.pi)


class ConstrainedGaussian(ConstrainedLocationScale):
    """N(mu, Sigma) given A x = k: again a normal law, on the subspace."""

    def _log_density(self, mahalanobis: Array) -> Array:
        law = self._conditional
        normaliser = law.half_log_det + 0.5 * law.constraint.free_size * LOG_TWO_PI
        return -0.5 * mahalanobis - lift(normaliser, mahalanobis.ndim)

    def entropy(self) -> Array:
        """``(*batch,)`` differential entropy on the subspace; 0 for a point mass."""
        law = self._conditional
        free_size = law.constraint.free_size
        if free_size == 0:
            return self._expanded(0.0 * law.surprise, 0)
        return self._expanded(law.half_log_det + 0.5 * free_size * (1 + LOG_TWO_PI), 0)

    def constraint_log_prob(self) -> Array:
        """``(*batch,)`` log density of A x at k under the base law.

        It is what a soft-constraint loss maximises. With redundant rows, the density is with
        respect to Hausdorff measure on the range of A.
        """
        law = self._conditional
        log_volume = law.constraint.log_volume - law.constraint.log_range_volume
        normaliser = law.constraint_half_log_det + 0.5 * law.constraint.rank * LOG_TWO_PI
        log_density = lift(log_volume, law.surprise.ndim) - 0.5 * law.surprise - normaliser
        return self._expanded(log_density, 0)

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
        ConstraintError: the subspaces differ, so that the divergence is infinite; two traced
            subspaces of equal rank are taken to be the same.
    """
    p._require_same_subspace(q)
    batch_shape = jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    one, other = p._conditional, q._conditional
    free_size = one.constraint.free_size
    if free_size == 0:
        return jnp.zeros(batch_shape, one.mean.dtype)
    ndim = max(one.mean.ndim, other.mean.ndim)
    trace = other.precision_trace(one)
    distance = other.mahalanobis(lift(one.mean, ndim) - lift(other.mean, ndim))
    log_dets = lift(other.half_log_det, ndim - 1) - lift(one.half_log_det, ndim - 1)
    divergence = 0.5 * (lift(trace, ndim - 1) + distance - free_size) + log_dets
    return jnp.broadcast_to(divergence, batch_shape)
