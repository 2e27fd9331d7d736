"""Models with constrained latents whose posteriors are known, and how to fit them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS, SVI, JitTrace_ELBO, Predictive, Trace_ELBO
from pyro.optim import ClippedAdam
from scipy import stats

from pyro_constrained import ConstrainedMultivariateNormal
from tests import oracles
from tests.oracles import Problem


def tensor(value: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(value, dtype=np.float64))


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

    @cached_property
    def _tensors(self) -> list[torch.Tensor]:
        """Made before a tracer sees them: it would warn that they are constants."""
        prior = self.prior
        return [tensor(value) for value in (prior.loc, prior.cov, prior.A, prior.k, self.data)]

    def law(self, **options: Any) -> ConstrainedMultivariateNormal:
        loc, cov, A, k, _ = self._tensors
        return ConstrainedMultivariateNormal(loc, cov, A, k, **options)

    def likelihood(self, x: torch.Tensor) -> None:
        """Independent data, so that x may have any batch shape."""
        pyro.sample("y", dist.Normal(x, self.noise).to_event(1), obs=self._tensors[-1])

    def model(self) -> torch.Tensor:
        x = pyro.sample("x", self.law())
        self.likelihood(x)
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
    jit: bool = False,
) -> SVI:
    """SVI with a learning rate that falls to ``decay`` times its first value."""
    options = {"num_particles": particles, "vectorize_particles": True, "max_plate_nesting": 0}
    if jit:
        elbo = JitTrace_ELBO(ignore_jit_warnings=True, **options)
    elbo = elbo or Trace_ELBO(**options)
    optimizer = ClippedAdam({"lr": learning_rate, "lrd": decay ** (1 / steps)})
    svi = SVI(model, guide, optimizer, elbo)
    for _ in range(steps):
        svi.step()
    return svi


def draws_of(guide: Callable, *sites: str, number: int = 20_000) -> list[np.ndarray]:
    """Independent draws of sites of a guide."""
    with torch.no_grad():
        found = Predictive(guide, num_samples=number, parallel=True)()
    return [found[site].reshape(number, -1).numpy() for site in sites]


def run_nuts(
    model: Callable, draws: int, warmup: int = 150, jit: bool = True, **options: Any
) -> MCMC:
    kernel = NUTS(model, jit_compile=jit, **options)
    chain = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True)
    chain.run()
    return chain


def assert_no_divergence(chain: MCMC, share: float = 0.0) -> None:
    """None, or at most this share of the draws."""
    assert len(chain.diagnostics()["divergences"]["chain 0"]) <= share * chain.num_samples


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


def assert_obeys(problem: Problem, draws: np.ndarray) -> None:
    """``|A x - k| <= 4 eps (|A| |x| + |k|)`` in every row and draw."""
    assert (oracles.roundings(problem.A, draws, problem.k) <= 4).all()
