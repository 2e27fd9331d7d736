"""A sampled k or A without any reparametrisation.

NumPyro keeps the transform of a site from the first run of a model, except of supports whose bounds
are not numbers: those it looks up again for each draw.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.initialization import (
    init_to_feasible,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)

from numpyro_constrained import (
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    ConstraintError,
    GroupSum,
    auto_reparam,
)
from tests import oracles
from tests.chance import assert_likely, of_moments
from tests.on_numpyro.models import KEY, array, assert_no_divergence, run_nuts

LOC, SCALE = np.array([0.2, -0.1, 0.4, 0.0]), np.array([1.0, 0.5, 2.0, 1.5])
COV = np.diag(SCALE**2) + 0.2
TOTAL, DEVIATION = np.array([0.5, -1.0]), np.array([1.5, 0.7])
DATA, NOISE = np.array([0.9, -0.3, 1.4, -2.0]), 0.5
MATRIX = np.array([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, -1.0, 1.0]])
ROW, GROUPS = np.array([1.0, -1.0, 0.5, 1.0]), GroupSum([0, 0, 1, 1], num_groups=2)
LAWS = {
    "row": (ROW, lambda A, k: ConstrainedNormal(LOC, SCALE, A, k[..., 0])),
    "groups": (GROUPS, lambda A, k: ConstrainedNormal(LOC, SCALE, A, k)),
    "matrix": (MATRIX, lambda A, k: ConstrainedMultivariateNormal(LOC, COV, A, k)),
}


def rows_of(name: str) -> np.ndarray:
    A = LAWS[name][0]
    return np.atleast_2d(A.to_dense() if isinstance(A, GroupSum) else A)


def posterior(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (k, x) given the data: k ~ N, x = gain (k - A loc) + the rest."""
    A = rows_of(name)
    cov = COV if name == "matrix" else np.diag(SCALE**2)
    m, n = A.shape
    gain = cov @ A.T @ np.linalg.inv(A @ cov @ A.T)
    spread = np.diag(DEVIATION[:m] ** 2)
    joint = np.block([[spread, spread @ gain.T], [gain @ spread, gain @ spread @ gain.T]])
    joint[m:, m:] += cov - gain @ A @ cov
    mean = np.concatenate([TOTAL[:m], LOC + gain @ (TOTAL[:m] - A @ LOC)])
    update = joint[:, m:] @ np.linalg.inv(joint[m:, m:] + NOISE**2 * np.eye(n))
    return mean + update @ (DATA - mean[m:]), joint - update @ joint[m:]


def sampled_k(name: str, copies: int | None = None):
    A, law = LAWS[name]
    number = rows_of(name).shape[0]

    def model():
        k = numpyro.sample("k", dist.Normal(TOTAL[:number], DEVIATION[:number]).to_event(1))
        x = numpyro.sample("x", law(A, k))
        numpyro.sample("y", dist.Normal(x, NOISE).to_event(1), obs=array(DATA))

    def several():
        with numpyro.plate("copies", copies):
            model()

    return several if copies else model


def assert_on_their_subspaces(name: str, draws) -> None:
    gap = oracles.roundings(rows_of(name), np.asarray(draws["x"]), np.asarray(draws["k"]))
    assert (gap <= 4).all()


def assert_posterior(name: str, draws) -> None:
    assert_on_their_subspaces(name, draws)
    both = np.concatenate([np.asarray(draws["k"]), np.asarray(draws["x"])], -1)
    both = both.reshape(len(both), -1, both.shape[-1])
    moments = posterior(name)
    assert_likely(*(of_moments(both[:, i], *moments, is_chain=True) for i in range(both.shape[1])))


@pytest.mark.parametrize(
    "name", ["row", *(pytest.param(name, marks=pytest.mark.slow) for name in ("groups", "matrix"))]
)
def test_nuts_with_a_sampled_k(name):
    chain = run_nuts(sampled_k(name), draws=800)
    assert_no_divergence(chain)
    assert_posterior(name, chain.get_samples())


@pytest.mark.rank_promotion("allow")  # of NumPyro, between a plate and a law without a batch
def test_k_sampled_inside_a_plate():
    chain = run_nuts(sampled_k("groups", copies=3), draws=800)
    assert_no_divergence(chain)
    assert_posterior("groups", chain.get_samples())


STRATEGIES = {
    "median": init_to_median,
    "uniform": init_to_uniform,
    "sample": init_to_sample,
    "feasible": init_to_feasible,
    "value of k": init_to_value(values={"k": array([3.0])}),
    "values of both": init_to_value(values={"k": array([1.0]), "x": array([1.0, 1, 0, 1])}),
    "value of x": init_to_value(values={"x": array([1.0, 1.0, 0.0, 1.0])}),
}


