"""Values of any integer type, arrays that change after the law was made, sums that are not one."""

import numpy as np
import pytest

from constrained_core import ParameterError
from tests.adapters import each_backend
from tests.discrete_cases import BERNOULLI, CATEGORICAL, POISSON, DiscreteCase

ROUTES = np.array([[1, 1, 0], [0, 1, 1]])
VALUES = {
    POISSON: ({"rate": np.array([1.0, 2.0, 3.0])}, [100, 27, 90]),
    BERNOULLI: ({"probs": np.array([0.2, 0.5, 0.7])}, [1, 1, 0]),
    CATEGORICAL: ({"probs": np.full((3, 200), 1 / 200)}, [120, 5, 199]),
}
TYPES = ["uint8", "int16", "int32", "int64"]


@each_backend
@pytest.mark.parametrize("law", VALUES)
def test_integers_of_any_type(backend, law):
    params, x = VALUES[law]
    for A in (np.ones((1, 3), int), ROUTES):
        case = DiscreteCase("", law, params, A, A @ x)
        made = backend.law(case, validate_args=True)
        expected = backend.log_prob(made, np.array(x))
        types = TYPES + ["int8"] * (max(x) < 128) + ["bool"] * (max(x) < 2)
        for dtype in types:
            value = backend.array(x, dtype)
            np.testing.assert_allclose(backend.numpy(made.log_prob(value)), expected, rtol=1e-14)
            assert not backend.numpy(made.residual(value)).any()


@each_backend
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_counts_are_not_rounded(backend, dtype):
    """One more, or less, is off the support, though single precision does not tell."""
    x = np.array([2**24 - 5, 1, 4])
    case = DiscreteCase("", POISSON, {"rate": np.array([3.0, 1.0, 1.0])}, np.ones(3, int), x.sum())
    law = backend.law(case, dtype, validate_args=False)
    for step in (-1, 0, 1):
        value = backend.array(x + [step, 0, 0], "int64")
        assert (backend.numpy(law.log_prob(value)) > -np.inf) == (step == 0)
        assert backend.numpy(law.residual(value)) == step
    large = DiscreteCase("", POISSON, case.params, np.ones(3, int), np.array(10**9 + 1))
    law = backend.law(large)
    value = np.array([10**9 - 1, 1, 1])
    found = backend.numpy(law.log_prob(backend.array(value, "int64")))
    assert found == backend.log_prob(law, value)


@each_backend
@pytest.mark.parametrize("law", VALUES)
def test_arrays_that_change_later(backend, law):
    """A law has its own A and k; a law made after the change has the new ones."""
    params, x = VALUES[law]
    for A in (np.ones(3), ROUTES.astype(float), ROUTES):
        k = np.asarray(A @ x)
        parameters = {name: backend.array(value) for name, value in params.items()}
        make = getattr(backend.library, law)
        one = make(**parameters, A=A, k=k)
        before = backend.value(one, "mean")
        expected, sides = A.copy(), k.copy()
        A[...] = 0
        k[...] = 7
        np.testing.assert_array_equal(backend.numpy(one.A), expected)
        np.testing.assert_array_equal(backend.numpy(one.k), sides)
        assert backend.log_prob(one, np.array(x)) > -np.inf
        np.testing.assert_array_equal(backend.value(one, "mean"), before)
        again = make(**parameters, A=expected, k=sides)
        # Not equal to the last bit: on a GPU sums are taken in an order of the moment.
        np.testing.assert_allclose(backend.value(again, "mean"), before, rtol=1e-14)


@each_backend
def test_categories_whose_probabilities_do_not_sum_to_one(backend):
    """NumPyro refuses them where arguments are checked, PyTorch divides by the sum: so do we."""
    probs = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.4]])
    case = DiscreteCase("", CATEGORICAL, {"probs": probs}, np.ones(2, int), np.array(2))
    if backend.name == "jax":
        with pytest.raises(ParameterError, match=r"sum to one.*1.2"):
            backend.law(case, validate_args=True)
        assert backend.law(case, probs=backend.array(probs[:1].repeat(2, 0)), validate_args=True)
    law = backend.law(case, validate_args=backend.name == "torch")
    normalised = probs / probs.sum(-1, keepdims=True)
    expected = backend.law(case, probs=backend.array(normalised))
    np.testing.assert_allclose(
        backend.value(law, "mean"), backend.value(expected, "mean"), rtol=1e-14
    )


@each_backend
@pytest.mark.parametrize("law, name, value", [
    (POISSON, "rate", -1.0), (POISSON, "rate", np.nan), (POISSON, "rate", np.inf),
    (BERNOULLI, "probs", 1.5), (BERNOULLI, "logits", np.nan), (CATEGORICAL, "probs", -1.0),
    (CATEGORICAL, "logits", np.nan), (CATEGORICAL, "logits", -np.inf),
])  # fmt: skip
def test_values_of_parameters_are_a_rejected_step(backend, law, name, value):
    shape = (3, 2) if law == CATEGORICAL else (3,)
    case = DiscreteCase("", law, {name: np.full(shape, value)}, np.ones(3, int), np.array(2))
    with pytest.raises(ParameterError, match=name) as raised:
        backend.law(case, validate_args=True)
    assert backend.name == "jax" or isinstance(raised.value, RuntimeError)  # LinAlgError
