"""What all normal laws given ``A x = k`` have in common."""

import torch
from torch import Tensor

from pyro_constrained.distributions.location_scale import (
    LOG_TWO_PI,
    ConstrainedLocationScale,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.linear.losses import normal_crps, normal_expected_l1

__all__ = ["ConstrainedGaussian", "kl_gaussian_gaussian"]


@in_full_precision
class ConstrainedGaussian(ConstrainedLocationScale):
    """N(mu, Sigma) given A x = k: again a normal law, on the subspace."""

    def _log_density(self, mahalanobis: Tensor) -> Tensor:
        law = self._conditional
        largest = -0.5 * LOG_TWO_PI * law.constraint.free_size - law.half_log_det
        return torch.sub(largest, mahalanobis, alpha=0.5)

    def entropy(self) -> Tensor:
        """``(*batch,)`` differential entropy on the subspace; 0 for a point mass."""
        law = self._conditional
        free_size = law.constraint.free_size
        entropy = law.half_log_det + 0.5 * free_size * (1 + LOG_TWO_PI)
        return self._expanded(self._unless_point(entropy), 0)

    def constraint_log_prob(self) -> Tensor:
        """``(*batch,)`` log density of A x at k under the base law.

        It is what a soft-constraint loss maximises. With redundant rows, the density is with
        respect to Hausdorff measure on the range of A.
        """
        law = self._conditional
        normaliser = law.constraint_half_log_det + 0.5 * law.constraint.real_rank * LOG_TWO_PI
        log_volume = law.constraint.matrix.log_range_volume
        return self._expanded(-0.5 * law.surprise - normaliser - log_volume, 0)

    def expected_l1(self, target: Tensor) -> Tensor:
        """``(*batch, n)`` E|x_i - target_i|, exactly (error function)."""
        return normal_expected_l1(self.mean, self.variance, target)

    def crps(self, target: Tensor) -> Tensor:
        """``(*batch, n)`` continuous ranked probability score of every coordinate (Gneiting and
        Raftery 2007); lower is better."""
        return normal_crps(self.mean, self.variance, target)


def kl_gaussian_gaussian(p: ConstrainedGaussian, q: ConstrainedGaussian) -> Tensor:
    """KL(p || q) of two normal laws on one subspace.

    Raises:
        ConstraintError: the subspaces differ, so that the divergence is infinite; where values
            cannot be looked at, it is.
    """
    same = p._has_subspace_of(q)
    one, other = p._conditional, q._conditional
    free_size = one.constraint.free_size
    trace = other.precision_trace(one)
    distance = other.mahalanobis(one.mean - other.mean)
    divergence = 0.5 * (trace + distance - free_size) + other.half_log_det - one.half_log_det
    divergence = torch.where(same, p._unless_point(divergence), torch.inf)
    return p._expanded(q._expanded(divergence, 0), 0)
