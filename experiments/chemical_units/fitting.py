"""Nets of a method, one for each seed, and what they predict."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.chemical_units.data import Rows
from experiments.chemical_units.methods import Method
from experiments.chemical_units.ours import FACTOR, SPREAD, residual_factors
from experiments.chemical_units.settings import Protocol, Settings
from experiments.chemical_units.training import train
from experiments.perceptron import (
    Parameters,
    count_parameters,
    init_network,
    outputs,
    with_free_head,
)

Advance = Callable[[int], None]
"""Is told how many epochs have passed."""


def start(method: Method, num_seeds: int) -> Parameters:
    """Nets at random, with a leading axis of seeds; those of a seed are alike in all methods."""
    widths, num_inputs = [method.width] * 2, method.unit.num_inputs

    def init(key: Array) -> Parameters:
        return init_network(key, num_inputs, widths, method.heads(), method.skips)

    return jax.vmap(init)(seed_keys(num_seeds, 0))


def seed_keys(num_seeds: int, purpose: int) -> Array:
    """``(seeds,)`` keys of random numbers for a purpose."""
    key = jax.random.key(purpose)
    return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(jnp.arange(num_seeds))


def num_parameters(method: Method) -> int:
    """How many numbers one net of the method learns."""
    return count_parameters(jax.eval_shape(lambda: start(method, 1)))


def fit_mean(method: Method, settings: Protocol, advance: Advance) -> Parameters:
    """Train for what the method minimises."""

    def loss(parameters: Parameters, x: Array, k: Array, z: Array, key: Array) -> Array:
        return method.loss(outputs(parameters, x), x, k, z, key)

    parameters, rows = start(method, settings.seeds), method.unit.rows["train"]
    keys = seed_keys(settings.seeds, 1)
    return train(loss, parameters, rows, settings.mean_schedule, keys, advance)


def fit_spread(
    method: Method, parameters: Parameters, settings: Settings, advance: Advance
) -> Parameters:
    """Train the head of the spread by likelihood, if there is one; all else stays as it is."""
    if SPREAD not in method.heads():
        return parameters

    def loss(parameters: Parameters, x: Array, k: Array, z: Array, key: Array) -> Array:
        free = with_free_head(parameters, SPREAD)
        return -method.law(outputs(free, x), x, k).log_prob(z)

    keys, rows = seed_keys(settings.seeds, 2), method.unit.rows["train"]
    errors = rows.z - np.asarray(predict(method, parameters, rows))
    constants = {FACTOR: jnp.asarray(residual_factors(errors, method.unit.A))}
    parameters = parameters | {"constants": constants}
    return train(loss, parameters, rows, settings.spread_schedule, keys, advance)


def predict(method: Method, parameters: Parameters, rows: Rows) -> Array:
    """``(seeds, rows, n)``."""

    def mean(parameters: Parameters, x: Array, k: Array) -> Array:
        return method.mean(outputs(parameters, x), x, k)

    over_rows = jax.vmap(mean, in_axes=(None, 0, 0))
    return jax.jit(jax.vmap(over_rows, in_axes=(0, None, None)))(parameters, rows.x, rows.k)


def mean_squares(predictions: Array, rows: Rows) -> np.ndarray:
    """``(seeds,)`` mean over rows and scaled outputs of the squared error."""
    return np.square(np.asarray(predictions) - rows.z).mean((1, 2))
