"""Where constraints, transforms, divergences and base laws meet; nothing else happens here."""

import pyro.distributions as dist
from torch.distributions import biject_to, transform_to
from torch.distributions.kl import register_kl

from pyro_constrained.constraints import linear_equality
from pyro_constrained.distributions import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    constrain,
)
from pyro_constrained.distributions.gaussian import ConstrainedGaussian, kl_gaussian_gaussian
from pyro_constrained.transforms import LinearEqualityTransform

__all__: list[str] = []

biject_to.register(linear_equality, LinearEqualityTransform.onto)
transform_to.register(linear_equality, LinearEqualityTransform.onto)

register_kl(ConstrainedGaussian, ConstrainedGaussian)(kl_gaussian_gaussian)


@constrain.register(dist.Normal, independent_dims=1)
def _constrain_normal(base, A, k, **kw):
    return ConstrainedNormal(base.loc, base.scale, A, k, **kw)


@constrain.register(dist.MultivariateNormal)
def _constrain_multivariate_normal(base, A, k, **kw):
    return ConstrainedMultivariateNormal(base.loc, A=A, k=k, scale_tril=base.scale_tril, **kw)


@constrain.register(dist.LowRankMultivariateNormal)
def _constrain_low_rank(base, A, k, **kw):
    return ConstrainedLowRankMultivariateNormal(
        base.loc, base.cov_factor, base.cov_diag, A, k, **kw
    )
