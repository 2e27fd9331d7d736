"""Pixels given A x = k: by likelihood, and by squared error in three ways."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array, lax

from experiments.perceptron import Outputs, Parameters
from experiments.vae.methods import Known, LowRank, Method
from numpyro_constrained import ConstrainedNormal

SPREAD = "spread"
"""The head of the scales that are fitted by likelihood when all else stands."""


@dataclass(frozen=True)
class Likelihood(Method):
    """The pixels given A x = k, by the likelihood of that law."""

    obeys_law = True

    def law(self, told: Outputs, known: Known) -> dist.Distribution:
        return self.constrained(told, known)


@dataclass(frozen=True)
class LikelihoodAndConstraint(Likelihood):
    """By the density of pixels and sums together, log p(x | A x = k) + log p(A x = k).

    Bayes' theorem makes of it that of the plain VAE, whose nets these are, but for a constant.
    """

    @property
    def trained_as(self) -> Method:
        return self.plain


@dataclass(frozen=True)
class JointStart(Likelihood):
    """The first steps by the density of pixels and sums together, the others by the law's alone."""

    def at_step(self, step: int) -> Method:
        return self.plain if step < self.settings.joint_steps else self


@dataclass(frozen=True)
class LowRankLikelihood(LowRank):
    """Low-rank normal pixels given A x = k, by the likelihood of that law."""

    obeys_law = True

    def law(self, told: Outputs, known: Known) -> dist.Distribution:
        return self.constrained(told, known)


@dataclass(frozen=True)
class ExpectedLoss(Likelihood):
    """The expected squared error of a draw, in closed form.

    The scales that minimise it are too small for a density; those of ``law`` are fitted afterwards
    around the same mean.
    """

    estimator = "pathwise"

    def heads(self) -> dict[str, int]:
        return super().heads() | {SPREAD: self.side**2}

    def law(self, told: Outputs, known: Known) -> ConstrainedNormal:
        """With the mean that was learned and the scales that were fitted."""
        mean = lax.stop_gradient(self.learned(told, known).mean)
        scale = self.pixel_scale(told[SPREAD])
        return ConstrainedNormal(mean, scale, self.A, known.k, validate_args=False)

    def learned(self, told: Outputs, known: Known) -> ConstrainedNormal:
        """The law whose draws the loss is of."""
        return self.constrained(told, known, gradient_estimator=self.estimator)

    def error(self, told: Outputs, known: Known, x: Array) -> Array:
        """``(images,)`` squared error."""
        return self.learned(told, known).expected_l2(x).sum(-1)

    def observe(self, told: Outputs, known: Known, x: Array) -> None:
        """Squared error as if of normal observations with a fixed standard deviation."""
        error = self.error(told, known, x) / self.settings.observation_scale**2
        numpyro.factor("error", -0.5 * error)

    def spread_model(self, parameters: Parameters, x: Array, known: Known) -> None:
        """What the scales are fitted by."""
        told = self.decode(parameters, self.prior(parameters, known), known)
        with numpyro.plate("images", len(x)):
            numpyro.sample("x", self.law(told, known), obs=x)


@dataclass(frozen=True)
class Pathwise(ExpectedLoss):
    """The squared error of one draw, differentiated through the draw."""

    def error(self, told: Outputs, known: Known, x: Array) -> Array:
        drawn = self.learned(told, known).rsample(numpyro.prng_key())
        return jnp.square(drawn - x).sum(-1)


@dataclass(frozen=True)
class MarginalExpectation(Pathwise):
    """The same, with the gradient of the mean in place of that of the draw."""

    estimator = "marginal_expectation"
