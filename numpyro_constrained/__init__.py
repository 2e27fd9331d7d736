"""NumPyro distributions under hard linear equality constraints ``A x = k``."""

from constrained_core import (
    ConstraintError,
    GroupSum,
    InfeasibleConstraintError,
    IntractableConstraintError,
    UnboundedSupportError,
    errors,
)
from numpyro_constrained import constraints, reparam, transforms
from numpyro_constrained import registry as _registry  # noqa: F401  (connects what is below)
from numpyro_constrained.distributions import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    constrain,
)
from numpyro_constrained.reparam import ConstrainedNormalReparam, auto_reparam
from numpyro_constrained.transforms import LinearEqualityTransform

__all__ = [
    "ConstrainedLowRankMultivariateNormal",
    "ConstrainedMultivariateNormal",
    "ConstrainedMultivariateStudentT",
    "ConstrainedNormal",
    "ConstrainedNormalReparam",
    "ConstraintError",
    "GroupSum",
    "InfeasibleConstraintError",
    "IntractableConstraintError",
    "LinearEqualityTransform",
    "UnboundedSupportError",
    "auto_reparam",
    "constrain",
    "constraints",
    "errors",
    "reparam",
    "transforms",
]
