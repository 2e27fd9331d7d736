"""Random walks whose smooth directions are as small as rounding of their precision."""

import warnings

import numpy as np
import pytest

from tests.adapters import each_backend


def walk(backend, n, dtype):
    field = backend.library.fields.random_walk(n, 2)
    values = backend.array(0.25 * np.asarray(field.precision.values), dtype)
    precision = field.precision.with_values(values)
    zeros = backend.array(np.zeros(n), dtype)
    return backend.library.ConstrainedGMRF(zeros, precision, field.A, field.k)


@each_backend
def test_values_in_single_precision_warn_where_they_tell_little(backend):
    """A log density of -1046 for -1055, and gradients of the wrong sign, came without a word."""
    with pytest.warns(UserWarning, match="give float64 values"):
        backend.value(walk(backend, 1000, "float32"), "entropy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n, dtype in ((50, "float32"), (1000, "float64")):
            assert np.isfinite(backend.value(walk(backend, n, dtype), "entropy"))


@each_backend
def test_variances_of_a_walk(backend):
    """By a decomposition of the square root of its precision, which has the root of its range."""
    n = 1000
    values, vectors = np.linalg.svd(np.diff(np.eye(n), 2, axis=0))[1:]
    expected = np.square(vectors[: n - 2] / values[:, None]).sum(0) / 0.25
    law = walk(backend, n, "float64")
    np.testing.assert_allclose(backend.value(law, "variance"), expected, rtol=1e-7)
