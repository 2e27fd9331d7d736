"""A that requires a gradient, is mapped over or compiled, with rows that may be redundant.

No plan is made of it: it is factored where it stands, whatever its rank, and rows that disagree are
an error wherever values can be seen.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from scipy import stats
from torch.distributions import kl_divergence
from torch.func import grad, jacfwd, jacrev, vmap

from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    InfeasibleConstraintError,
)
from tests import oracles
from tests.chance import assert_likely, of_means
from tests.on_pyro.models import fit, tensor

REDUNDANT = tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
MATRICES = {
    "redundant": REDUNDANT,
    "independent": tensor([[1.0, 2, 0, 0], [0, 1, -1, 1]]),
    "row": tensor([1.0, -1.0, 0.5, 2.0]),
    "ragged": tensor([[[1.0, 1, 0, 0], [2, 2, 0, 0]], [[1, 1, 0, 0], [0, 1, 1, 0]]]),
}
LOC, SCALE, DIAGONAL = (
    tensor([0.1, 0.2, -0.3, 0.4]),
    tensor([1.0, 0.5, 2.0, 1.5]),
    tensor(np.ones(4)),
)
POINT = tensor([0.3, -0.2, 0.5, 0.1])
COV = tensor(np.diag([1.0, 0.5, 2.0, 1.5]) + 0.2)
LAWS = {
    "diagonal": lambda s, A, k: ConstrainedNormal(LOC * s, SCALE * s, A, k),
    "dense": lambda s, A, k: ConstrainedMultivariateNormal(LOC, COV * s, A, k),
    "low rank": lambda s, A, k: ConstrainedLowRankMultivariateNormal(
        LOC, COV[:, :2] * s, DIAGONAL, A, k
    ),
    "student": lambda s, A, k: ConstrainedMultivariateStudentT(
        tensor(5.0), LOC, A=A, k=k, scale=SCALE * s
    ),
}
each_law = pytest.mark.parametrize("name", LAWS)


def quantities(name, s, A, k):
    law = LAWS[name](s, A, k)
    found = [law.log_prob(POINT), law.mean, law.variance]
    if name == "student":
        return found
    other = LAWS[name](2 * s, A, k)
    return [*found, law.entropy(), law.constraint_log_prob(), kl_divergence(law, other)]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@each_law
@pytest.mark.parametrize("shape", [(4,), (1, 4)], ids=["row", "matrix"])
def test_a_learned_row_of_zeros_constrains_nothing(name, shape):
    """The density is SciPy's of the law without a constraint; k that is not zero has no law."""
    cov = {"low rank": COV[:, :2] @ COV[:, :2].mT + torch.eye(4)}.get(name, COV)
    cov = np.asarray(SCALE.square().diag() if name in ("diagonal", "student") else cov)
    normal, student = stats.multivariate_normal(LOC, cov), stats.multivariate_t(LOC, cov, 5)
    expected = tensor((student if name == "student" else normal).logpdf(POINT))

    def evaluate(A, k):
        law = LAWS[name](1.0, A, k)
        return law.log_prob(POINT), law.mean

    zeros, k = torch.zeros(shape), torch.zeros(shape[:-1])
    learned = zeros.clone().requires_grad_()
    close(evaluate(learned, k), (expected, LOC))
    with pytest.raises(InfeasibleConstraintError):
        evaluate(learned, k + 0.5)
    others = tensor([1.0, -1.0, 0.5, 2.0]).expand(shape)
    log_prob, mean = vmap(evaluate, (0, None))(torch.stack([zeros, others]), k)
    close((log_prob[0], mean[0]), (expected, LOC))
    close(mean[1], LAWS[name](1.0, others, k).mean)


