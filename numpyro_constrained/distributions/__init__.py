"""Laws of vectors given ``A x = k``."""

from numpyro_constrained.distributions.bernoulli import ConstrainedBernoulli
from numpyro_constrained.distributions.categorical import ConstrainedCategorical
from numpyro_constrained.distributions.constrain import constrain
from numpyro_constrained.distributions.gmrf import ConstrainedGMRF
from numpyro_constrained.distributions.low_rank_multivariate_normal import (
    ConstrainedLowRankMultivariateNormal,
)
from numpyro_constrained.distributions.multivariate_normal import ConstrainedMultivariateNormal
from numpyro_constrained.distributions.multivariate_student_t import ConstrainedMultivariateStudentT
from numpyro_constrained.distributions.normal import ConstrainedNormal
from numpyro_constrained.distributions.poisson import ConstrainedPoisson

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
