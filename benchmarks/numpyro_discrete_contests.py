"""JAX, jitted: subsets and counts given their sum, against a plain recursion and NumPyro's laws."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random

from benchmarks import problems
from benchmarks.problems import NUM_ITEMS, SUBSET_SIZE
from benchmarks.timing import Contest, Step
from constrained_core.walk.diagnostics import Diagnostics
from numpyro_constrained import ConstrainedBernoulli, ConstrainedPoisson, FiberSampler
from rivals import recursions_jax
from rivals.relaxations_jax import gumbel_top_k

__all__ = ["contests", "cost_step", "fiber_runs"]

KEY = random.key(0)

Normaliser = Callable[[Array], Array]
Draw = Callable[[Array, Array], Array]


def _array(array: np.ndarray) -> Array:
    return jnp.asarray(array, dtype=jnp.float32)


def _compiled(function: Callable, *arguments: Array) -> Step:
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arguments))


def _subset(logits: Array) -> ConstrainedBernoulli:
    return ConstrainedBernoulli(logits=logits, A=np.ones(NUM_ITEMS), k=SUBSET_SIZE)


def _normaliser(logits: Array) -> Array:
    return _subset(logits).constraint_log_prob()


def _draw(key: Array, logits: Array) -> Array:
    return _subset(logits).sample(key)


def _recursion(logits: Array) -> Array:
    return recursions_jax.log_normaliser(logits, SUBSET_SIZE)


def _row_by_row(normaliser: Normaliser) -> Normaliser:
    """A loop over the batch."""
    return lambda logits: jax.lax.map(normaliser, logits)


def _draw_row_by_row(key: Array, logits: Array) -> Array:
    keys = random.split(key, len(logits))
    return jax.lax.map(lambda row: _draw(*row), (keys, logits))


def _value_step(normaliser: Normaliser) -> Step:
    return _compiled(normaliser, _array(problems.subset_logits()))


def _gradient_step(normaliser: Normaliser) -> Step:
    """The value and its gradient: the marginals, up to those of the base law."""
    both = jax.value_and_grad(lambda logits: normaliser(logits).sum())
    return _compiled(both, _array(problems.subset_logits()))


def _draw_step(draw: Draw) -> Step:
    return _compiled(draw, KEY, _array(problems.subset_logits()))


def _pair(make: Callable[..., Step], ours: Callable, rival: Callable) -> tuple[Step, Step]:
    return make(ours), make(rival)


def _poisson(n: int, total: int) -> tuple[Step, Step]:
    """Draw, score, gradient of the rates, given their sum."""
    ones = np.ones(n)

    def step(law: Callable[[Array], dist.Distribution]) -> Step:
        def log_prob(rate: Array, key: Array) -> Array:
            conditional = law(rate)
            return conditional.log_prob(conditional.sample(key))

        return _compiled(jax.grad(log_prob), _array(problems.rates(n)), KEY)

    def multinomial(rate: Array) -> dist.Distribution:
        return dist.Multinomial(total, rate / rate.sum(), total_count_max=total)

    return step(lambda rate: ConstrainedPoisson(rate, ones, total)), step(multinomial)


def cost_step(weights: np.ndarray, k: int) -> Step:
    """Normaliser and gradient of a batch of 8 under one row of weights."""

    def normaliser(logits: Array) -> Array:
        return ConstrainedBernoulli(logits=logits, A=weights, k=k).constraint_log_prob().sum()

    return _compiled(jax.value_and_grad(normaliser), jnp.zeros((8, len(weights))))


def contests() -> Iterator[Contest]:
    """All lines of the table."""
    size = f"n = {NUM_ITEMS}, k = {SUBSET_SIZE}"
    plain, loop, law = "log-space recursion", "a loop over the batch", "exactly k, "
    recursive_draw = partial(recursions_jax.draw, k=SUBSET_SIZE)
    lines = [
        ("log normaliser", plain, _value_step, _normaliser, _recursion),
        ("gradient", plain, _gradient_step, _normaliser, _recursion),
        ("draw", plain, _draw_step, _draw, recursive_draw),
        ("draw", "Gumbel top-k", _draw_step, _draw, partial(gumbel_top_k, k=SUBSET_SIZE)),
        ("gradient", loop, _gradient_step, _normaliser, _row_by_row(_normaliser)),
        ("draw", loop, _draw_step, _draw, _draw_row_by_row),
    ]
    for what, rival, make, ours, theirs in lines:
        pair = partial(_pair, make, ours, theirs)
        yield Contest(law + what, size, rival, pair, limit_ms=30.0)
    for n, total in problems.POISSON_SIZES:
        make = partial(_poisson, n, total)
        yield Contest("Poisson", f"n = {n}, sum = {total}", "Multinomial", make, 1.3)


def fiber_runs(
    rate: np.ndarray, A: np.ndarray, k: np.ndarray, num_draws: int, num_chains: int
) -> tuple[Step, Callable[[], Diagnostics]]:
    """Chains on the fiber of Poisson variables, and what is to be thought of the last of them."""
    sampler = FiberSampler(dist.Poisson(jnp.asarray(rate)).to_event(1), A, k)
    run = partial(sampler.run, KEY, num_draws, num_chains)
    return lambda: jax.block_until_ready(run()), sampler.diagnostics
