"""JAX, jitted: sparse laws against dense ones, and against a factorisation of the precision."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from benchmarks import sparse_problems as problems
from benchmarks.timing import Contest, Step
from constrained_core import SparseMatrix
from numpyro_constrained import ConstrainedGMRF, ConstrainedNormal

__all__ = ["contests", "field_steps"]

KEY = random.key(0)


def _network() -> tuple[Step, Step]:
    """Build, draw, score and differentiate, with a sparse A and with the same A dense."""
    A = problems.network()
    rng = np.random.default_rng(0)
    loc, scale = (jnp.asarray(rng.uniform(0.5, 1.5, A.shape[1])) for _ in range(2))
    k = jnp.asarray(A @ rng.normal(size=A.shape[1]))
    growth = problems.growth()

    def step(matrix: object) -> Step:
        def loss(loc: Array, scale: Array) -> Array:
            law = ConstrainedNormal(loc, scale, matrix, k)
            draw = law.sample(KEY)
            return law.log_prob(jax.lax.stop_gradient(draw)) + draw.sum()

        gradient = jax.jit(jax.grad(loss, (0, 1)))
        return lambda: jax.block_until_ready(gradient(loc, scale * next(growth)))

    return step(A), step(A.toarray())


Use = Callable[[ConstrainedGMRF, Array], Array]


def _field(problem: problems.SparseField, use: Use, is_gradient: bool) -> tuple[Step, Step]:
    growth, Q, x = problems.growth(), SparseMatrix.of(problem.Q), jnp.asarray(problem.x)

    def value(values: Array) -> Array:
        law = ConstrainedGMRF(0.0, Q.with_values(values), problem.A, problem.k)
        return use(law, x)

    program = jax.jit(jax.grad(value) if is_gradient else value)
    values = jnp.asarray(Q.values)
    return (
        lambda: jax.block_until_ready(program(values * next(growth))),
        lambda: problems.factor_precision(problem.Q * next(growth)),
    )


def _density(law: ConstrainedGMRF, x: Array) -> Array:
    return law.log_prob(x)


def _draw(law: ConstrainedGMRF, _: Array) -> Array:
    return law.sample(KEY)


def field_steps(problem: problems.SparseField, name: str) -> tuple[Step, Step]:
    """Density or gradient of a field, and a factorisation of its precision."""
    return _field(problem, _density, name == "gradient")


def contests() -> Iterator[Contest]:
    """All lines of the table."""
    yield Contest("Normal, sparse", "1805 x 2583", "the same law, dense A", _network, 0.1)
    bare, field, square = "SuperLU of Q alone", "16000 nodes, 400 sums", "300 x 300, one sum"
    for name, is_gradient, limit in (("density", False, 2200), ("and gradient", True, 6400)):
        make = partial(lambda g: _field(problems.space_time(), _density, g), is_gradient)
        yield Contest("GMRF", f"{field}: {name}", bare, make, limit_ms=limit)
    for name, use in (("density", _density), ("draw", _draw)):
        make = partial(lambda use: _field(problems.lattice(), use, False), use)
        yield Contest("GMRF", f"{square}: {name}", bare, make, 2.0)
