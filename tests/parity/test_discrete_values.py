"""The discrete laws give the same numbers in both backends, to 1e-12."""

import numpy as np

from tests.adapters import BACKENDS, assert_close, each_case, pytest, shared_law
from tests.discrete_cases import CASES, UNBOUNDED, DiscreteCase

EXACT = 1e-12

pytestmark = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs both frameworks")


def _summaries(backend, case: DiscreteCase) -> dict[str, np.ndarray]:
    """All that a law knows about itself; tables and entropies where they are finite."""
    names = ["constraint_log_prob", "mean", "variance"]
    names += [] if case in UNBOUNDED else ["marginal_log_prob", "entropy"]
    return {name: backend.value(shared_law(backend, case), name) for name in names}


def _log_prob(backend, case: DiscreteCase) -> np.ndarray:
    """Of the same points of every element of the batch."""
    count = min(len(problem.points) for problem in case.problems.values())
    x = np.empty((count, *case.batch_shape, case.n))
    for index, problem in case.problems.items():
        x[(slice(None), *index)] = problem.points[:count]
    return backend.numpy(shared_law(backend, case).log_prob(backend.counts(x)))


@each_case(CASES)
def test_values(case: DiscreteCase):
    ours, theirs = (_summaries(backend, case) for backend in BACKENDS)
    for name, value in ours.items():
        assert_close(theirs[name], value, EXACT)
    assert_close(*(_log_prob(backend, case) for backend in BACKENDS), EXACT)


@each_case(CASES)
def test_gradients(case: DiscreteCase):
    def gradients(backend):
        def evidence(parameters):
            return backend.law(case, **parameters).constraint_log_prob().sum()

        return backend.gradients(evidence, case.params)

    ours, theirs = (gradients(backend) for backend in BACKENDS)
    for name, value in ours.items():
        assert_close(theirs[name], value, EXACT)
