"""Arrays of dtypes that frameworks do not have, and what is no array of numbers."""

import numpy as np
import pytest
from scipy import sparse

from constrained_core import ConstraintError, SparseMatrix
from tests.adapters import BACKENDS, assert_close, each_backend
from tests.cases import LOW_RANK, MVN, NORMAL, STUDENT
from tests.discrete_cases import BERNOULLI, CATEGORICAL, POISSON
from tests.laws.input_laws import ONES, WHOLE, N, each_law, laws

FOREIGN = [">f8", ">f4", "longdouble", ">i4", ">u2"]
"""Big-endian, as files of FITS or netCDF are read, or more digits than frameworks have."""
each_foreign = pytest.mark.parametrize("dtype", FOREIGN)

PARAMETERS = [
    (NORMAL, {"loc": ONES, "scale": ONES}),
    (MVN, {"loc": ONES, "covariance_matrix": np.diag(ONES)}),
    (MVN, {"loc": ONES, "precision_matrix": np.diag(ONES)}),
    (MVN, {"loc": ONES, "scale_tril": np.diag(ONES)}),
    (LOW_RANK, {"loc": ONES, "cov_factor": np.ones((N, 2)), "cov_diag": ONES}),
    (STUDENT, {"df": np.array(4.0), "loc": ONES, "scale": ONES}),
    (STUDENT, {"df": np.array(4.0), "loc": ONES, "scale_tril": np.diag(ONES)}),
    (POISSON, {"rate": ONES}),
    (BERNOULLI, {"probs": ONES / 2}),
    (BERNOULLI, {"logits": ONES}),
    (CATEGORICAL, {"probs": np.full((N, 2), 0.5)}),
    (CATEGORICAL, {"logits": np.ones((N, 2))}),
]
each_parameters = pytest.mark.parametrize(
    "law, parameters", PARAMETERS, ids=[f"{law}-{list(names)[-1]}" for law, names in PARAMETERS]
)


def field(backend, A, k, dtype):
    """Of white noise."""
    matrix = SparseMatrix.of(sparse.eye_array(N, format="csr")).with_values(ONES.astype(dtype))
    return backend.library.ConstrainedGMRF(ONES.astype(dtype), matrix, A, k, precision_root=matrix)


@each_backend
@each_foreign
@each_law
def test_sides_in_dtypes_that_frameworks_lack(backend, dtype, law):
    k = np.array([2, 2])
    expected = laws(backend)[law](WHOLE, k)
    for A in (WHOLE, SparseMatrix.of(sparse.csr_array(WHOLE))):
        A = A.astype(dtype) if A is WHOLE else A.with_values(A.values.astype(dtype))
        found = laws(backend)[law](A, k.astype(dtype))
        np.testing.assert_array_equal(backend.numpy(found.k), k)
        assert_close(backend.value(found, "mean"), backend.value(expected, "mean"), 1e-12)


@each_backend
@pytest.mark.parametrize("dtype", FOREIGN[:3])
@each_parameters
def test_parameters_in_dtypes_that_frameworks_lack(backend, dtype, law, parameters):
    native = "f4" if dtype == ">f4" else "f8"
    found, expected = (
        getattr(backend.library, law)(
            **{name: value.astype(kind) for name, value in parameters.items()}, A=ONES, k=3
        )
        for kind in (dtype, native)
    )
    for name in parameters:
        kept = backend.numpy(getattr(found, name))
        np.testing.assert_array_equal(kept, backend.numpy(getattr(expected, name)))
        assert kept.dtype == native


@each_backend
@each_foreign
def test_other_arguments_in_dtypes_that_frameworks_lack(backend, dtype):
    library, A, k = backend.library, WHOLE.astype(dtype), np.array([2, 2]).astype(dtype)
    for support in (
        library.constraints.linear_equality(A, k),
        library.transforms.LinearEqualityTransform(A, k),
        library.constraints.integer_linear_equality(A, k),
        library.ConstrainedPoisson(ONES, A, k, k_max=k),
        field(backend, A, k, dtype),
    ):
        np.testing.assert_array_equal(backend.numpy(support.A), WHOLE)
        np.testing.assert_array_equal(backend.numpy(support.k), [2, 2])
    assert (
        str(library.explain(A, k)).splitlines()[1:]
        == (str(library.explain(WHOLE.astype(float), np.array([2, 2]))).splitlines()[1:])
    )
    base = backend.base_law("poisson", ONES)
    np.testing.assert_array_equal(
        backend.walk(library.FiberSampler(base, A, k), 0, 3),
        backend.walk(library.FiberSampler(base, WHOLE, [2, 2]), 0, 3),
    )
    index = np.array([0, 0, 1]).astype(">i4" if "i" not in dtype else dtype)
    groups = library.GroupSum(index, 2, weights=np.array([1, 2, 3]).astype(dtype))
    np.testing.assert_array_equal(groups.to_dense(), [[1, 2, 0], [0, 0, 3]])


@each_foreign
def test_values_in_dtypes_that_jax_lacks(dtype):
    """Of PyTorch values are tensors."""
    backend = next((b for b in BACKENDS if b.name == "jax"), None)
    if backend is None:
        pytest.skip("without JAX")
    for law in (NORMAL, POISSON):
        made, x = laws(backend)[law](ONES, 6), ONES.astype(dtype)
        native = ONES.astype("f4" if dtype == ">f4" else "f8")
        np.testing.assert_array_equal(made.log_prob(x), made.log_prob(native))
        assert made.support(x) and made.residual(x) == 0


@each_backend
@pytest.mark.parametrize("wrong", [object, complex, "masked", str])
@each_parameters
def test_parameters_that_are_no_numbers_are_named(backend, law, parameters, wrong):
    expected = {complex: "real numbers", "masked": "numbers everywhere"}
    for name, value in parameters.items():
        value = np.ma.masked_array(value, True) if wrong == "masked" else value.astype(wrong)
        with pytest.raises(ConstraintError) as raised:
            getattr(backend.library, law)(**parameters | {name: value}, A=ONES, k=3)
        words = expected.get(wrong, "an array of numbers")
        assert str(raised.value).startswith(f"{name}: expected {words}")