@each_law
def test_ranks_that_differ_take_no_digits_from_the_default(name):
    """PyTorch's default of single precision, with a law of double precision."""
    ragged = MATRICES["ragged"]
    expected = [quantities(name, 1.0, A, A @ POINT) for A in ragged]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        found = quantities(name, tensor(1.0), ragged, ragged @ POINT)
        evidence = LAWS[name](tensor(1.0), ragged, ragged @ POINT).constraint_log_prob()
    finally:
        torch.set_default_dtype(before)
    for one, both in zip(zip(*expected, strict=True), found, strict=True):
        close(both, torch.stack(one))
    close(
        evidence, torch.stack([LAWS[name](1.0, A, A @ POINT).constraint_log_prob() for A in ragged])
    )


@each_law
@pytest.mark.parametrize("matrix", MATRICES)
def test_same_values_as_of_a_constant(name, matrix):
    """Whether a gradient can reach A or not."""
    A = MATRICES[matrix]
    k, s = A @ POINT, tensor(1.3)
    expected = quantities(name, s, A, k)
    free = quantities(name, s, A.clone().requires_grad_(), k)
    close([part.detach() for part in free], expected)
    draw = LAWS[name](s, A.clone().requires_grad_(), k).rsample((3,)).detach().numpy()
    rows, total = torch.atleast_2d(A).numpy(), torch.atleast_1d(k).numpy()
    assert (oracles.roundings(rows, draw[:, None] if A.ndim < 3 else draw, total) <= 4).all()


@each_law
def test_rows_that_disagree(name):
    k = REDUNDANT @ POINT + tensor([0.0, 0.0, 0.1])
    for A in (REDUNDANT, REDUNDANT.clone().requires_grad_(), torch.stack([REDUNDANT] * 2)):
        with pytest.raises(InfeasibleConstraintError):
            LAWS[name](tensor(1.3), A, k)


@each_law
@pytest.mark.parametrize("derivative", [grad, jacrev, jacfwd])
def test_derivative_in_a_redundant_A(name, derivative):
    """All rows times a factor change nothing but the density of A x at k."""
    k, s = REDUNDANT @ POINT, tensor(1.3)

    def log_prob(factor):
        return LAWS[name](s, factor * REDUNDANT, factor * k).log_prob(POINT)

    close(derivative(log_prob)(tensor(1.5)), tensor(0.0))


def test_derivative_in_one_redundant_row():
    """Along a move of the last row in the span of the others; k moves with it."""
    along = tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]])

    def log_prob(t):
        A = REDUNDANT + t * along
        return ConstrainedNormal(LOC, SCALE, A, A @ POINT).log_prob(POINT)

    close(grad(log_prob)(tensor(0.3)), tensor(0.0))
    factor = tensor(0.3).requires_grad_()
    log_prob(factor).backward()
    close(factor.grad, tensor(0.0))


@each_law
def test_mapped_over_matrices(name):
    """Of one rank or of several, each with a k of its own."""
    matrices = torch.stack(
        [
            REDUNDANT,
            REDUNDANT.roll(1, -1),
            REDUNDANT[[0, 0, 1]],
            tensor([[1.0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]),
        ]
    )

    def run(A):
        law = LAWS[name](tensor(1.3), A, A @ POINT)
        return law.log_prob(POINT), law.variance

    found = vmap(run)(matrices)
    expected = [torch.stack(part) for part in zip(*map(run, matrices), strict=True)]
    close(list(found), expected)


# SVI and Predictive

NOISE = 0.5
DATA = tensor(np.random.default_rng(5).normal(size=(40, 4)) * 1.4)
BASIS = oracles.Problem(np.zeros(4), np.eye(4), REDUNDANT.numpy(), np.zeros(3)).null_space
BEST_SCALE = np.sqrt(np.mean((DATA.numpy() @ BASIS) ** 2) - NOISE**2)
"""In coordinates of the null space the data are N(0, scale^2 + noise^2)."""


def model(data=None):
    """A is made anew in each run."""
    scale = pyro.param("scale", tensor(1.0), constraint=dist.constraints.positive)
    A = torch.tensor(REDUNDANT.tolist(), dtype=torch.float64)
    with pyro.plate("rows", len(DATA)):
        law = ConstrainedNormal(torch.zeros(4), scale, A, torch.zeros(3))
        x = pyro.sample("x", law)
        pyro.sample("y", dist.Normal(x, NOISE).to_event(1), obs=data)


def test_svi_learns_a_scale():
    """The guide has the posterior, so that the learned scale is the most likely one."""
    guide = AutoNormal(lambda: model(DATA))
    elbo = Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1)
    fit(lambda: model(DATA), guide, steps=400, decay=0.01, elbo=elbo)
    np.testing.assert_allclose(pyro.param("scale").item(), BEST_SCALE, rtol=0.02)
    deviation = 1 / np.sqrt(1 / BEST_SCALE**2 + 1 / NOISE**2)
    np.testing.assert_allclose(guide.scales.x.detach().numpy(), deviation, rtol=0.1)


