"""Laws of vectors given ``A x = k``."""

from pyro_constrained.distributions.bernoulli import ConstrainedBernoulli
from pyro_constrained.distributions.categorical import ConstrainedCategorical
from pyro_constrained.distributions.constrain import constrain
from pyro_constrained.distributions.gmrf import ConstrainedGMRF
from pyro_constrained.distributions.low_rank_multivariate_normal import (
    ConstrainedLowRankMultivariateNormal,
)
from pyro_constrained.distributions.multivariate_normal import ConstrainedMultivariateNormal
from pyro_constrained.distributions.multivariate_student_t import ConstrainedMultivariateStudentT
from pyro_constrained.distributions.normal import ConstrainedNormal
from pyro_constrained.distributions.poisson import ConstrainedPoisson

__all__ = [
    "ConstrainedBernoulli",
    "ConstrainedCategorical",
    "ConstrainedGMRF",
    "ConstrainedLowRankMultivariateNormal",
    "ConstrainedMultivariateNormal",
    "ConstrainedMultivariateStudentT",
    "ConstrainedNormal",
    "ConstrainedPoisson",
    "constrain",
]
