"""Scales whose squares a dtype does not hold, as a sampler's bad step proposes them: an error, or
NaN where values cannot be looked at, and never a mean off the plane with a log density of +inf."""

from itertools import product

import numpy as np
import pytest

from tests.adapters import each_backend
from tests.cases import Groups

ROWS = {
    "row": (np.ones(3), np.array(6.0)),
    "two rows": (np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]]), np.array([6.0, 1.0])),
    "groups": (Groups(np.array([0, 0, 1]), 2, None), np.array([6.0, 1.0])),
}
POINTS = {"row": [2.0, 2.0, 2.0], "two rows": [2.0, 1.0, 3.0], "groups": [2.0, 4.0, 1.0]}
BEYOND = {"float32": (1e-25, 1e-20, 2e19, 1e25), "float64": (1e-170, 1e160)}
NEARLY = {"float32": (1.2e-19, 2e-17, 1e16, 8e18, 1.2e19), "float64": (1e-150, 1e150)}
WITHIN = {"float32": (1e-15, 5e14), "float64": (1e-145, 5e144)}
LAWS = ("normal", "dense", "student")


def made(backend, kind, scale, rows, dtype):
    library, array = backend.library, lambda value: backend.array(value, dtype)
    A, k = ROWS[rows]
    sides = {"A": backend.constraint(A, dtype), "k": array(k)}
    loc = array(np.zeros(3))
    if kind == "normal":
        return library.ConstrainedNormal(loc, scale, **sides)
    if kind == "student":
        return library.ConstrainedMultivariateStudentT(4.0, loc, scale=scale, **sides)
    root = scale[:, None] * array(np.eye(3))
    return library.ConstrainedMultivariateNormal(loc, scale_tril=root, **sides)


def scales(size):
    return np.array([1.0, 2.0, 3.0]) * size


@each_backend
@pytest.mark.parametrize("dtype", BEYOND)
@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("rows", ROWS)
def test_known_scales_are_refused(backend, rows, kind, dtype):
    for size in BEYOND[dtype]:
        scale = backend.array(scales(size), dtype)
        with pytest.raises(ValueError, match=r"expected scales .* use float64") as refused:
            made(backend, kind, scale, rows, dtype)
        if backend.name == "torch":  # samplers count it as a rejected step
            import torch

            assert isinstance(refused.value, torch.linalg.LinAlgError)


@each_backend
@pytest.mark.parametrize("dtype", NEARLY)
@pytest.mark.parametrize("rows", ROWS)
def test_scales_whose_squares_have_few_digits_are_refused(backend, rows, dtype):
    """A mean was loc, or off by percents: 1 / F was flushed to zero, or terms of F were."""
    for kind, size in product(LAWS, NEARLY[dtype]):
        with pytest.raises(ValueError, match=r"expected scales .* use float64"):
            made(backend, kind, backend.array(scales(size), dtype), rows, dtype)


@each_backend
@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("rows", ROWS)
def test_what_a_dtype_holds_is_taken(backend, rows, dtype):
    unit = made(backend, "normal", backend.array(scales(1.0), dtype), rows, dtype)
    free_size = 3 - unit.rank
    for size in WITHIN[dtype]:
        law = made(backend, "normal", backend.array(scales(size), dtype), rows, dtype)
        digits = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(
            backend.value(law, "mean"), backend.value(unit, "mean"), rtol=digits
        )
        grown = backend.value(unit, "entropy") + free_size * np.log(size)
        np.testing.assert_allclose(backend.value(law, "entropy"), grown, rtol=digits)


@each_backend
@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("rows", ROWS)
def test_a_trace_hides_them(backend, rows, kind):
    point = backend.array(np.array(POINTS[rows]), "float32")

    def answers(scale):
        law = made(backend, kind, scale, rows, "float32")
        return law.mean, law.entropy(), law.log_prob(point)

    sizes = 1.0, *BEYOND["float32"], *NEARLY["float32"]
    if backend.name == "jax":
        import jax

        mapped = jax.jit(jax.vmap(answers))
    else:
        import torch

        mapped = torch.func.vmap(answers)
    values = backend.array(np.array([scales(size) for size in sizes]), "float32")
    mean, entropy, log_prob = map(backend.numpy, mapped(values))
    assert np.isfinite(mean[0]).all() and np.isfinite(entropy[0])
    assert np.isnan(mean[1:]).all() and np.isnan(entropy[1:]).all()
    assert (np.isnan(log_prob[1:]) | (log_prob[1:] == -np.inf)).all()