def test_predictive():
    pyro.param("scale", tensor(2.0), constraint=dist.constraints.positive)
    x = Predictive(model, num_samples=500)()["x"].detach().numpy().reshape(-1, 4)
    assert (oracles.roundings(REDUNDANT.numpy(), x, np.zeros(3)) <= 4).all()
    assert_likely(of_means((x @ BASIS) ** 2, 4.0))


# Values of another precision than the law's

SINGLE = {
    "diagonal": lambda A, k: ConstrainedNormal(LOC.float(), SCALE.float(), A, k),
    "dense": lambda A, k: ConstrainedMultivariateNormal(LOC.float(), COV.float(), A, k),
    "low rank": lambda A, k: ConstrainedLowRankMultivariateNormal(
        LOC.float(), COV[:, :2].float(), DIAGONAL.float(), A, k
    ),
    "student": lambda A, k: ConstrainedMultivariateStudentT(
        tensor(5.0).float(), LOC.float(), A=A, k=k, scale=SCALE.float()
    ),
}


@each_law
@pytest.mark.parametrize("matrix", ["redundant", "row"])
def test_data_of_another_precision(name, matrix):
    """They are read in that of the law, as by Pyro's own."""
    A = MATRICES[matrix]
    k = A @ POINT
    double, single = LAWS[name](tensor(1.0), A, k), SINGLE[name](A, k.float())
    for shape in ((), (3,), (2, 3)):
        x = double.sample(shape)
        for law, value in ((single, x), (double, x.float())):
            found = law.log_prob(value)
            assert found.dtype == law.loc.dtype
            torch.testing.assert_close(found.double(), double.log_prob(x), rtol=1e-5, atol=1e-5)
            assert law.residual(value).abs().max() < 1e-5
            assert law.support.check(law.project(value)).all()


# Scales of which one dominates: what a constraint leaves of that variable is a small share.

UNEVEN = tensor([1.0, 0.8, 1e5, 2.0])
BATCH = tensor([[[1.0, 1, 1, 0], [0, 1, -1, 1]], [[1, 2, -1, 3], [-2, -4, 2, -6]]])
FACTOR = tensor([[1.0, 0.5], [-0.3, 2.0], [0.7, 0.1], [0.2, -1.0]])
UNEVEN_LAWS = {
    "diagonal": lambda A: ConstrainedNormal(LOC, UNEVEN, A, torch.zeros(2)),
    "low rank": lambda A: ConstrainedLowRankMultivariateNormal(
        LOC, FACTOR, UNEVEN.square(), A, torch.zeros(2)
    ),
}


@pytest.mark.parametrize("name", UNEVEN_LAWS)
@pytest.mark.parametrize("number", [0, 1], ids=["independent", "dependent"])
def test_variance_of_a_variable_that_dominates(name, number):
    cov = UNEVEN.square().diag() + (FACTOR @ FACTOR.T if name == "low rank" else 0.0)
    expected = oracles.exact_variance(cov.numpy(), BATCH[number][: 2 - number].numpy())
    law = UNEVEN_LAWS[name]
    learned = law(BATCH[number].clone().requires_grad_())
    both = law(BATCH)
    mapped = vmap(lambda A: law(A).variance)(BATCH)[number]
    found = [learned.variance, learned.covariance.diagonal(), both.variance[number], mapped]
    for variance in found:
        np.testing.assert_allclose(variance.detach(), expected, rtol=1e-10)