@pytest.mark.rank_promotion("allow")  # of NumPyro, where it draws several values to start from
@pytest.mark.parametrize(
    "strategy",
    [
        name if name == "values of both" else pytest.param(name, marks=pytest.mark.slow)
        for name in STRATEGIES
    ],
)
def test_wherever_a_chain_starts(strategy):
    options = {"init_strategy": STRATEGIES[strategy]}
    chain = run_nuts(sampled_k("row"), draws=300, **options)
    assert_posterior("row", chain.get_samples())


def sampled_A(rows: np.ndarray, k):
    def model():
        shift = numpyro.sample("shift", dist.Normal(0.0, 1.0))
        A = numpyro.deterministic("A", rows + 0.2 * shift * rows[..., ::-1])
        numpyro.sample("x", ConstrainedNormal(LOC, SCALE, A, k))

    return model


@pytest.mark.parametrize(
    ("rows", "k"),
    [(ROW, 1.0), pytest.param(MATRIX, array([1.0, 0.5]), marks=pytest.mark.slow)],
)
def test_a_sampled_A_needs_the_reparametrisation(rows, k):
    """No coordinates are continuous in it: the run stops, and says so."""
    with pytest.raises(ConstraintError, match=r"use reparam\.auto_reparam"):
        run_nuts(sampled_A(rows, k), draws=5, warmup=5)


@pytest.mark.parametrize(("rows", "k"), [(MATRIX, array([1.0, 0.5]))])
def test_a_sampled_A_with_it(rows, k):
    """Prior draws: x given A has the moments of the law for that A."""
    chain = run_nuts(handlers.reparam(sampled_A(rows, k), config=auto_reparam), draws=800)
    draws = chain.get_samples()
    A, x = np.asarray(draws["A"]), np.asarray(draws["x"])
    assert (oracles.roundings(A, x, np.broadcast_to(k, (len(x), 2))) <= 4).all()
    shift = np.asarray(draws["shift"])[:, None]
    assert_likely(of_moments(shift, np.zeros(1), np.eye(1), is_chain=True))
    white = np.array(
        [
            _whitened(oracles.Problem(LOC, np.diag(SCALE**2), a, np.asarray(k)), one)
            for a, one in zip(A, x, strict=True)
        ]
    )
    assert_likely(of_moments(white, np.zeros(2), np.eye(2), is_chain=True))


def _whitened(problem: oracles.Problem, x: np.ndarray) -> np.ndarray:
    """Standard normal coordinates of a draw: symmetric, so that they are unique up to a rotation
    of the null space."""
    return np.linalg.solve(
        np.linalg.cholesky(problem.shape), problem.coordinates(x) - problem.centre
    )


# Guides keep the subspace of the first run: what they return for the site of the guide itself is
# right, a loss is infinite, and nothing is fitted.


@pytest.mark.rank_promotion("allow")  # NumPyro's draws of a guide with a sample shape
def test_a_guide_on_the_site_itself_is_not_fitted():
    model = sampled_k("row")
    guide = AutoNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(0.01), Trace_ELBO(num_particles=4))
    found = svi.run(KEY, 3, progress_bar=False)
    assert not np.isfinite(found.losses).any()
    draws = guide.sample_posterior(KEY, found.params, sample_shape=(5,))
    assert_on_their_subspaces("row", draws)


@pytest.mark.slow
@pytest.mark.rank_promotion("allow")  # NumPyro's draws of a guide with a sample shape
def test_predictive_from_a_guide_with_the_reparametrisation():
    """The best guide of independent normals has the right means."""
    model = handlers.reparam(sampled_k("matrix"), config=auto_reparam)
    guide = AutoNormal(model)
    svi = SVI(model, guide, numpyro.optim.Adam(0.05), Trace_ELBO(num_particles=64))
    params = svi.run(KEY, 400, progress_bar=False).params
    sites = {"params": params, "num_samples": 2000, "return_sites": ["k", "x"]}
    draws = Predictive(model, guide=guide, **sites)(jax.random.PRNGKey(1))
    assert_on_their_subspaces("matrix", draws)
    mean, cov = posterior("matrix")
    both = jnp.concatenate([draws["k"], draws["x"]], -1)
    np.testing.assert_allclose((both.mean(0) - mean) / np.sqrt(np.diag(cov)), 0, atol=0.2)
