"""The model a user would write, with k latent, and a guide that learns its posterior by SVI.

Gradients go through k: x is drawn given A x = k for a k that is drawn itself.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor
from torch.distributions import constraints

from experiments.super_resolution.problem import Posterior, Problem
from experiments.super_resolution.settings import Settings
from pyro_constrained import ConstrainedMultivariateNormal

__all__ = ["Reconstruction", "learn"]

START = 0.5
"""The standard deviation of a reading at the start."""


class Reconstruction:
    """Model and guide of the fine images x, their exact block sums k and the readings y.

        k ~ N(A mu, A Sigma A')         the coarse image
        x | k ~ N(mu, Sigma) given A x = k
        y | k ~ N(k, s^2 I)             s is learned

    The guide: k ~ N(a_i, S) for image i, x | k ~ N(b, T) given A x = k, all learned.
    """

    def __init__(self, problem: Problem) -> None:
        self.A = torch.as_tensor(problem.rows)
        self.readings = torch.as_tensor(problem.readings)
        self.mean = torch.as_tensor(problem.mean)
        self.covariance = torch.as_tensor(problem.covariance)
        self.prior_of_sums = dist.MultivariateNormal(
            self.A @ self.mean, self.A @ self.covariance @ self.A.mT
        )

    def noise(self) -> Tensor:
        """s."""
        start = self.mean.new_tensor(START)
        return pyro.param("noise", start, constraint=constraints.positive)

    def model(self) -> None:
        noise = self.noise()
        with pyro.plate("images", len(self.readings)):
            k = pyro.sample("k", self.prior_of_sums)
            law = ConstrainedMultivariateNormal(self.mean, self.covariance, self.A, k)
            pyro.sample("x", law)
            pyro.sample("y", dist.Normal(k, noise).to_event(1), obs=self.readings)

    def law_of_sums(self) -> dist.MultivariateNormal:
        """What the guide knows of k."""
        mean = pyro.param("mean of k", self.readings.clone())
        scale = torch.full_like(mean[0], START)
        return dist.MultivariateNormal(mean, scale_tril=_factor("factor of k", scale))

    def law_of_pixels(self, k: Tensor) -> ConstrainedMultivariateNormal:
        """What the guide knows of x given k; at first the pixels are independent."""
        mean = pyro.param("mean of x", self.mean.clone())
        factor = _factor("factor of x", self.covariance.diagonal().sqrt())
        return ConstrainedMultivariateNormal(mean, A=self.A, k=k, scale_tril=factor)

    def guide(self) -> None:
        with pyro.plate("images", len(self.readings)):
            k = pyro.sample("k", self.law_of_sums())
            pyro.sample("x", self.law_of_pixels(k))

    @torch.no_grad()
    def posterior(self) -> Posterior:
        """Moments of x under the guide: those given k, averaged over k."""
        sums = self.law_of_sums()
        law = self.law_of_pixels(sums.mean)
        corners = torch.eye(1 + len(self.A), dtype=self.A.dtype)[:, 1:]  # 0 and the unit vectors
        origin, *moved = self.law_of_pixels(corners).mean
        slope = torch.stack(moved, -1) - origin[:, None]  # the mean is affine in k
        spread = slope @ sums.covariance_matrix[0] @ slope.mT
        return Posterior(law.mean.numpy(), (law.covariance[0] + spread).numpy())

    @torch.no_grad()
    def draws(self, number: int) -> tuple[np.ndarray, float]:
        """``(number, images, n)`` of x, and the largest ``|A x - k|`` with the k drawn for it."""
        k = self.law_of_sums().sample((number,))
        x = self.law_of_pixels(k).sample()
        return x.numpy(), float((x @ self.A.mT - k).abs().max())


def _factor(name: str, scale: Tensor) -> Tensor:
    """A learned triangular factor, diagonal at the start."""
    return pyro.param(name, scale.diag(), constraint=constraints.lower_cholesky)


def learn(
    problem: Problem,
    settings: Settings,
    seed: int,
    steps: Callable[[range], Iterable[int]] = iter,
) -> tuple[Reconstruction, np.ndarray]:
    """A guide that has learned, and the evidence lower bound of an image at each step.

    Args:
        problem: the images and readings.
        settings: how long.
        seed: of the draws.
        steps: goes through the steps, with a progress bar for instance.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    reconstruction = Reconstruction(problem)
    decay = (settings.final_learning_rate / settings.learning_rate) ** (1 / settings.steps)
    optimiser = ClippedAdam({"lr": settings.learning_rate, "lrd": decay})
    svi = SVI(reconstruction.model, reconstruction.guide, optimiser, TraceMeanField_ELBO())
    losses = [svi.step() for _ in steps(range(settings.steps))]
    return reconstruction, -np.array(losses) / len(problem.readings)
