"""Seconds of training, methods in turns, so that other load on the machine meets all alike."""

import time
from collections.abc import Sequence
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from experiments.images.data import Split
from experiments.vae.comparison import plain_of
from experiments.vae.methods import Method
from experiments.vae.settings import Settings
from experiments.vae.training import FIT, batches, new_key, scaling_of, start, take_steps


def steps_to_time(split: Split, settings: Settings) -> np.ndarray:
    """``(steps, size, n)`` images of a measurement."""
    return next(batches(split, 0, settings.timed_steps, settings.batch_size))


def seconds_per_step(methods: Sequence[Method], split: Split) -> np.ndarray:
    """``(turns, methods)`` of the first stage of training, compiled before."""
    settings = methods[0].settings
    images, jobs = steps_to_time(split, settings), []
    for method in methods:
        parameters = method.start(new_key(0), jnp.zeros(split.side**2))
        state, scaling = start(method, FIT, parameters, 0), scaling_of(method, split)
        jobs.append((method, FIT, state, images, scaling))
    for job in jobs:
        jax.block_until_ready(take_steps(*job))
    found = np.empty((settings.timed_turns, len(jobs)))
    for turn, (place, job) in product(found, enumerate(jobs)):
        begin = time.perf_counter()
        jax.block_until_ready(take_steps(*job))
        turn[place] = (time.perf_counter() - begin) / settings.timed_steps
    return found


def summary(names: Sequence[str], taken: np.ndarray) -> dict[str, dict[str, float]]:
    """Milliseconds per step of each method (median over turns) and its ratio to the plain one of
    its family (median over turns, each ratio within a turn).

    Args:
        names: of the methods.
        taken: ``(turns, methods)`` seconds per step.
    """
    plain = [names.index(plain_of(name)) for name in names]
    middle, ratio = np.median(taken, 0), np.median(taken / taken[:, plain], 0)
    return {
        name: {"milliseconds": 1e3 * middle[place], "ratio": ratio[place]}
        for place, name in enumerate(names)
    }
