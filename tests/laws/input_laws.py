"""Laws of six variables, for what a user may pass to them."""

import numpy as np
import pytest

from tests.cases import MVN, NORMAL
from tests.discrete_cases import CATEGORICAL, POISSON

N = 6
ONES = np.ones(N)
RNG = np.random.default_rng(11)
LOC = RNG.normal(size=N)
ROOT = np.tril(0.3 * RNG.normal(size=(N, N))) + np.eye(N)


def laws(backend):
    """name -> a function of A and k, with parameters for six variables."""
    library, ones = backend.library, backend.array(ONES)
    return {
        NORMAL: lambda A, k: library.ConstrainedNormal(ones, ones, A, k),
        MVN: lambda A, k: library.ConstrainedMultivariateNormal(
            ones, A=A, k=k, scale_tril=backend.array(ROOT)
        ),
        POISSON: lambda A, k: library.ConstrainedPoisson(ones, A, k),
        CATEGORICAL: lambda A, k: library.ConstrainedCategorical(
            probs=backend.array(np.full((N, 3), 1 / 3)), A=A, k=k
        ),
    }


LAWS = [NORMAL, MVN, POISSON, CATEGORICAL]
each_law = pytest.mark.parametrize("law", LAWS)


WHOLE = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 2]])
