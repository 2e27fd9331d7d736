"""Pyro distributions under hard linear equality constraints ``A x = k``."""

from constrained_core import (
    ConstraintError,
    FiberSamplerWarning,
    GroupSum,
    InfeasibleConstraintError,
    IntractableConstraintError,
    NoBaseLawError,
    ParameterError,
    SparseMatrix,
    UnboundedSupportError,
    __version__,
    errors,
    fields,
    summing_matrix,
)
from pyro_constrained import _requirements, constraints, reparam, transforms  # noqa: F401
from pyro_constrained import registry as _registry  # noqa: F401  (connects what is below)
from pyro_constrained.distributions import (
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
from pyro_constrained.explanation import explain
from pyro_constrained.fiber_sampler import FiberSampler
from pyro_constrained.reparam import (
    ConstrainedNormalReparam,
    MarginalExpectationReparam,
    auto_reparam,
)
from pyro_constrained.transforms import LinearEqualityTransform

__all__ = [
    "ConstrainedBernoulli",
    "ConstrainedCategorical",
    "ConstrainedGMRF",
    "ConstrainedLowRankMultivariateNormal",
    "ConstrainedMultivariateNormal",
    "ConstrainedMultivariateStudentT",
    "ConstrainedNormal",
    "ConstrainedNormalReparam",
    "ConstrainedPoisson",
    "ConstraintError",
    "FiberSampler",
    "FiberSamplerWarning",
    "GroupSum",
    "InfeasibleConstraintError",
    "IntractableConstraintError",
    "LinearEqualityTransform",
    "MarginalExpectationReparam",
    "NoBaseLawError",
    "ParameterError",
    "SparseMatrix",
    "UnboundedSupportError",
    "__version__",
    "auto_reparam",
    "constrain",
    "constraints",
    "errors",
    "explain",
    "fields",
    "reparam",
    "summing_matrix",
    "transforms",
]
