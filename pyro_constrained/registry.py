"""Where constraints, transforms, divergences and base laws meet; nothing else happens here."""

import pyro.distributions as dist
from pyro.ops.integrator import register_exception_handler
from torch.distributions import biject_to, transform_to
from torch.distributions.kl import register_kl
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from constrained_core import ParameterError
from pyro_constrained.constraints import linear_equality
from pyro_constrained.distributions import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    ConstrainedPoisson,
    constrain,
)
from pyro_constrained.distributions.discrete import kl_discrete_discrete
from pyro_constrained.distributions.gaussian import ConstrainedGaussian, kl_gaussian_gaussian
from pyro_constrained.kernels.arrays.in_place import count_step, note_step
from pyro_constrained.transforms import LinearEqualityTransform

__all__: list[str] = []

biject_to.register(linear_equality, LinearEqualityTransform.onto)
transform_to.register(linear_equality, LinearEqualityTransform.onto)

register_kl(ConstrainedGaussian, ConstrainedGaussian)(kl_gaussian_gaussian)
for family in (ConstrainedPoisson, ConstrainedBernoulli, ConstrainedCategorical):
    register_kl(family, family)(kl_discrete_discrete)

# A step of HMC or NUTS to parameters that make no law is a rejected one.
register_exception_handler("constrained", lambda error: isinstance(error, ParameterError))


# A law that is kept tells that a step of an optimiser changed what it was made of.
register_optimizer_step_pre_hook(note_step)
register_optimizer_step_post_hook(count_step)


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


@constrain.register(dist.Poisson, independent_dims=1)
def _constrain_poisson(base, A, k, **kw):
    return ConstrainedPoisson(base.rate, A, k, **kw)


@constrain.register(dist.Bernoulli, independent_dims=1)
def _constrain_bernoulli(base, A, k, **kw):
    return ConstrainedBernoulli(A=A, k=k, **_given(base), **kw)


@constrain.register(dist.Categorical, independent_dims=1)
def _constrain_categorical(base, A, k, **kw):
    return ConstrainedCategorical(A=A, k=k, **_given(base), **kw)


def _given(base):
    """The parameter that the base law was made from."""
    name = "probs" if base._param is base.__dict__.get("probs") else "logits"
    return {name: base._param}
