"""Laws of vectors given ``A x = k``."""

from pyro_constrained.distributions.constrain import constrain
from pyro_constrained.distributions.low_rank_multivariate_normal import (
    ConstrainedLowRankMultivariateNormal,
)
from pyro_constrained.distributions.multivariate_normal import ConstrainedMultivariateNormal
from pyro_constrained.distributions.multivariate_student_t import ConstrainedMultivariateStudentT
from pyro_constrained.distributions.normal import ConstrainedNormal

__all__ = [
    "ConstrainedLowRankMultivariateNormal",
    "ConstrainedMultivariateNormal",
    "ConstrainedMultivariateStudentT",
    "ConstrainedNormal",
    "constrain",
]
