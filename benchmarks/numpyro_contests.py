"""JAX, jitted: build, draw, score and differentiate, against the unconstrained laws of NumPyro."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from jax.scipy.linalg import solve_triangular

from benchmarks import problems
from benchmarks.timing import Contest, Step
from numpyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    GroupSum,
)

__all__ = ["contests"]

KEY = random.key(0)


def _array(array: np.ndarray) -> Array:
    return jnp.asarray(array, dtype=jnp.float32)


def _step(build: Callable[..., dist.Distribution], *parameters: np.ndarray) -> Step:
    """Build the law, draw, score another point, gradient for all parameters; one jitted call."""
    leaves = tuple(map(_array, parameters))

    @jax.jit
    def gradients(key: Array, leaves: tuple[Array, ...]) -> tuple[Array, ...]:
        def loss(leaves: tuple[Array, ...]) -> Array:
            law = build(*leaves)
            draw = law.sample(key)
            return law.log_prob(jax.lax.stop_gradient(draw)) + draw.sum()

        return jax.grad(loss)(leaves)

    return lambda: jax.block_until_ready(gradients(KEY, leaves))


def _dense(n: int, m: int) -> tuple[Step, Step]:
    problem = problems.dense(n)
    A, k = map(np.float32, problems.rows(m, n))
    ours = _step(lambda loc, cov: ConstrainedMultivariateNormal(loc, cov, A, k), *problem)
    return ours, _step(dist.MultivariateNormal, *problem)


def _dropped_coordinate(n: int) -> tuple[Step, Step]:
    """The zero-sum law against the same law written by hand on n - 1 coordinates."""
    problem = problems.dense(n)
    ones = np.ones(n, np.float32)

    def by_hand(loc: Array, cov: Array) -> dist.Distribution:
        gain = cov.sum(-1) / cov.sum()
        mean = (loc - gain * loc.sum())[:-1]
        conditional = cov - jnp.outer(gain, cov.sum(-1))
        return dist.MultivariateNormal(mean, conditional[:-1, :-1])

    ours = _step(lambda loc, cov: ConstrainedMultivariateNormal(loc, cov, ones, 0.0), *problem)
    return ours, _step(by_hand, *problem)


def _diagonal(n: int, m: int) -> tuple[Step, Step]:
    problem = problems.diagonal(n)
    if m == 1:
        A, k = np.ones(n, np.float32), np.float32(1)
    else:
        A, k = map(np.float32, problems.rows(m, n))
    ours = _step(lambda loc, scale: ConstrainedNormal(loc, scale, A, k), *problem[:2])
    return ours, _normal(problem)


def _normal(problem: problems.Diagonal) -> Step:
    return _step(lambda loc, scale: dist.Normal(loc, scale).to_event(1), *problem[:2])


def _head() -> tuple[Step, Step]:
    """Likelihood and gradient of a batch, against the formula written by hand."""
    loc, scale, A, k, x = map(np.float32, problems.head())
    half_log_det = np.float32(np.linalg.slogdet(A @ A.T)[1] / 2)

    def ours(loc: Array, scale: Array, k: Array, x: Array) -> Array:
        return ConstrainedNormal(loc, scale, A, k).log_prob(x).sum()

    def by_hand(loc: Array, scale: Array, k: Array, x: Array) -> Array:
        root = jnp.linalg.cholesky(jnp.einsum("ij,bj,kj->bik", A, scale**2, A))
        gap = solve_triangular(root, (k - loc @ A.T)[..., None], lower=True)
        free = dist.Normal(loc, scale).log_prob(x).sum(-1)
        size = len(A) / 2 * math.log(2 * math.pi)
        log_det = jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        return (free + (gap**2).sum((-2, -1)) / 2 + log_det + size - half_log_det).sum()

    def step(gradient: Callable[..., tuple[Array, ...]]) -> object:
        return jax.block_until_ready(gradient(*data))

    data = tuple(map(jnp.asarray, (loc, scale, k, x)))
    compiled = [jax.jit(jax.value_and_grad(f, (0, 1))) for f in (ours, by_hand)]
    return partial(step, compiled[0]), partial(step, compiled[1])


def _groups(n: int, make: Callable[[int], problems.Diagonal]) -> tuple[Step, Step]:
    problem = make(n)
    A = GroupSum(problem.index, problem.num_groups)
    k = np.zeros(problem.num_groups, np.float32)
    ours = _step(lambda loc, scale: ConstrainedNormal(loc, scale, A, k), *problem[:2])
    return ours, _normal(problem)


def _zero_sum_normal(n: int) -> tuple[Step, Step]:
    """Equal variances, sum zero: NumPyro's own law for just this."""
    ones, scale = np.ones(n, np.float32), np.array(1.3)
    ours = _step(lambda scale: ConstrainedNormal(0.0, scale, ones, 0.0), scale)
    return ours, _step(lambda scale: dist.ZeroSumNormal(scale, (n,)), scale)


