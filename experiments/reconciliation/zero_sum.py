"""Regression on twenty groups whose effects sum to zero, as in NumPyro's own example.

    alpha ~ Normal(0, 2.5), sigma ~ Exponential(1), effects ~ Normal(0, tau) given that they sum
    to zero, tau = 1, or tau ~ HalfNormal(1);  y_i ~ Normal(alpha + effect of the group of i, sigma)

With tau sampled, the two hard laws have the same density. A narrow likelihood and a variable left
out by hand would also need the density of the sum under tau; they are compared at tau = 1 only.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.handlers import reparam

from experiments.nuts import Chains
from experiments.reconciliation.models import WIDTHS
from numpyro_constrained import ConstrainedNormal
from numpyro_constrained.reparam import ConstrainedNormalReparam

NUM_GROUPS, NUM_ROWS = 20, 1000
ONES = np.ones(NUM_GROUPS)

Effects = Callable[[Array | float], Array]
"""Samples ``(20,)`` effects of scale tau."""


def draw_data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups ``(1000,)``, outcomes ``(1000,)`` and the true effects ``(20,)``."""
    rng = np.random.default_rng(seed)
    group = rng.integers(NUM_GROUPS, size=NUM_ROWS)
    effects = rng.normal(size=NUM_GROUPS)
    effects -= effects.mean()
    return group, 5 + effects[group] + rng.normal(size=NUM_ROWS), effects


def zero_sum_normal(tau: Array | float) -> Array:
    return numpyro.sample("effects", dist.ZeroSumNormal(tau, event_shape=(NUM_GROUPS,)))


def ours(tau: Array | float) -> Array:
    return numpyro.sample("effects", ConstrainedNormal(0.0, tau, ONES, 0.0))


def soft_constraint(tau: Array | float, width: float) -> Array:
    effects = numpyro.sample("effects", dist.Normal(0.0, tau).expand((NUM_GROUPS,)).to_event(1))
    numpyro.sample("sum", dist.Normal(effects.sum(), width), obs=0.0)
    return effects


def variable_elimination(tau: Array | float) -> Array:
    prior = dist.Normal(0.0, tau)
    free = numpyro.sample("free", prior.expand((NUM_GROUPS - 1,)).to_event(1))
    last = -free.sum(keepdims=True)
    numpyro.factor("last", prior.log_prob(last).sum())
    return numpyro.deterministic("effects", jnp.concatenate([free, last]))


def regression(effects: Effects, samples_tau: bool = False) -> Callable[[Array, Array], None]:
    """The model of groups and outcomes."""

    def model(group: Array, outcome: Array) -> None:
        alpha = numpyro.sample("alpha", dist.Normal(0.0, 2.5))
        tau = numpyro.sample("tau", dist.HalfNormal(1.0)) if samples_tau else 1.0
        sigma = numpyro.sample("sigma", dist.Exponential(1.0))
        mean = alpha + effects(tau)[group]
        numpyro.sample("outcome", dist.Normal(mean, sigma).to_event(1), obs=outcome)

    return model


REFERENCE = "ZeroSumNormal"
METHODS: dict[str, Effects] = {
    REFERENCE: zero_sum_normal,
    "ours, on the subspace": ours,
    "ours, white noise": ours,
    "variable elimination": variable_elimination,
} | {
    f"soft penalty, width {width:g}": lambda tau, width=width: soft_constraint(tau, width)
    for width in WIDTHS
}
OF_ANY_SCALE = (REFERENCE, "ours, on the subspace", "ours, white noise")


def build(name: str, samples_tau: bool) -> Callable[[Array, Array], None]:
    """The model by a method."""
    model = regression(METHODS[name], samples_tau)
    if name == "ours, white noise":
        return reparam(model, config={"effects": ConstrainedNormalReparam()})
    return model


def score(chains: Chains, effects: np.ndarray) -> dict[str, float]:
    """How good chains are for all that is sampled, and how far from the true effects."""
    found = chains.draws["effects"]
    scales = [chains.draws[name] for name in ("alpha", "tau", "sigma") if name in chains.draws]
    return chains.outcome([found, *scales]) | {
        "residual": np.abs(found.sum(-1)).max(),
        "rmse": np.sqrt(np.square(found.mean((0, 1)) - effects).mean()),
    }
