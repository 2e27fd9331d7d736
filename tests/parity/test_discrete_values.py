"""The discrete laws give the same numbers in both backends, to 1e-12."""

import numpy as np
import pytest

from tests.adapters import BACKENDS, assert_close, each_case, shared_law
from tests.discrete_cases import (
    BERNOULLI,
    CASES,
    CATEGORICAL,
    ONES,
    POISSON,
    ROUTING,
    UNBOUNDED,
    DiscreteCase,
    select,
)

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


IN_LAWS = (
    *("poisson-margins", "poisson-ragged", "poisson-outer"),
    *("bernoulli-mixed", "bernoulli-none", "categorical-batch_k"),
)
"""Cases that tests/laws holds to the oracles in JAX as well."""


@each_case(tuple(case for case in CASES if case.name not in IN_LAWS))
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


@each_case(select("poisson-mixed", "poisson-equal", "bernoulli-mixed", "categorical-mixed"))
def test_covariances(case: DiscreteCase):
    """One of every kind of part."""
    assert_close(*(backend.value(shared_law(backend, case), "covariance") for backend in BACKENDS),
                 EXACT)  # fmt: skip


PLANS = (
    DiscreteCase("poisson", POISSON, {"rate": np.arange(1.0, 6)}, ROUTING, np.array([3, 4, 2])),
    DiscreteCase("none", BERNOULLI, {"probs": np.linspace(0.2, 0.7, 5)}, ONES, np.array(0)),
    DiscreteCase("few", CATEGORICAL, {"logits": np.eye(5, 4)}, ONES, np.array(1)),
)
"""No variable takes all the values that its base law has."""


@each_case(PLANS)
def test_what_depends_on_the_plan(case: DiscreteCase):
    """Tables, entropy and divergence of plans for one k and for all up to a bound: the same, in
    tables of one size where the base law has one."""
    answers, largest = [], np.maximum(case.rows_k, 1) + 1
    for backend in BACKENDS:
        law, bounded = backend.law(case), backend.law(case, k_max=largest)
        own, wide = (backend.value(each, "marginal_log_prob") for each in (law, bounded))
        assert own.shape == wide.shape or case.law == POISSON
        np.testing.assert_array_equal(wide[:, own.shape[1] :], -np.inf)
        assert_close(wide[:, : own.shape[1]], own, EXACT)
        ((name, value),) = case.params.items()
        other = backend.law(case, **{name: backend.array(value[::-1].copy())}, k_max=largest)
        entropies = [backend.value(each, "entropy") for each in (law, bounded)]
        divergences = [backend.numpy(backend.kl(each, other)) for each in (law, bounded)]
        answers.append([own, *entropies, *divergences])
        assert_close(entropies[0], case.expected(lambda problem: problem.entropy), EXACT)
    for ours, theirs in zip(*answers, strict=True):
        assert_close(theirs, ours, EXACT)