def _low_rank(n: int) -> tuple[Step, Step]:
    problem = problems.diagonal(n)
    factor = np.random.default_rng(0).normal(size=(n, 5))
    parameters = problem.loc, factor, problem.scale
    ones = np.ones(n, np.float32)
    ours = _step(
        lambda loc, w, d: ConstrainedLowRankMultivariateNormal(loc, w, d, ones, 1.0), *parameters
    )
    return ours, _step(dist.LowRankMultivariateNormal, *parameters)


def _student(n: int) -> tuple[Step, Step]:
    problem = problems.dense(n)
    tril = np.linalg.cholesky(problem.covariance)
    A, k = map(np.float32, problems.rows(min(10, n // 2), n))
    df = np.array(5.0)
    ours = _step(
        lambda df, loc, tril: ConstrainedMultivariateStudentT(df, loc, tril, A, k),
        df,
        problem.loc,
        tril,
    )
    return ours, _step(dist.MultivariateStudentT, df, problem.loc, tril)


def _pymc_zero_sum(n: int) -> tuple[Step, Step]:
    """Score and gradient alone, as PyMC compiles them, for the zero-sum law of equal variances."""
    import pymc as pm
    import pytensor

    value = np.random.default_rng(n).normal(size=n).astype(np.float32)
    value -= value.mean()
    ones = np.ones(n, np.float32)

    @jax.jit
    def ours(scale: Array, x: Array) -> Array:
        return jax.grad(lambda s: ConstrainedNormal(0.0, s, ones, 0.0).log_prob(x))(scale)

    scale = pytensor.tensor.fscalar("scale")
    point = pytensor.tensor.fvector("x")
    log_prob = pm.logp(pm.ZeroSumNormal.dist(sigma=scale, shape=(n,)), point).sum()
    rival = pytensor.function([scale, point], pytensor.grad(log_prob, scale))
    argument, x = _array(np.array(1.3)), _array(value)
    return (
        lambda: jax.block_until_ready(ours(argument, x)),
        lambda: rival(np.float32(1.3), value),
    )


def contests(largest_dense: int) -> Iterator[Contest]:
    """All lines of the table, with dense covariances up to a size."""
    for n in (size for size in problems.DENSE_SIZES if size <= largest_dense):
        for m in sorted({1, min(10, n // 2), n // 2}):
            promise = 2.5 if m == n // 2 else 1.2
            size = f"n = {n}, m = {m}"
            make = partial(_dense, n, m)
            yield Contest("MultivariateNormal", size, "MultivariateNormal", make, promise)
    for n in (100, 1000):
        make = partial(_dropped_coordinate, n)
        yield Contest("MultivariateNormal", f"n = {n}, sum", "drop one coordinate", make)
        yield Contest("StudentT", f"n = {n}, m = 10", "MultivariateStudentT", partial(_student, n))
    for n in problems.DIAGONAL_SIZES:
        promise = 1.5 if n >= 10**4 else None
        yield Contest("Normal", f"n = {n}, m = 1", "Normal", partial(_diagonal, n, 1), promise)
        yield Contest("Normal", f"n = {n}, m = 10", "Normal", partial(_diagonal, n, 10))
        promise = 2.0 if n == 10**6 else None
        size = f"n = {n}, {n // 10} groups"
        yield Contest("Normal", size, "Normal", partial(_groups, n, problems.diagonal), promise)
        make = partial(_groups, n, problems.scattered)
        yield Contest("Normal", f"{size}, scattered", "Normal", make, promise)
    size = "n = 200, m = 40, batch of 512, likelihood"
    yield Contest("Normal", size, "einsum and Cholesky", _head, 1.3)
    for n in (10**3, 10**5):
        make = partial(_zero_sum_normal, n)
        yield Contest("Normal", f"n = {n}, sum", "ZeroSumNormal (NumPyro)", make)
        make = partial(_pymc_zero_sum, n)
        yield Contest("Normal", f"n = {n}, score only", "ZeroSumNormal (PyMC)", make)
        size = f"n = {n}, q = 5, m = 1"
        yield Contest("LowRank", size, "LowRankMultivariateNormal", partial(_low_rank, n))
