"""The digits demo runs, obeys its law, and its three log-likelihoods are right.

The estimators are checked on a linear decoder with constant scale, where each of the three laws of
x given A x = k is a normal law in the 60 reduced coordinates, known in closed form.
"""

import importlib
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.stats import multivariate_normal

from demo.digits import NUM_PIXELS, SENSOR_MATRIX, Settings

CODE_SIZE, NUM_IMAGES = 2, 3
SETTINGS = Settings(encoder_draws=8000, prior_draws=100_000)
"""With so many the estimates have standard errors below 0.009."""


@dataclass(frozen=True)
class LinearProblem:
    """z ~ N(0, 1), x ~ N(W z + b, diag s^2), and images that obey A x = k."""

    weight: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    images: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "LinearProblem":
        weight = 0.1 * rng.normal(size=(NUM_PIXELS, CODE_SIZE))
        offset = rng.uniform(size=NUM_PIXELS)
        scale = rng.uniform(0.1, 0.5, size=NUM_PIXELS)
        noise = rng.normal(size=(NUM_IMAGES, NUM_PIXELS))
        images = offset + rng.normal(size=(NUM_IMAGES, CODE_SIZE)) @ weight.T + scale * noise
        return cls(weight, offset, scale, images)

    @property
    def readings(self) -> np.ndarray:
        return self.images @ SENSOR_MATRIX.T

    @property
    def encoder(self) -> tuple[np.ndarray, np.ndarray]:
        """Location and scale of an encoder that is a little too wide to be exact."""
        precision = np.eye(CODE_SIZE) + self.weight.T @ (self.weight / self.scale[:, None] ** 2)
        covariance = np.linalg.inv(precision)
        gap = (self.images - self.offset) / self.scale**2
        loc = gap @ self.weight @ covariance
        return loc, np.tile(1.3 * np.sqrt(np.diag(covariance)), (NUM_IMAGES, 1))

    def reduced_density(self, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Density of each image, for a normal law of each with its mean, as one on the subspace."""
        basis = null_space(SENSOR_MATRIX)
        reduced = basis.T @ covariance @ basis
        gaps = (self.images - mean) @ basis
        return np.array([multivariate_normal(cov=reduced).logpdf(gap) for gap in gaps])

    def projected(self) -> np.ndarray:
        return self.reduced_density(
            self.offset, self.weight @ self.weight.T + np.diag(self.scale**2)
        )

    def conditioned(self) -> np.ndarray:
        """Condition the law of x, codes averaged out, on A x = k."""
        return self._given_law(self.weight @ self.weight.T + np.diag(self.scale**2), 0.0)

    def constrained(self) -> np.ndarray:
        """Condition for each code, then average codes out."""
        return self._given_law(np.diag(self.scale**2), self.weight @ self.weight.T)

    def _given_law(self, conditioned: np.ndarray, codes: np.ndarray | float) -> np.ndarray:
        cross = conditioned @ SENSOR_MATRIX.T
        gain = np.linalg.solve(SENSOR_MATRIX @ cross, cross.T).T
        mean = self.offset + (self.readings - SENSOR_MATRIX @ self.offset) @ gain.T
        keep = np.eye(NUM_PIXELS) - gain @ SENSOR_MATRIX
        return self.reduced_density(mean, keep @ (conditioned + codes) @ keep.T)


@dataclass(frozen=True)
class LinearVAE:
    """What the estimators ask of a VAE, with the arrays of a framework."""

    weight: object
    offset: object
    scale: object
    encoder: tuple

    def encode(self, x):
        return self.encoder

    def decode(self, z, k):
        return z @ self.weight.T + self.offset, self.scale


class PyroDemo:
    """The Pyro twin, with NumPy in and out."""

    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.module = importlib.import_module("demo.vae_pyro")

    def in_float32(self):
        self.torch.set_default_dtype(self.torch.float32)

    def log_likelihood(self, kind, problem):
        as_tensor = self.torch.as_tensor
        parts = (problem.weight, problem.offset, problem.scale)
        vae = LinearVAE(*map(as_tensor, parts), tuple(map(as_tensor, problem.encoder)))
        estimate = getattr(self.module, f"{kind}_log_likelihood")
        return estimate(vae, *map(as_tensor, (problem.images, problem.readings)), SETTINGS).numpy()


class NumPyroDemo:
    """The NumPyro twin, with NumPy in and out."""

    def __init__(self):
        self.jax = pytest.importorskip("jax")
        self.module = importlib.import_module("demo.vae_numpyro")

    def in_float32(self):
        self.jax.config.update("jax_enable_x64", False)

    def log_likelihood(self, kind, problem):
        as_array = self.jax.numpy.asarray
        parts = (problem.weight, problem.offset, problem.scale)
        vae = LinearVAE(*map(as_array, parts), tuple(map(as_array, problem.encoder)))
        estimate = getattr(self.module, f"{kind}_log_likelihood").__wrapped__
        images, readings = map(as_array, (problem.images, problem.readings))
        return np.asarray(estimate(self.module.new_key(0), vae, images, readings, SETTINGS))


each_demo = pytest.mark.parametrize("demo_class", [PyroDemo, NumPyroDemo])
pytestmark = pytest.mark.rank_promotion("allow")


@each_demo
@pytest.mark.parametrize("kind", ["constrained", "conditioned", "projected"])
def test_log_likelihood_of_a_linear_decoder(demo_class, kind, rng, monkeypatch):
    demo, problem = demo_class(), LinearProblem.draw(rng)
    monkeypatch.setattr(demo.module, "CODE_SIZE", CODE_SIZE)
    found = demo.log_likelihood(kind, problem)
    assert found.shape == (NUM_IMAGES,)
    np.testing.assert_allclose(found, getattr(problem, kind)(), atol=0.05)  # at least 5.5 errors


@each_demo
def test_short_mode_in_single_precision(demo_class, tmp_path):
    demo, picture = demo_class(), tmp_path / "digits.png"
    demo.in_float32()
    results = demo.module.main(["--short", "--picture", str(picture)])
    assert list(results) == ["unconstrained", "projected", "constrained"]
    assert all(np.isfinite(result.log_likelihood) for result in results.values())
    assert results["constrained"].violation < 1e-5
    assert results["projected"].violation < 1e-5
    assert results["unconstrained"].violation > 0.1
    assert picture.stat().st_size > 10_000
