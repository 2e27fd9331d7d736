"""Losses of constrained draws whose expected gradients are known without sampling."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from numpyro_constrained import ConstrainedBernoulli, ConstrainedNormal
from rivals.recursions_jax import log_normaliser

Loss = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Problem(ABC):
    """A law with random parameters, and targets of its losses.

    Attributes:
        parameters: what gradients are taken in, one vector.
        target: ``(n,)`` of losses of single entries.
        mixing, mixed_target: ``(5, n)`` W and ``(5,)`` of the loss that mixes them.
    """

    parameters: Array
    target: Array
    mixing: Array
    mixed_target: Array

    name: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]
    parameters_per_item: ClassVar[int]

    @classmethod
    def draw(cls, n: int, seed: int) -> "Problem":
        """Standard normal parameters and targets; log scales half as wide."""
        rng = np.random.default_rng([seed, n])
        parameters = rng.normal(size=(cls.parameters_per_item, n))
        parameters[1:] *= 0.5
        mixing = rng.normal(size=(NUM_MIXED, n)) / np.sqrt(n)
        parts = parameters.ravel(), rng.normal(size=n), mixing, rng.normal(size=NUM_MIXED)
        return cls(*map(jnp.asarray, parts))

    @property
    def size(self) -> int:
        """n."""
        return len(self.target)

    def loss(self, name: str) -> Loss:
        """Losses ``(draws,)`` of draws ``(draws, n)``."""
        target, mixed_target = self.target[None], self.mixed_target[None]
        return {
            "squares": lambda x: jnp.square(x - target).sum(-1),
            "mixed squares": lambda x: jnp.square(x @ self.mixing.T - mixed_target).sum(-1),
            "absolute": lambda x: jnp.abs(x - target).sum(-1),
        }[name]

    @abstractmethod
    def law(self, parameters: Array, gradient_estimator: str) -> ConstrainedNormal:
        """The constrained law of parameters ``(*batch, parameters)``."""

    @abstractmethod
    def expected_loss(self, name: str, parameters: Array) -> Array:
        """Its mean over all draws."""

    @partial(jax.jit, static_argnames="name")
    def exact_gradient(self, name: str) -> Array:
        """Gradient of the expected loss in the parameters."""
        return jax.grad(partial(self.expected_loss, name))(self.parameters)


NUM_MIXED = 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Gaussian(Problem):
    """Independent normal variables given that they sum to zero; parameters are loc, log scale."""

    name = "Gaussian"
    losses = ("squares", "mixed squares", "absolute")
    parameters_per_item = 2

    def law(self, parameters: Array, gradient_estimator: str) -> ConstrainedNormal:
        loc, log_scale = jnp.split(parameters, 2, axis=-1)
        ones = np.ones(self.size)
        return ConstrainedNormal(
            loc, jnp.exp(log_scale), ones, 0.0, gradient_estimator=gradient_estimator
        )

    def expected_loss(self, name: str, parameters: Array) -> Array:
        law = self.law(parameters, "pathwise")
        if name == "squares":
            return law.expected_l2(self.target).sum()
        if name == "absolute":
            return law.expected_l1(self.target).sum()
        gap = self.mixing @ law.mean - self.mixed_target
        return gap @ gap + jnp.einsum("pi,ij,pj", self.mixing, law.covariance, self.mixing)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Subset(Problem):
    """Exactly half of n bits; parameters are logits.

    With psi(logits) the log of the sum over all subsets of exp(logits of their items), the mean of
    the bits is the gradient of psi and their covariance its Hessian, so that expected quadratic
    losses need nothing else. psi is taken from a plain recursion, not from the library.
    """

    name = "exactly n/2"
    losses = ("squares", "mixed squares")
    parameters_per_item = 1

    @property
    def subset_size(self) -> int:
        """Bits that are one."""
        return self.size // 2

    def law(self, parameters: Array, gradient_estimator: str) -> ConstrainedBernoulli:
        ones = np.ones(self.size)
        return ConstrainedBernoulli(
            logits=parameters, A=ones, k=self.subset_size, gradient_estimator=gradient_estimator
        )

    def expected_loss(self, name: str, parameters: Array) -> Array:
        if name == "squares":  # of bits, x^2 = x
            return (
                jax.grad(self._psi)(parameters) @ (1 - 2 * self.target) + self.target @ self.target
            )
        mean, curvatures = jax.vmap(self._along, (None, 0))(parameters, self.mixing)
        return jnp.square(mean - self.mixed_target).sum() + curvatures.sum()

    def _along(self, parameters: Array, direction: Array) -> tuple[Array, Array]:
        """First and second derivative of psi in a direction: mean and variance of its product
        with the bits."""

        def slope(parameters: Array) -> Array:
            return jax.jvp(self._psi, (parameters,), (direction,))[1]

        return jax.jvp(slope, (parameters,), (direction,))

    def _psi(self, logits: Array) -> Array:
        return log_normaliser(logits[None], self.subset_size)[0] + jax.nn.softplus(logits).sum()
