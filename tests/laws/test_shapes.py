"""batch_shape, event_shape, sample_shape and expand."""

import numpy as np

from tests.adapters import assert_close, each_law, shared_law
from tests.cases import CASES, COMPILED, select


@each_law(CASES, COMPILED)
def test_shapes(backend, case, rng):
    law = shared_law(backend, case)
    assert tuple(law.batch_shape) == case.batch_shape
    assert tuple(law.event_shape) == (case.n,)
    assert backend.log_prob(law, case.points(rng)).shape == (3, *case.batch_shape)


@each_law(CASES, COMPILED)
def test_draws_differ_over_samples_and_batch(backend, case):
    draws = backend.draws(shared_law(backend, case), seed=1, shape=(50,))
    assert draws.shape == (50, *case.batch_shape, case.n)
    if all(problem.dimension > 0 for problem in case.problems.values()):
        assert len(np.unique(draws.reshape(-1, case.n), axis=0)) == draws.size // case.n


EXPANDED = select(
    "covariance-row", "covariance-dense-batch_loc", "precision-row_matrix", "diagonal-groups",
    "low_rank-dense", "student_tril-row", "student_scale-dense", "covariance-batched",
)  # fmt: skip


@each_law(EXPANDED, select("diagonal-groups", "low_rank-dense", "student_tril-row"))
def test_expand(backend, case, rng):
    law = shared_law(backend, case)
    shape = (4, *(case.batch_shape or (2,)))
    expanded = law.expand(shape)
    assert tuple(expanded.batch_shape) == shape
    assert tuple(expanded.event_shape) == (case.n,)
    assert backend.draws(law, 0).shape == (*case.batch_shape, case.n)
    assert backend.draws(law, 0, (0,)).shape == (0, *case.batch_shape, case.n)
    assert backend.draws(law, 0, (2, 3)).shape == (2, 3, *case.batch_shape, case.n)
    draws = backend.draws(expanded, 0, (3,))
    assert draws.shape == (3, *shape, case.n)
    assert len(np.unique(draws.reshape(-1, case.n), axis=0)) == draws.size // case.n
    x = case.points(rng, count=1)[0]
    density = np.broadcast_to(backend.log_prob(law, x), shape)
    assert_close(backend.log_prob(expanded, np.broadcast_to(x, (*shape, case.n))), density, 1e-12)
    for moment in ("mean", "variance"):
        full = np.broadcast_to(backend.value(law, moment), (*shape, case.n))
        assert_close(backend.value(expanded, moment), full, 1e-12)


@each_law(EXPANDED, select("diagonal-groups", "low_rank-dense", "student_tril-row"))
def test_float32_stays_float32(backend, case, rng):
    law = backend.law(case.rounded("float32"), "float32")
    x = backend.array(case.points(rng, count=1)[0], "float32")
    for value in (law.log_prob(x), law.mean, law.variance, law.entropy(), law.residual(x)):
        assert backend.numpy(value).dtype == np.float32
