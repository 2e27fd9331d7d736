"""`constrain` turns a base distribution into the law of the table."""

import numpy as np
import pytest

from tests.adapters import assert_close, each_backend, each_law, shared_law
from tests.cases import select

CONSTRAINABLE = select(
    "covariance-row", "precision-row_matrix", "tril-ones", "covariance-dense-batch_all",
    "diagonal-weighted_groups", "diagonal-ones-batch_k", "low_rank-dense", "low_rank-dense-outer",
)  # fmt: skip


def _constrained(backend, case, **options):
    base = shared_law(backend, case).base_dist
    A = backend.constraint(case.A)
    return backend.library.constrain(base, A, backend.array(case.k), **options)


@each_law(CONSTRAINABLE, select("covariance-dense-batch_all", "diagonal-ones-batch_k"))
def test_constrain_the_base_distribution(backend, case, rng):
    law = shared_law(backend, case)
    found = _constrained(backend, case)
    assert type(found).__name__ == case.law
    assert tuple(found.batch_shape) == case.batch_shape
    x = case.points(rng)
    assert_close(backend.log_prob(found, x), backend.log_prob(law, x), 1e-11)
    assert_close(backend.value(found, "mean"), backend.value(law, "mean"), 1e-11)


@each_backend
def test_options_are_passed_on(backend):
    (case,) = select("covariance-row")
    law = _constrained(backend, case, gradient_estimator="score_function", validate_args=True)
    assert not law.has_rsample
    off = np.asarray(case.params["loc"]) + 1.0
    with pytest.raises(ValueError, match=r"(?i)residual"):
        law.log_prob(backend.array(off))


@each_backend
def test_a_base_that_is_not_registered(backend):
    (case,) = select("covariance-row")
    with pytest.raises((TypeError, NotImplementedError, ValueError), match=case.law):
        backend.library.constrain(shared_law(backend, case), case.A, case.k)
