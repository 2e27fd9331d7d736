"""The images, their readings, and the answer in closed form.

Prior: x ~ N(mu, Sigma), moments of training images. Readings: y ~ N(A x, s^2 I), A the block sums.
The posterior is normal, with the same covariance for all images.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

from constrained_core import GroupSum
from experiments.images.data import load
from experiments.images.laws import block_sums
from experiments.super_resolution.settings import Settings

__all__ = ["Posterior", "Problem", "make_problem"]


@dataclass(frozen=True)
class Posterior:
    """Normal laws of all images.

    Attributes:
        mean: ``(images, n)``.
        covariance: ``(n, n)``, the same for all.
    """

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Problem:
    """Images that were read with noise.

    Attributes:
        images: ``(images, n)`` the truth.
        readings: ``(images, m)`` their noisy block sums y.
        A: the block sums, as groups.
        mean, covariance: ``(n,)``, ``(n, n)`` of the prior.
        side: of an image.
    """

    images: np.ndarray
    readings: np.ndarray
    A: GroupSum
    mean: np.ndarray
    covariance: np.ndarray
    side: int

    @cached_property
    def rows(self) -> np.ndarray:
        """``(m, n)`` A as a matrix."""
        return self.A.to_dense()

    def posterior(self, noise: float) -> Posterior:
        """Of x given y, if readings have this standard deviation; 0: given A x = y."""
        spread = self.rows @ self.covariance @ self.rows.T + noise**2 * np.eye(len(self.rows))
        gain = np.linalg.solve(spread, self.rows @ self.covariance).T
        mean = self.mean + (self.readings - self.rows @ self.mean) @ gain.T
        return Posterior(mean, self.covariance - gain @ self.rows @ self.covariance)

    def log_evidence(self, noise: float) -> float:
        """Mean over images of log p(y)."""
        spread = self.rows @ self.covariance @ self.rows.T + noise**2 * np.eye(len(self.rows))
        law = multivariate_normal(self.rows @ self.mean, spread)
        return float(law.logpdf(self.readings).mean())

    @cached_property
    def likeliest_noise(self) -> float:
        """The standard deviation of a reading that all readings make most likely."""
        found = minimize_scalar(
            lambda log: -self.log_evidence(np.exp(log)), bounds=(-6, 2), options={"xatol": 1e-8}
        )
        return float(np.exp(found.x))


def make_problem(settings: Settings, seed: int) -> Problem:
    """Test digits and readings of them; the prior comes from the training digits."""
    split = load("digits")
    rng = np.random.default_rng(seed)
    train = split.noised(rng.uniform(size=split.train.shape))
    images = split.test[: settings.num_images]
    A = block_sums(split.side, settings.block)
    sums = images @ A.to_dense().T
    return Problem(
        images,
        sums + settings.noise * rng.normal(size=sums.shape),
        A,
        train.mean(0),
        np.cov(train, rowvar=False) + settings.ridge * np.eye(train.shape[-1]),
        split.side,
    )
