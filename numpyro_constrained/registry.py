"""Where constraints, transforms, divergences and base laws meet; nothing else happens here."""

import numpyro.distributions as dist
from jax.interpreters import batching, mlir
from jax.tree_util import register_pytree_node, register_static
from numpyro.distributions import biject_to
from numpyro.distributions.batch_util import promote_batch_shape, vmap_over
from numpyro.distributions.kl import kl_divergence

from constrained_core import GroupSum, SparseMatrix
from numpyro_constrained.constraints import linear_equality, moving_linear_equality
from numpyro_constrained.distributions import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    constrain,
)
from numpyro_constrained.distributions.base import ConstrainedDistribution
from numpyro_constrained.distributions.discrete import kl_discrete_discrete
from numpyro_constrained.distributions.gaussian import ConstrainedGaussian, kl_gaussian_gaussian
from numpyro_constrained.kernels.arrays.host import HOST_CALL, batched, lowered
from numpyro_constrained.kernels.linear.car import car_precision
from numpyro_constrained.transforms import LinearEqualityTransform

__all__: list[str] = []

mlir.register_lowering(HOST_CALL, lowered)
batching.primitive_batchers[HOST_CALL] = batched

register_static(GroupSum)
register_pytree_node(
    SparseMatrix,
    lambda matrix: ((matrix.values,), matrix.pattern),
    lambda pattern, leaves: SparseMatrix.on(pattern, *leaves),
)

for support in (linear_equality, moving_linear_equality):
    biject_to.register(support, LinearEqualityTransform.onto)

kl_divergence.register(ConstrainedGaussian, ConstrainedGaussian)(kl_gaussian_gaussian)
for family in (ConstrainedPoisson, ConstrainedBernoulli, ConstrainedCategorical):
    kl_divergence.register(family, family)(kl_discrete_discrete)


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


@constrain.register(dist.CAR)
def _constrain_car(base, A, k, **kw):
    precision, root = car_precision(
        base.loc, base.adj_matrix, base.correlation, base.conditional_precision
    )
    return ConstrainedGMRF(base.loc, precision, A, k, precision_root=root, **kw)


@constrain.register(dist.Poisson, independent_dims=1)
def _constrain_poisson(base, A, k, **kw):
    return ConstrainedPoisson(base.rate, A, k, **kw)


@constrain.register(dist.BernoulliProbs, independent_dims=1)
def _constrain_bernoulli_probs(base, A, k, **kw):
    return ConstrainedBernoulli(base.probs, A, k, **kw)


@constrain.register(dist.BernoulliLogits, independent_dims=1)
def _constrain_bernoulli_logits(base, A, k, **kw):
    return ConstrainedBernoulli(A=A, k=k, logits=base.logits, **kw)


@constrain.register(dist.CategoricalProbs, independent_dims=1)
def _constrain_categorical_probs(base, A, k, **kw):
    return ConstrainedCategorical(base.probs, A, k, **kw)


@constrain.register(dist.CategoricalLogits, independent_dims=1)
def _constrain_categorical_logits(base, A, k, **kw):
    return ConstrainedCategorical(A=A, k=k, logits=base.logits, **kw)


@promote_batch_shape.register
def _promote(law: ConstrainedDistribution):
    return law._restacked()


@vmap_over.register
def _over_normal(law: ConstrainedNormal, loc=None, scale=None, A=None, k=None):
    return law._with_axes(loc=loc, scale=scale, A=A, k=k)


@vmap_over.register
def _over_multivariate_normal(
    law: ConstrainedMultivariateNormal,
    loc=None,
    covariance_matrix=None,
    A=None,
    k=None,
    precision_matrix=None,
    scale_tril=None,
):
    given = (axis for axis in (covariance_matrix, precision_matrix, scale_tril) if axis is not None)
    return law._with_axes(loc=loc, _factor=next(given, None), A=A, k=k)


@vmap_over.register
def _over_low_rank_multivariate_normal(
    law: ConstrainedLowRankMultivariateNormal,
    loc=None,
    cov_factor=None,
    cov_diag=None,
    A=None,
    k=None,
):
    return law._with_axes(loc=loc, cov_factor=cov_factor, cov_diag=cov_diag, A=A, k=k)


@vmap_over.register
def _over_gmrf(
    law: ConstrainedGMRF, loc=None, precision_matrix=None, A=None, k=None, precision_root=None
):
    return law._with_axes(loc=loc, _precision=precision_matrix, A=A, k=k, _root=precision_root)


@vmap_over.register
def _over_multivariate_student_t(
    law: ConstrainedMultivariateStudentT,
    df=None,
    loc=None,
    scale_tril=None,
    A=None,
    k=None,
    scale=None,
):
    return law._with_axes(
        df=df, loc=loc, _factor=scale if scale_tril is None else scale_tril, A=A, k=k
    )


@vmap_over.register
def _over_poisson(law: ConstrainedPoisson, rate=None, A=None, k=None):
    return law._with_axes(rate=rate, k=k)


@vmap_over.register
def _over_bernoulli(law: ConstrainedBernoulli, probs=None, A=None, k=None, logits=None):
    return law._with_axes(probs=probs, k=k, logits=logits)


@vmap_over.register
def _over_categorical(law: ConstrainedCategorical, probs=None, A=None, k=None, logits=None):
    return law._with_axes(probs=probs, k=k, logits=logits)
