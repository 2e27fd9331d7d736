"""Estimates of the gradient of an expected loss, each from a draw, or a few, of its own."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from jax.lax import stop_gradient

from experiments.gradient_estimators.problems import Gaussian, Loss, Problem, Subset
from rivals.relaxations_jax import straight_through
from rivals.scores_jax import sfess_as_published, sfess_corrected

Objective = Callable[[Problem, Loss, Array, Array], Array]
"""From a problem, a loss, parameters ``(estimates, parameters)``, alike in all rows, and a key to
what is to be differentiated, ``(estimates,)``."""


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


def by_sfess(
    sfess: Callable[..., Array],
    num_draws: int,
    problem: Subset,
    loss: Loss,
    parameters: Array,
    key: Array,
) -> Array:
    """The rival's estimate, of so many draws."""
    return sfess(key, parameters, problem.subset_size, loss, num_draws)


def averaged(
    objective: Objective,
    number: int,
    problem: Problem,
    loss: Loss,
    parameters: Array,
    key: Array,
) -> Array:
    """The mean of so many independent estimates."""
    keys = random.split(key, number)
    return jax.vmap(partial(objective, problem, loss, parameters))(keys).mean(0)


class Estimator(NamedTuple):
    """How an estimate is made.

    Attributes:
        objective: what is differentiated.
        evaluations: losses that one estimate takes, which is the number of its draws.
    """

    objective: Objective
    evaluations: int = 1


PATHWISE = partial(through, "pathwise")
MARGINAL = partial(through, "marginal_expectation")
FEW = 8
"""Draws of an estimate that is made of more than it needs."""
SFESS = {"as published": sfess_as_published, "corrected": sfess_corrected}

ESTIMATORS: dict[str, dict[str, Estimator]] = {
    Gaussian.name: {
        "ours, pathwise": Estimator(PATHWISE),
        "ours, marginal expectation": Estimator(MARGINAL),
        "ours, score function": Estimator(by_score),
        "score function, centred": Estimator(by_centred_score, 2),
    },
    Subset.name: {
        "ours, marginal expectation": Estimator(MARGINAL),
        "ours, score function": Estimator(by_score),
        "score function, centred": Estimator(by_centred_score, 2),
        "straight-through": Estimator(straight),
        **{
            f"SFESS, {name}, {number} draws": Estimator(partial(by_sfess, sfess, number), number)
            for number in (2, FEW)
            for name, sfess in SFESS.items()
        },
        f"score function, centred, mean of {FEW // 2}": Estimator(
            partial(averaged, by_centred_score, FEW // 2), FEW
        ),
        f"ours, marginal expectation, mean of {FEW}": Estimator(
            partial(averaged, MARGINAL, FEW), FEW
        ),
    },
}
"""By law and name."""


NUM_BLOCKS = 10
"""Estimates are made in so many parts, for the memory's sake."""


@partial(jax.jit, static_argnames=("loss", "estimator", "num_draws"))
def estimates(problem: Problem, loss: str, estimator: str, key: Array, num_draws: int) -> Array:
    """``(num_draws, parameters)`` gradients, each from a draw, or a few, of its own."""
    objective = ESTIMATORS[problem.name][estimator].objective
    objective = partial(objective, problem, problem.loss(loss))
    rows = jnp.tile(problem.parameters, (num_draws // NUM_BLOCKS, 1))
    block = jax.grad(lambda rows, key: objective(rows, key).sum())
    found = lax.map(lambda key: block(rows, key), random.split(key, NUM_BLOCKS))
    return found.reshape(-1, rows.shape[-1])
