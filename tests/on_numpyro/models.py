"""Models with constrained latents whose posteriors are known, and how to fit them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.optim import ClippedAdam
from scipy import stats

from numpyro_constrained import ConstrainedMultivariateNormal
from tests import oracles
from tests.oracles import Problem

KEY = jax.random.PRNGKey(20240229)


def array(value: Any) -> Array:
    return jnp.asarray(np.asarray(value, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Regression:
    """x ~ N(loc, cov) given A x = k; data ~ N(x, noise^2)."""

    prior: Problem
    data: np.ndarray
    noise: float

    @cached_property
    def posterior(self) -> Problem:
        """Conditioning on data and on A x = k commute."""
        precision = np.linalg.inv(self.prior.cov)
        cov = np.linalg.inv(precision + np.eye(self.data.size) / self.noise**2)
        loc = cov @ (precision @ self.prior.loc + self.data / self.noise**2)
        return replace(self.prior, loc=loc, cov=(cov + cov.T) / 2)

    @cached_property
    def log_evidence(self) -> float:
        cov = oracles.covariance(self.prior) + self.noise**2 * np.eye(self.data.size)
        law = stats.multivariate_normal(oracles.mean(self.prior), cov)
        return float(law.logpdf(self.data))

    def law(self, **options: Any) -> ConstrainedMultivariateNormal:
        prior = self.prior
        parameters = map(array, (prior.loc, prior.cov, prior.A, prior.k))
        return ConstrainedMultivariateNormal(*parameters, **options)

    def model(self) -> Array:
        x = numpyro.sample("x", self.law())
        numpyro.sample("y", dist.Normal(x, self.noise).to_event(1), obs=array(self.data))
        return x


CORRELATED = Regression(
    prior=Problem(
        loc=np.array([0.5, -0.2, 0.1, 0.3]),
        cov=np.array(
            [[2.0, 0.3, 0.0, 0.1], [0.3, 1.0, 0.2, 0.0], [0.0, 0.2, 1.5, 0.1], [0.1, 0.0, 0.1, 0.8]]
        ),
        A=np.array([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 2.0]]),
        k=np.array([1.0, 0.5]),
    ),
    data=np.array([0.3, 0.1, -0.2, 0.9]),
    noise=0.6,
)

# Every direction of the subspace alike: the coordinates of the posterior are independent.
ISOTROPIC = replace(CORRELATED, prior=replace(CORRELATED.prior, cov=1.5 * np.eye(4)))


def fit(
    model: Callable,
    guide: Callable,
    steps: int = 500,
    particles: int = 256,
    learning_rate: float = 0.1,
    decay: float = 0.005,
    elbo: Any = None,
) -> dict[str, Array]:
    """Parameters after SVI with a learning rate that falls to ``decay`` times its first value."""
    optimizer = ClippedAdam(lambda step: learning_rate * decay ** (step / steps))
    svi = SVI(model, guide, optimizer, elbo or Trace_ELBO(num_particles=particles))
    return svi.run(KEY, steps, progress_bar=False).params


def draws_of(guide: Callable, params: dict[str, Array], *sites: str) -> list[np.ndarray]:
    """Independent draws of sites of a guide."""
    number = 20_000
    found = Predictive(guide, params=params, num_samples=number, parallel=True)(KEY)
    return [np.asarray(found[site]).reshape(number, -1) for site in sites]


def run_nuts(model: Callable, draws: int, warmup: int = 150, **options: Any) -> MCMC:
    kernel = NUTS(model, **options)
    chain = MCMC(kernel, num_samples=draws, num_warmup=warmup, progress_bar=False)
    chain.run(KEY)
    return chain


def assert_no_divergence(chain: MCMC, share: float = 0.0) -> None:
    """None, or at most this share of the draws."""
    assert chain.get_extra_fields()["diverging"].mean() <= share


def assert_moments(draws: np.ndarray, mean: np.ndarray, cov: np.ndarray, error: float) -> None:
    """Mean and covariance of draws ``(number, size)``, in units of the standard deviation.

    Of what was trained: with as many particles as the fits have, the largest error of another seed
    is two fifths of the bound at most, or a sixth of it a standard error. Of draws of a law itself
    the bound follows from their number, see ``tests/chance.py``.
    """
    unit = np.sqrt(np.diagonal(cov))
    np.testing.assert_allclose((draws.mean(0) - mean) / unit, 0.0, atol=error)
    found = np.cov(draws.T).reshape(cov.shape)
    np.testing.assert_allclose((found - cov) / np.outer(unit, unit), 0.0, atol=1.5 * error)


def assert_obeys(problem: Problem, draws: Any) -> None:
    """``|A x - k| <= 4 eps (|A| |x| + |k|)`` in every row and draw."""
    draws = np.asarray(draws)
    assert (oracles.roundings(problem.A, draws, problem.k) <= 4).all()


def assert_close(found: Any, expected: Any, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    """Equal trees of arrays, shapes included."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
