"""Stochastic variational inference, many steps in one compiled scan."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax, random
from numpyro.infer import TraceMeanField_ELBO

from experiments.images.data import Split
from experiments.perceptron import Parameters, with_free_head
from experiments.vae.methods import Method, Scaling
from experiments.vae.ours import SPREAD, ExpectedLoss
from experiments.vae.settings import Settings

STEPS_PER_CALL = 100

FIT, FIT_SPREAD = "fit", "fit the spread"
"""The two stages of training; the second is for methods that learn by squared error."""


class State(NamedTuple):
    """Of a training: nets, the optimiser's moments, random numbers."""

    parameters: Parameters
    moments: optax.OptState
    key: Array


def new_key(seed: int) -> Array:
    """A key of the generator that, on CPUs, compiles faster than the default."""
    return random.key(seed, impl="rbg")


def scaling_of(method: Method, split: Split) -> Scaling:
    """How the sums of the training images vary."""
    k = split.noised(np.array(0.5)) @ method.A.to_dense().T
    return Scaling(*(jnp.asarray(part, jnp.float32) for part in (k.mean(0), k.std(0))))


def batches(split: Split, seed: int, steps: int, size: int) -> Iterator[np.ndarray]:
    """``(steps, size, n)`` images with fresh noise, call by call; the same for all methods."""
    rng = np.random.default_rng(seed)
    for start in range(0, steps, STEPS_PER_CALL):
        shape = min(STEPS_PER_CALL, steps - start), size
        rows = rng.integers(len(split.train), size=shape)
        uniform = rng.random((*shape, split.side**2), np.float32)
        yield split.noised(uniform, rows).astype(np.float32)


def steps_of(stage: str, settings: Settings) -> int:
    return settings.steps if stage == FIT else settings.spread_steps


def optimiser(stage: str, settings: Settings) -> optax.GradientTransformation:
    """Adam with a rate that decays to the final one within the steps of a stage."""
    first = settings.learning_rate if stage == FIT else settings.spread_learning_rate
    decay = settings.final_learning_rate / first
    return optax.adam(optax.exponential_decay(first, steps_of(stage, settings), decay))


@partial(jax.jit, static_argnames=("method", "stage"))
def take_steps(
    method: Method, stage: str, state: State, images: Array, scaling: Scaling
) -> tuple[State, Array]:
    """A step for each batch of ``(steps, size, n)`` images; the state after, the mean loss."""
    rule = optimiser(stage, method.settings)

    def step(state: State, x: Array) -> tuple[State, Array]:
        key, key_next = random.split(state.key)
        loss, slope = jax.value_and_grad(partial(loss_of, method, stage))(
            state.parameters, key, x, scaling
        )
        updates, moments = rule.update(slope, state.moments)
        return State(optax.apply_updates(state.parameters, updates), moments, key_next), loss

    state, losses = lax.scan(step, state, images)
    return state, losses.mean()


def loss_of(
    method: Method, stage: str, parameters: Parameters, key: Array, x: Array, scaling: Scaling
) -> Array:
    """Minus the evidence lower bound of an image, in closed form where there is one."""
    model = method.model
    if stage == FIT_SPREAD:
        assert isinstance(method, ExpectedLoss)
        model, parameters = method.spread_model, with_free_head(parameters, SPREAD)
    known = method.read(x, scaling)
    elbo = TraceMeanField_ELBO()
    return elbo.loss(key, {}, model, method.guide, parameters, x, known) / len(x)


def start(method: Method, stage: str, parameters: Parameters, seed: int) -> State:
    """Before the first step of a stage."""
    moments = optimiser(stage, method.settings).init(parameters)
    return State(parameters, moments, random.fold_in(new_key(seed), stage == FIT_SPREAD))


def fit(method: Method, split: Split, seed: int) -> Parameters:
    """Nets of a method, all its stages done.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    mean_image = split.noised(np.array(0.5)).mean(0)
    parameters = method.start(new_key(seed), jnp.asarray(mean_image, jnp.float32))
    stages = [FIT, FIT_SPREAD] if isinstance(method, ExpectedLoss) else [FIT]
    for stage in stages:
        parameters = run_stage(method, stage, parameters, split, seed)
    return parameters


def run_stage(
    method: Method, stage: str, parameters: Parameters, split: Split, seed: int
) -> Parameters:
    """Nets after a stage of training."""
    settings, scaling = method.settings, scaling_of(method, split)
    state = start(method, stage, parameters, seed)
    parts = batches(split, seed, steps_of(stage, settings), settings.batch_size)
    for part, images in enumerate(parts):
        current = method.at_step(part * STEPS_PER_CALL)
        state, loss = take_steps(current, stage, state, images, scaling)
        if not np.isfinite(loss):
            raise FloatingPointError(f"Expected a finite loss of {method}, got {loss}")
    return state.parameters
