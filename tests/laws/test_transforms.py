"""The isometry from R^(n-r) onto the subspace."""

from dataclasses import replace

import numpy as np

from tests.adapters import assert_close, each_law
from tests.cases import COMPILED, select
from tests.laws.test_support import PROMISED_ROUNDINGS, roundings

TRANSFORMED = select(
    "covariance-row", "tril-ones", "covariance-dense", "covariance-redundant", "diagonal-incidence",
    "covariance-badly_scaled", "covariance-near_parallel", "covariance-none", "covariance-full",
    "diagonal-weighted_groups", "diagonal-empty_group", "diagonal-ones-batch_k",
    "covariance-batched", "covariance-single_free", "low_rank-zero_row",
)  # fmt: skip


def _transform(backend, case):
    A = backend.constraint(case.A)
    return backend.library.transforms.LinearEqualityTransform(A, backend.array(case.k))


def _batch(case):
    return np.broadcast_shapes(case.dense_A.shape[:-2], case.rows_k.shape[:-1])


def _coordinates(case, rng, *shape):
    dimension = next(iter(case.problems.values())).dimension
    return rng.normal(size=(*shape, *_batch(case), dimension))


@each_law(TRANSFORMED, COMPILED)
def test_reaches_the_subspace(backend, case, rng):
    z = _coordinates(case, rng, 4)
    x = backend.numpy(_transform(backend, case)(backend.array(z)))
    assert x.shape == (4, *_batch(case), case.n)
    on_its_batch = replace(case, params={**case.params, "loc": np.zeros(case.n)})
    assert np.max(roundings(on_its_batch, x, "float64"), initial=0.0) <= PROMISED_ROUNDINGS


@each_law(TRANSFORMED, COMPILED)
def test_is_an_isometry(backend, case, rng):
    transform = _transform(backend, case)
    z, w = _coordinates(case, rng, 2)
    x, y = (backend.numpy(transform(backend.array(value))) for value in (z, w))
    distance = np.linalg.norm(z - w, axis=-1)
    assert_close(np.linalg.norm(x - y, axis=-1), distance, 1e-12 * (1 + np.abs(x).max(initial=0.0)))


@each_law(TRANSFORMED, COMPILED)
def test_log_abs_det_is_zero(backend, case, rng):
    transform = _transform(backend, case)
    z = backend.array(_coordinates(case, rng, 3))
    found = backend.numpy(transform.log_abs_det_jacobian(z, transform(z)))
    assert_close(found, np.zeros((3, *_batch(case))), 0.0)


@each_law(TRANSFORMED, COMPILED)
def test_inverse(backend, case, rng):
    transform = _transform(backend, case)
    z = _coordinates(case, rng, 3)
    back = backend.numpy(transform.inv(transform(backend.array(z))))
    assert_close(back, z, 1e-11)


@each_law(TRANSFORMED, COMPILED)
def test_shapes_forward_and_back(backend, case, rng):
    transform = _transform(backend, case)
    dimension = next(iter(case.problems.values())).dimension
    shape = (2, *_batch(case))
    assert tuple(transform.forward_shape((*shape, dimension))) == (*shape, case.n)
    assert tuple(transform.inverse_shape((*shape, case.n))) == (*shape, dimension)
