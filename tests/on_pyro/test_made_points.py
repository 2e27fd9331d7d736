"""Points that a transform or a draw puts on the subspace are not asked whether they are there."""

import gc

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.stats import multivariate_normal

from pyro_constrained import ConstrainedNormal
from pyro_constrained.kernels.linear import made_points
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.transforms import LinearEqualityTransform

ROWS = np.array([[1.0, 1, 1, 0, 0], [0, 1, -1, 2, 0]])
A, K = torch.tensor(ROWS), torch.tensor(np.array([1.0, 2.0]))
LOC, SCALE = (torch.tensor(x) for x in (np.linspace(-1.0, 1.0, 5), np.array([0.5, 1, 2, 1, 1])))
MATRICES = {"dense": A, "sparse": sparse.csr_array(ROWS)}


def oracle(x):
    covariance, rows = np.diag(SCALE.numpy() ** 2), ROWS
    gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T)
    mean = LOC.numpy() + gain @ (K.numpy() - rows @ LOC.numpy())
    left = covariance - gain @ rows @ covariance
    return multivariate_normal(mean, left, allow_singular=True).logpdf(x.numpy(force=True))


@pytest.fixture
def asked(monkeypatch):
    """How often a constraint is asked for its points."""
    calls, contains = [], LinearConstraint.contains
    monkeypatch.setattr(
        LinearConstraint, "contains", lambda *args: calls.append(1) or contains(*args)
    )
    return calls


def made(matrix, how):
    loc = LOC.clone().requires_grad_()
    law = ConstrainedNormal(loc, SCALE, matrix, K)
    if how == "draw":
        return law, law.rsample()
    basis = None if how == "transform" else "elimination"
    transform = LinearEqualityTransform(matrix, K, basis)
    return law, transform(torch.tensor([0.3, -0.7, 1.1], requires_grad=True))


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("how", ["draw", "transform", "elimination"])
def test_density(asked, matrix, how):
    law, x = made(MATRICES[matrix], how)
    np.testing.assert_allclose(law.log_prob(x).item(), oracle(x), rtol=1e-11)
    assert not asked
    np.testing.assert_allclose(law.log_prob(x.detach()).item(), oracle(x), rtol=1e-11)
    assert asked


def test_a_point_that_was_changed(asked):
    law, x = made(A, "draw")
    x += 0.1
    law = ConstrainedNormal(LOC, SCALE, A, K, validate_args=False)
    assert law.log_prob(x) == -torch.inf and asked


@pytest.mark.parametrize("k", [K + 1, K + 1e-3])
def test_another_subspace(k):
    _, x = made(A, "transform")
    assert ConstrainedNormal(LOC, SCALE, A, k, validate_args=False).log_prob(x) == -torch.inf
    assert ConstrainedNormal(LOC, SCALE, 2 * A, K, validate_args=False).log_prob(x) == -torch.inf


def test_what_is_not_a_number():
    transform = LinearEqualityTransform(A, K)
    x = transform(torch.tensor([0.3, torch.nan, 1.1], requires_grad=True))
    assert ConstrainedNormal(LOC, SCALE, A, K, validate_args=False).log_prob(x) == -torch.inf


def test_a_tolerance_that_is_given_holds(asked):
    _, x = made(A, "draw")
    law = ConstrainedNormal(LOC, SCALE, A, K, support_tolerance=-1.0, validate_args=False)
    assert law.log_prob(x) == -torch.inf and asked


def test_draws_without_a_graph_are_asked(asked):
    """They can be changed by way of NumPy."""
    law = ConstrainedNormal(LOC, SCALE, A, K, validate_args=False)
    x = law.sample()
    x.numpy()[:] += 1
    assert law.log_prob(x) == -torch.inf and asked


def test_nothing_is_kept():
    law, x = made(A, "draw")
    number = id(x)
    assert number in made_points._MADE
    del law, x
    gc.collect()
    assert number not in made_points._MADE
