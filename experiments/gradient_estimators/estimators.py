"""Estimates of the gradient of an expected loss, one for each draw."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from jax.lax import stop_gradient

from experiments.gradient_estimators.problems import Gaussian, Loss, Problem, Subset
from rivals.relaxations_jax import straight_through

Objective = Callable[[Problem, Loss, Array, Array], Array]
"""From a problem, a loss, parameters ``(draws, parameters)``, alike in all rows, and a key to
what is to be differentiated, ``(draws,)``."""


def through(estimator: str, problem: Problem, loss: Loss, parameters: Array, key: Array) -> Array:
    """The loss of a draw that has a gradient."""
    return loss(problem.law(parameters, estimator).sample(key))


def by_score(problem: Problem, loss: Loss, parameters: Array, key: Array) -> Array:
    """The loss times the log probability of the draw."""
    law = problem.law(parameters, "score_function")
    draw = stop_gradient(law.sample(key))
    return loss(draw) * law.log_prob(draw)


def by_centred_score(problem: Problem, loss: Loss, parameters: Array, key: Array) -> Array:
    """The same with the loss of an independent draw subtracted: unbiased as well."""
    key, other = random.split(key)
    law = problem.law(parameters, "score_function")
    draw, baseline = (stop_gradient(law.sample(k)) for k in (key, other))
    return (loss(draw) - loss(baseline)) * law.log_prob(draw)


def straight(problem: Subset, loss: Loss, parameters: Array, key: Array) -> Array:
    """The gradient of the loss at the draw, as if the draw were the logits."""
    return loss(straight_through(key, parameters, problem.subset_size))


OBJECTIVES: dict[str, dict[str, Objective]] = {
    Gaussian.name: {
        "ours, pathwise": partial(through, "pathwise"),
        "ours, marginal expectation": partial(through, "marginal_expectation"),
        "ours, score function": by_score,
        "score function, centred": by_centred_score,
    },
    Subset.name: {
        "ours, marginal expectation": partial(through, "marginal_expectation"),
        "ours, score function": by_score,
        "score function, centred": by_centred_score,
        "straight-through": straight,
    },
}
"""By law and estimator."""


NUM_BLOCKS = 10
"""Draws are made in so many parts, for the memory's sake."""


@partial(jax.jit, static_argnames=("loss", "estimator", "num_draws"))
def estimates(problem: Problem, loss: str, estimator: str, key: Array, num_draws: int) -> Array:
    """``(draws, parameters)`` gradients, each from a draw of its own."""
    objective = partial(OBJECTIVES[problem.name][estimator], problem, problem.loss(loss))
    rows = jnp.tile(problem.parameters, (num_draws // NUM_BLOCKS, 1))
    block = jax.grad(lambda rows, key: objective(rows, key).sum())
    found = lax.map(lambda key: block(rows, key), random.split(key, NUM_BLOCKS))
    return found.reshape(-1, rows.shape[-1])
