"""The same inputs give the same numbers in both backends, to 1e-12 of their scale.

Where the case is too ill-conditioned for that, to what rounding does to its figures.
"""

import numpy as np
import pytest

from tests.adapters import BACKENDS, assert_close_in, each_case, shared_law
from tests.cases import CASES, GAUSSIAN, Case, select

EXACT = 1e-12

pytestmark = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs both frameworks")


def pair(function) -> list[np.ndarray]:
    return [function(backend) for backend in BACKENDS]


def _assert_same(case: Case, pair_of_values, unit: float = 1.0) -> None:
    torch_value, jax_value = pair_of_values
    assert_close_in(unit, torch_value, jax_value, max(EXACT, case.rounding))


@each_case(CASES)
def test_log_prob(case: Case, rng):
    x = case.points(rng)
    _assert_same(case, pair(lambda backend: backend.log_prob(shared_law(backend, case), x)))


@each_case(CASES)
@pytest.mark.parametrize(
    ("quantity", "power"),
    [("mean", 1), ("variance", 2), ("covariance", 2), ("entropy", 0), ("constraint_log_prob", 0)],
)
def test_summaries(case: Case, quantity: str, power: int):
    values = pair(lambda backend: backend.value(shared_law(backend, case), quantity))
    _assert_same(case, values, case.unit**power)


@each_case(GAUSSIAN)
@pytest.mark.parametrize(
    ("loss", "power"),
    [("expected_l1", 1), ("expected_l2", 2), ("crps", 1), ("project", 1)],
)
def test_functions_of_a_target(case: Case, loss: str, power: int, rng):
    target = case.unit * rng.normal(size=(*case.batch_shape, case.n))
    values = pair(lambda backend: backend.loss(shared_law(backend, case), loss, target))
    _assert_same(case, values, case.unit**power)


@each_case(GAUSSIAN)
def test_kl(case: Case):
    name = case.covariance_name
    other = case.with_params(**{name: 1.5 * case.params[name], "loc": -case.params["loc"]})

    def divergence(backend):
        return backend.numpy(backend.kl(shared_law(backend, case), backend.law(other)))

    _assert_same(case, pair(divergence))


TRANSFORMED = select(
    "covariance-row", "tril-ones", "covariance-dense", "covariance-redundant", "covariance-none",
    "covariance-badly_scaled", "covariance-full", "diagonal-weighted_groups", "covariance-batched",
    "diagonal-incidence", "diagonal-empty_group",
)  # fmt: skip


@each_case(TRANSFORMED)
def test_transform_and_its_inverse(case: Case, rng):
    rank = next(iter(case.problems.values())).rank
    z = rng.normal(size=(2, *case.batch_shape, case.n - rank))

    def there_and_back(backend):
        A, k = backend.constraint(case.A), backend.array(case.k)
        transform = backend.library.transforms.LinearEqualityTransform(A, k)
        x = transform(backend.array(z))
        back = backend.numpy(transform.inv(x))
        # The matrices of a batch have pivots of their own: bases are the same but for a rotation.
        is_batch = isinstance(case.A, np.ndarray) and case.A.ndim > 2
        return (np.linalg.norm(x[0] - x[1], axis=-1) if is_batch else backend.numpy(x)), back

    torch_values, jax_values = pair(there_and_back)
    for values in zip(torch_values, jax_values, strict=True):
        _assert_same(case, values)
