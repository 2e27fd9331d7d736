"""The usual cures for images that break the law."""

from dataclasses import dataclass

import numpyro
import numpyro.distributions as dist
from jax import Array

from experiments.perceptron import Outputs
from experiments.vae.laws import CompletedNormal, ProjectedNormal
from experiments.vae.methods import Known, Method
from rivals.layers_jax import semantic_loss, squared_penalty


@dataclass(frozen=True)
class SoftPenalty(Method):
    """Likelihood, less ``penalty_weight`` times the squared residual of the mean image."""

    def observe(self, told: Outputs, known: Known, x: Array) -> None:
        super().observe(told, known, x)
        missed = squared_penalty(told["loc"].T, self.A.to_dense(), known.k.T).sum(0)
        numpyro.factor("penalty", -self.settings.penalty_weight * missed)


@dataclass(frozen=True)
class SemanticLoss(Method):
    """Likelihood, and ``semantic_weight`` times the log density of the law given the code."""

    def observe(self, told: Outputs, known: Known, x: Array) -> None:
        super().observe(told, known, x)
        surprise = semantic_loss(told["loc"], self.pixel_scale(told["scale"]), self.A, known.k)
        numpyro.factor("surprise", -self.settings.semantic_weight * surprise)


@dataclass(frozen=True)
class ProjectionLayer(Method):
    """Each draw moved to the nearest image that obeys; by the likelihood of what comes of it."""

    obeys_law = True

    def law(self, told: Outputs, known: Known) -> dist.Distribution:
        return ProjectedNormal(told["loc"], self.pixel_scale(told["scale"]), self.A, known.k)


@dataclass(frozen=True)
class ProjectionAfterTraining(ProjectionLayer):
    """The same, of a plain VAE that was trained without it."""

    @property
    def trained_as(self) -> Method:
        return self.plain


@dataclass(frozen=True)
class Completion(Method):
    """One pixel of each group follows from the others (constraint layer); by its likelihood."""

    obeys_law = True

    def law(self, told: Outputs, known: Known) -> dist.Distribution:
        return CompletedNormal(told["loc"], self.pixel_scale(told["scale"]), self.A, known.k)
