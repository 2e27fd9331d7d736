"""How each method makes a prediction from the outputs of its network, and what it minimises."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Normal

from experiments.chemical_units.data import Unit
from experiments.perceptron import Outputs, positive
from rivals.layers_jax import (
    complete,
    last_of_each_row,
    projected,
    semantic_loss,
    squared_penalty,
)


@dataclass(frozen=True)
class Method:
    """A net for loc ``(n,)``, used as it is: the unconstrained method, and what others start from.

    Attributes:
        unit: the law, and rows to fit fixed parts on; only those for training are looked at.
        width: units of each of the two hidden layers.
    """

    unit: Unit
    width: int = 32
    obeys_law = False
    learns_spread = False
    skips = False

    def heads(self) -> dict[str, int]:
        """Head of the network -> size."""
        return {"loc": self.unit.num_outputs}

    def mean(self, outputs: Outputs, x: Array, k: Array) -> Array:
        """Prediction ``(n,)``."""
        return outputs["loc"]

    def loss(self, outputs: Outputs, x: Array, k: Array, z: Array, key: Array) -> Array:
        """What is minimised, for one example."""
        return jnp.square(self.mean(outputs, x, k) - z).mean()

    def law(self, outputs: Outputs, x: Array, k: Array) -> Any:
        """The predicted law, where the method learns one."""
        return None


@dataclass(frozen=True)
class SoftPenalty(Method):
    """Mean squared error plus ``weight`` times the mean squared residual, in raw units if so."""

    weight: float = 1.0
    raw_units: bool = False

    def loss(self, outputs: Outputs, x: Array, k: Array, z: Array, key: Array) -> Array:
        scale = self.unit.row_scale if self.raw_units else np.ones_like(self.unit.row_scale)
        penalty = squared_penalty(outputs["loc"], scale[:, None] * self.unit.A, scale * k).mean()
        return super().loss(outputs, x, k, z, key) + self.weight * penalty


@dataclass(frozen=True)
class SemanticLoss(Method):
    """Independent normal predictions by likelihood, plus ``weight`` times the law's surprise."""

    weight: float = 1.0
    start: float = 0.05
    learns_spread = True

    def heads(self) -> dict[str, int]:
        return super().heads() | {"scale": self.unit.num_outputs}

    def law(self, outputs: Outputs, x: Array, k: Array) -> Any:
        scale = positive(outputs["scale"], self.start)
        return Normal(outputs["loc"], scale).to_event(1)

    def loss(self, outputs: Outputs, x: Array, k: Array, z: Array, key: Array) -> Array:
        scale = positive(outputs["scale"], self.start)
        surprise = semantic_loss(outputs["loc"], scale, self.unit.A, k)
        fit = -self.law(outputs, x, k).log_prob(z) / self.unit.num_outputs
        return fit + self.weight * surprise


@dataclass(frozen=True)
class ProjectionAfterTraining(Method):
    """The unconstrained net, its predictions moved to the nearest point of the law."""

    obeys_law = True

    def mean(self, outputs: Outputs, x: Array, k: Array) -> Array:
        return projected(outputs["loc"], self.unit.A, k)

    def loss(self, outputs: Outputs, x: Array, k: Array, z: Array, key: Array) -> Array:
        return jnp.square(outputs["loc"] - z).mean()


@dataclass(frozen=True)
class ProjectionLayer(Method):
    """The same projection, already while training (KKT-hPINN)."""

    obeys_law = True

    def mean(self, outputs: Outputs, x: Array, k: Array) -> Array:
        return projected(outputs["loc"], self.unit.A, k)


@dataclass(frozen=True)
class VariableElimination(Method):
    """The net predicts all but the first m outputs (as published), which follow (ECNN)."""

    obeys_law = True

    def heads(self) -> dict[str, int]:
        return {"loc": self.unit.num_outputs - len(self.unit.A)}

    def mean(self, outputs: Outputs, x: Array, k: Array) -> Array:
        dependent = np.arange(len(self.unit.A))
        value = jnp.concatenate([jnp.zeros(dependent.size), outputs["loc"]])
        return complete(value, self.unit.A, k, dependent)


@dataclass(frozen=True)
class ConstraintLayer(Method):
    """The net predicts all outputs; the last of each law is overwritten.

    Those with the largest coefficients come last: an output with a small one would take up the
    errors of the others many times enlarged.
    """

    obeys_law = True

    def mean(self, outputs: Outputs, x: Array, k: Array) -> Array:
        order = np.argsort(np.abs(self.unit.A).max(0), kind="stable")
        dependent = last_of_each_row(self.unit.A, order.tolist())
        return complete(outputs["loc"], self.unit.A, k, dependent)
