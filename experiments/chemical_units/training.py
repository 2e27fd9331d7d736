"""Training of several seeds side by side: an epoch, or several, is one compiled scan."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.chemical_units.data import Rows
from experiments.perceptron import Parameters

Loss = Callable[[Parameters, Array, Array, Array, Array], Array]
"""Loss of one example: parameters, x, k, z, key."""


class Schedule(NamedTuple):
    """How long and how fast to train.

    Attributes:
        epochs_per_call: epochs of one compiled call; the progress bar moves after each.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    epochs_per_call: int = 50


def train(
    loss: Loss,
    parameters: Parameters,
    rows: Rows,
    schedule: Schedule,
    seeds: Array,
    advance: Callable[[int], None],
) -> Parameters:
    """Adam on shuffled batches, for all seeds at once.

    Each epoch shuffles anew, per seed, and leaves out the rows that do not fill a batch.

    Args:
        loss: of one example; a batch takes the mean.
        parameters: with a leading axis of seeds, as what is returned.
        seeds: ``(seeds,)`` keys of the random numbers of training.
        advance: is told how many epochs have passed.
    """
    optimizer = optax.adam(schedule.learning_rate)
    several = jax.jit(jax.vmap(partial(_epochs, loss, optimizer, rows, schedule.batch_size)))
    state = parameters, jax.vmap(optimizer.init)(parameters)
    for start in range(0, schedule.epochs, schedule.epochs_per_call):
        count = min(schedule.epochs_per_call, schedule.epochs - start)
        epochs = jnp.arange(start, start + count)
        keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(seeds, epochs)
        state = jax.block_until_ready(several(state, keys))
        advance(count)
    return state[0]


def _epochs(loss, optimizer, rows, batch_size, state, keys):
    """One epoch for each key."""
    num_rows = len(rows.x)
    num_batches = num_rows // batch_size

    def epoch(state, key):
        key_order, key_noise = jax.random.split(key)
        order = jax.random.permutation(key_order, num_rows)[: num_batches * batch_size]
        batches = [jnp.asarray(part)[order].reshape(num_batches, batch_size, -1) for part in rows]
        noise = jax.random.split(key_noise, num_batches)
        return jax.lax.scan(partial(_step, loss, optimizer), state, (*batches, noise))[0], None

    return jax.lax.scan(epoch, state, keys)[0]


def _step(loss, optimizer, state, batch):
    parameters, moments = state
    *examples, key = batch
    keys = jax.random.split(key, len(examples[0]))

    def mean_loss(parameters):
        return jax.vmap(partial(loss, parameters))(*examples, keys).mean()

    updates, moments = optimizer.update(jax.grad(mean_loss)(parameters), moments)
    return (optax.apply_updates(parameters, updates), moments), None
