"""What is refused, and that the message helps; what is promoted instead of refused."""

from typing import Any

import numpy as np
import pytest

from constrained_core.errors import ConstraintError, InfeasibleConstraintError
from tests.adapters import Backend, assert_close, each_backend, shared_law
from tests.cases import Case, Groups, named

NAN, INF = float("nan"), float("inf")
A = np.array([[1.0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 2, 1, 0, 0]])


def law(backend: Backend, name: str, **changed: Any) -> Any:
    """The law of a named case with NumPy replacements."""
    native = {
        key: backend.array(value) if isinstance(value, np.ndarray) and key != "A" else value
        for key, value in changed.items()
    }
    return backend.law(named(name), validate_args=True, **native)


def message(raised: pytest.ExceptionInfo) -> str:
    return str(raised.value).lower()


MISSHAPED = {
    "k of another batch": {"loc": np.zeros((3, 5)), "k": np.zeros((2, 3))},
    "k with too few rows": {"k": np.zeros(2)},
    "A with too few columns": {"A": np.eye(3, 4)},
    "A of another batch": {"A": np.ones((2, 1, 5)), "k": np.zeros((3, 1))},
    "scale of another length": {"scale": np.ones(4)},
    "a group index too short": {"A": Groups(np.array([0, 1, 2, 2]), 3)},
}


@each_backend
@pytest.mark.parametrize("changed", MISSHAPED.values(), ids=MISSHAPED)
def test_shapes_that_do_not_fit(backend, changed):
    with pytest.raises(ValueError) as raised:
        law(backend, "diagonal-dense", **changed)
    assert "shape" in message(raised) or "expected" in message(raised)


@each_backend
def test_rows_that_disagree(backend):
    """Row 2 is the sum of rows 0 and 1, its k is not: the row and the size are named."""
    with pytest.raises(InfeasibleConstraintError) as raised:
        law(backend, "diagonal-dense", A=A, k=np.array([1.0, 2.0, 3.25]))
    assert "2" in message(raised)
    assert "0.25" in message(raised)


@each_backend
@pytest.mark.parametrize("changed", [
    {"A": np.zeros((1, 5)), "k": np.array([0.5])},
    {"A": Groups(np.array([0, 2, 2, 2, 0]), 3), "k": np.array([1.0, 0.5, 1.0])},
], ids=["zero row", "empty group"])  # fmt: skip
def test_nothing_to_sum(backend, changed):
    with pytest.raises(InfeasibleConstraintError):
        law(backend, "diagonal-dense", **changed)


@each_backend
def test_a_batch_with_one_infeasible_element(backend):
    k = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.5]])
    with pytest.raises(InfeasibleConstraintError):
        law(backend, "diagonal-dense", A=A, k=k)


@each_backend
def test_more_independent_rows_than_columns(backend):
    rows = np.random.default_rng(0).normal(size=(6, 5))
    with pytest.raises(ConstraintError):
        law(backend, "diagonal-dense", A=rows, k=np.arange(6.0))


@each_backend
def test_redundant_rows_may_outnumber_columns(backend):
    rows = np.tile(np.ones(5), (7, 1))
    assert law(backend, "diagonal-dense", A=rows, k=np.full(7, 2.0)).rank == 1


@each_backend
@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("name", ["A", "k", "loc", "scale"])
def test_not_finite(backend, name, bad):
    values = {"A": A[:2].copy(), "k": np.zeros(2), "loc": np.zeros(5), "scale": np.ones(5)}
    values[name].flat[1] = bad
    with pytest.raises(ValueError):
        law(backend, "diagonal-dense", **values)


@each_backend
@pytest.mark.parametrize("name", ["covariance_matrix", "precision_matrix"])
def test_not_positive_definite(backend, name):
    case = {"covariance_matrix": "covariance-dense", "precision_matrix": "precision-row_matrix"}
    with pytest.raises(ValueError):
        law(backend, case[name], **{name: np.diag([1.0, 1, -1, 1, 1])})


@each_backend
@pytest.mark.parametrize("case", ["diagonal-dense", "student_scale-dense"])
def test_negative_scale(backend, case):
    with pytest.raises(ValueError):
        law(backend, case, scale=np.array([1.0, 1, -1, 1, 1]))


@each_backend
@pytest.mark.parametrize("parameters", [
    {"covariance_matrix": None},
    {"precision_matrix": np.eye(5)},
    {"scale_tril": np.eye(5)},
], ids=["neither", "covariance and precision", "covariance and tril"])  # fmt: skip
def test_exactly_one_covariance_parameter(backend, parameters):
    with pytest.raises(ValueError) as raised:
        law(backend, "covariance-dense", **parameters)
    for word in ("covariance_matrix", "precision_matrix", "scale_tril"):
        assert word in message(raised)


@each_backend
@pytest.mark.parametrize("parameters", [{"scale_tril": None}, {"scale": np.ones(5)}])
def test_exactly_one_student_scale(backend, parameters):
    with pytest.raises(ValueError) as raised:
        law(backend, "student_tril-row", **parameters)
    assert "scale_tril" in message(raised)


@each_backend
@pytest.mark.parametrize("missing", [{"A": None}, {"k": None}, {"A": None, "k": None}])
def test_the_constraint_is_asked_for(backend, missing):
    with pytest.raises((TypeError, ValueError)):
        law(backend, "covariance-dense", **missing)


@each_backend
def test_integers_are_promoted(backend):
    build = backend.library.ConstrainedNormal
    whole = {"loc": [0, 1, 2], "scale": [1, 2, 1], "A": [[1, 1, 1]], "k": [4]}
    arrays = {name: np.array(value) for name, value in whole.items()}
    found = build(**{name: backend.array(value, "int64") for name, value in arrays.items()})
    expected = build(**{name: backend.array(value) for name, value in arrays.items()})
    x = np.array([1.0, 1.5, 1.5])
    assert np.issubdtype(backend.draws(found, 0).dtype, np.floating)
    assert_close(backend.log_prob(found, x), backend.log_prob(expected, x), 1e-6)


@each_backend
def test_float32_constraint_of_a_float64_law(backend, rng):
    case: Case = named("covariance-dense")  # its A and k are exact in float32
    A, k = backend.array(case.A, "float32"), backend.array(case.k, "float32")
    mixed = backend.law(case, A=A, k=k)
    x = case.points(rng)
    assert backend.draws(mixed, 0).dtype == np.float64
    expected = backend.log_prob(shared_law(backend, case), x)
    assert_close(backend.log_prob(mixed, x), expected, 1e-10)


@each_backend
def test_A_changed_in_place_is_seen(backend, rng):
    """The cache of analyses is on content."""
    case = named("diagonal-dense")
    rows = case.A.copy()
    before = backend.law(case, A=rows)
    rows[0] *= 2.0
    rows[0, 0] += 1.0
    after = backend.law(case, A=rows)
    x = backend.numpy(after.mean)
    np.testing.assert_allclose(rows @ x, case.k, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(case.A @ backend.numpy(before.mean), case.k, rtol=1e-10, atol=1e-10)
