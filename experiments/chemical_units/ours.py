"""The conditional law of the outputs given the mass balances, trained in several ways."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.chemical_units.data import Unit
from experiments.chemical_units.methods import Method
from experiments.chemical_units.settings import Recipe
from experiments.perceptron import Outputs, positive
from numpyro_constrained import ConstrainedMultivariateNormal
from rivals.layers_jax import projected

SPREAD = "spread"
"""The head of the variance that is reported, trained by likelihood when the mean stands."""

FACTOR = "factor"
"""The constant ``(n, n)`` of a net that holds the Cholesky factor of its errors' covariance."""

PLAIN = Recipe(base="line", correlation="none")


def fit_line(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Least squares with an intercept ``(p + 1, n)``; it obeys laws that are linear in x."""
    inputs = np.hstack([x, np.ones((len(x), 1))])
    return np.linalg.lstsq(inputs, z, rcond=None)[0]


def on_line(line: np.ndarray, x: Array) -> Array:
    """The line at one example ``(p,)``."""
    return x @ line[:-1] + line[-1]


def fit_base(unit: Unit, recipe: Recipe, factor: np.ndarray) -> np.ndarray:
    """The line of a recipe ``(p + 1, n)``, from the rows for training."""
    x, k, z = unit.rows["train"]
    if recipe.base == "none":
        return np.zeros((unit.num_inputs + 1, unit.num_outputs))
    line = fit_line(x, z - k @ gain(unit.A, factor).T if recipe.base == "line of the rest" else z)
    if recipe.base != "line where it fits":
        return line
    unexplained = np.var(z - on_line(line, x), axis=0) / np.var(z, axis=0)
    return np.where(unexplained <= 1 - recipe.good_fit, line, 0.0)


def gain(A: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """``(n, m)`` C A' (A C A')^-1: by how much the law moves the mean, per unit of k."""
    cross = factor @ (A @ factor).T
    return np.linalg.solve(A @ cross, cross.T).T


def fit_factor(unit: Unit, correlation: str) -> np.ndarray:
    """Cholesky factor of C ``(n, n)``, of mean variance 1, from the rows for training."""
    identity = np.eye(unit.num_outputs)
    if correlation == "none":
        return identity
    covariance = np.cov(unit.rows["train"].z.T)
    return np.linalg.cholesky(covariance / np.diag(covariance).mean() + 1e-6 * identity)


def residual_factors(errors: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Cholesky factors ``(seeds, n, n)`` of the second moments of errors ``(seeds, rows, n)``.

    Errors of means that obey the law have none across it; there the factors have the mean variance,
    which conditioning takes out again.
    """
    moments = errors.mT @ errors / errors.shape[1]
    size = np.trace(moments, axis1=1, axis2=2)[:, None, None] / errors.shape[2]
    across = np.linalg.pinv(A) @ A
    return np.linalg.cholesky(moments + size * (across + 1e-9 * np.eye(errors.shape[2])))


def constrained(loc: Array, scale: Array, factor: Array, A: np.ndarray, k: Array, **options):
    """N(loc, D C D) given A z = k, for D = diag(scale) and a Cholesky factor of C."""
    return ConstrainedMultivariateNormal(
        loc, scale_tril=scale[:, None] * factor, A=A, k=k, validate_args=False, **options
    )


@dataclass(frozen=True)
class ProjectionFromBase(Method):
    """The control: all that ours has except D(x) and C, so that the mean is a projection."""

    recipe: Recipe = PLAIN
    obeys_law = True
    learns_spread = True

    def heads(self) -> dict[str, int]:
        return super().heads() | {SPREAD: self.unit.num_outputs}

    @property
    def skips(self) -> bool:
        return self.recipe.skips

    @cached_property
    def line(self) -> np.ndarray:
        return fit_base(self.unit, self.recipe, self.factor)

    @cached_property
    def factor(self) -> np.ndarray:
        return fit_factor(self.unit, self.recipe.correlation)

    def loc(self, outputs: Outputs, x: Array) -> Array:
        return on_line(self.line, x) + outputs["loc"]

    def mean(self, outputs: Outputs, x: Array, k: Array) -> Array:
        return projected(self.loc(outputs, x), self.unit.A, k)

    def law(self, outputs: Outputs, x: Array, k: Array) -> ConstrainedMultivariateNormal:
        """The law with the prediction as its mean and the spread of its own head.

        The head scales the covariance of the errors on the rows for training.
        """
        scale = positive(outputs[SPREAD], 1.0)
        return constrained(self.mean(outputs, x, k), scale, outputs[FACTOR], self.unit.A, k)


@dataclass(frozen=True)
class ExpectedLoss(ProjectionFromBase):
    """Ours: squared error of the conditional mean.

    It is the expected squared error of a draw but for the variance, which a head of its own fits
    by likelihood afterwards.
    """

    estimator: str = "pathwise"

    def heads(self) -> dict[str, int]:
        return super().heads() | {"scale": self.unit.num_outputs}

    def conditional(self, outputs: Outputs, x: Array, k: Array) -> ConstrainedMultivariateNormal:
        """N(base + loc, D C D) given the law."""
        scale = positive(outputs["scale"], self.recipe.start)
        return constrained(
            self.loc(outputs, x),
            scale,
            self.factor,
            self.unit.A,
            k,
            gradient_estimator=self.estimator,
        )

    def mean(self, outputs: Outputs, x: Array, k: Array) -> Array:
        return self.conditional(outputs, x, k).mean


@dataclass(frozen=True)
class SampledLoss(ExpectedLoss):
    """Ours: squared error of one draw, with the gradient of ``estimator``."""

    def loss(self, outputs: Outputs, x: Array, k: Array, z: Array, key: Array) -> Array:
        return jnp.square(self.conditional(outputs, x, k).rsample(key) - z).mean()


@dataclass(frozen=True)
class Likelihood(ExpectedLoss):
    """Ours: likelihood of the conditional law, mean and spread together."""

    def heads(self) -> dict[str, int]:
        return {name: size for name, size in super().heads().items() if name != SPREAD}

    def law(self, outputs: Outputs, x: Array, k: Array) -> ConstrainedMultivariateNormal:
        return self.conditional(outputs, x, k)

    def loss(self, outputs: Outputs, x: Array, k: Array, z: Array, key: Array) -> Array:
        return -self.law(outputs, x, k).log_prob(z) / self.unit.num_outputs
