"""Saddle-point matrices K = [[Q, A'], [A, 0]] with sparse Q and A, in programs of JAX.

They are factored on the host in float64, whatever the dtype; results are NaN where K is none of a
law: Q not positive definite on the null space of A, or rows of A that depend on each other. Forward
and reverse derivatives of any order exist, of the selected inverse of the first.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero

from constrained_core.errors import ConstraintError
from constrained_core.linear import saddle
from constrained_core.linear.saddle import SaddlePattern
from numpyro_constrained.kernels.arrays.host import HostFunction, host_call
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.arrays.segments import Segments

__all__ = [
    "is_known",
    "precision_noise",
    "require_law",
    "saddle_inverse",
    "saddle_log_det",
    "saddle_solve",
]


Matrix = Array | np.ndarray
"""Values of a matrix, which may be constants of a plan."""


def is_known(*arrays: Any) -> bool:
    """Whether the arrays have values."""
    return not any(isinstance(array, Tracer) for array in arrays)


def require_law(pattern: SaddlePattern, q: Matrix, a: Matrix) -> None:
    """Raise, with what is wrong, where a K with known values is none of a law.

    Raises:
        ParameterError: Q is not positive definite on the null space of A, or rows of A depend on
            each other.
    """
    saddle.saddle_log_det(pattern, np.asarray(q), np.asarray(a), strict=True)


def saddle_solve(pattern: SaddlePattern, q: Matrix, a: Matrix, right: Array) -> Array:
    """``K^-1 right``: ``(*sample, *batch, n + r)``."""
    q, a, right = _of_one_rank(q, a, right)
    batch = jnp.broadcast_shapes(q.shape[:-1], a.shape[:-1], right.shape[:-1])
    right = jnp.broadcast_to(right, (*batch, pattern.size))

    def solve(_: Any, right: Array) -> Array:
        function = HostFunction(_solve_on_host, pattern)
        return host_call(function, (right.shape,), right.dtype, q, a, right)[0]

    if is_known(q, a, right):
        return solve(None, right)
    constant_q, constant_a = q, a
    product = partial(_multiply, pattern, constant_q, constant_a)
    return jax.lax.custom_linear_solve(product, right, solve, solve, symmetric=True)


def precision_noise(pattern: SaddlePattern, q: Matrix, a: Matrix, noise: Array) -> Array:
    """``(*sample, *batch, n)`` w from white noises ``(..., n + r)``, by a factor on the host, for
    ``K^-1 [w; 0]`` of the conditional covariance.

    Raises:
        ConstraintError: derivatives are asked for.
    """
    return _noise(pattern, *_of_one_rank(q, a, noise))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _noise(pattern: SaddlePattern, q: Array, a: Array, noise: Array) -> Array:
    return _noise_by(_noise_on_host, pattern, q, a, noise)


def _noise_by(on_host: Callable, pattern: SaddlePattern, q: Array, a: Array, noise: Array) -> Array:
    batch = jnp.broadcast_shapes(q.shape[:-1], a.shape[:-1], noise.shape[:-1])
    function = HostFunction(on_host, pattern)
    return host_call(function, ((*batch, pattern.num_variables),), noise.dtype, q, a, noise)[0]


def _noise_jvp(pattern: SaddlePattern, primals: tuple, tangents: tuple) -> tuple:
    of_q, of_a, of_noise = (isinstance(tangent, SymbolicZero) for tangent in tangents)
    if not (of_q and of_noise):
        raise ConstraintError(
            "precision_root: expected D with Q = D'D, for derivatives of draws in Q or in their "
            "noise, got none; give D (fields have theirs), or keep gradients from the draw: "
            'gradient_estimator="score_function", or stop_gradient.'
        )
    # Of an A that moves, w does not depend on it.
    drawn = _noise_by(_noise_on_host if of_a else _fixed_noise_on_host, pattern, *primals)
    return drawn, jnp.zeros_like(drawn)


_noise.defjvp(_noise_jvp, symbolic_zeros=True)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def saddle_log_det(pattern: SaddlePattern, q: Array, a: Array) -> Array:
    """``log |det K|``: ``(*batch,)``."""
    q, a = _of_one_rank(q, a)
    batch = jnp.broadcast_shapes(q.shape[:-1], a.shape[:-1])
    return host_call(HostFunction(_log_det_on_host, pattern), (batch,), q.dtype, q, a)[0]


@saddle_log_det.defjvp
def _log_det_jvp(pattern: SaddlePattern, primals: tuple, tangents: tuple) -> tuple:
    on_q, on_a = saddle_inverse(pattern, *primals)
    dq, da = (lift(tangent, on_q.ndim) for tangent in tangents)
    change = (on_q * dq).sum(-1) + 2 * (on_a * da).sum(-1)
    return saddle_log_det(pattern, *primals), change


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def saddle_inverse(pattern: SaddlePattern, q: Array, a: Array) -> tuple[Array, Array]:
    """``K^-1`` where Q has entries, ``(*batch, nq)``, and where A has, ``(*batch, na)``."""
    q, a = _of_one_rank(q, a)
    batch = jnp.broadcast_shapes(q.shape[:-1], a.shape[:-1])
    shapes = (*batch, q.shape[-1]), (*batch, a.shape[-1])
    on_q, on_a = host_call(HostFunction(_inverse_on_host, pattern), shapes, q.dtype, q, a)
    return on_q, on_a


@saddle_inverse.defjvp
def _inverse_jvp(pattern: SaddlePattern, primals: tuple, tangents: tuple) -> tuple:
    found = saddle_inverse(pattern, *primals)
    q, a = _of_one_rank(*primals)
    dq, da = (
        jnp.broadcast_to(lift(tangent, part.ndim), part.shape)
        for tangent, part in zip(tangents, found, strict=True)
    )
    return found, _tangent(pattern, q, a, dq, da)


def _tangent(pattern: SaddlePattern, q: Array, a: Array, dq: Array, da: Array) -> Any:
    """Derivative of the selected inverse, a linear map that is its own adjoint once what belongs to
    A, which stands in K twice, is multiplied by the root of two.

    It stands as the solution of a linear system, since JAX knows how to transpose and batch those;
    the system itself is needed for its own derivatives only, which nobody has.
    """
    size, twice = dq.shape[-1], np.asarray(2**0.5, dq.dtype)

    def move(_: Any, parts: Array) -> Array:
        dq, da = _symmetric(pattern, parts[..., :size]), parts[..., size:] / twice
        on_q, on_a = _tangent_call(pattern, q, a, dq, da)
        return jnp.concatenate([on_q, on_a * twice], -1)

    def system(parts: Array) -> Array:
        return _no_derivative(q, a, parts)

    moved = jnp.concatenate([dq, da * twice], -1)
    found = jax.lax.custom_linear_solve(system, moved, move, move, symmetric=True)
    return found[..., :size], found[..., size:] / twice


@jax.custom_jvp
def _no_derivative(q: Array, a: Array, parts: Array) -> Array:
    return parts


@_no_derivative.defjvp
def _no_derivative_jvp(primals: tuple, tangents: tuple) -> tuple:
    raise ConstraintError(
        "expected at most second derivatives of log-determinants and first ones of variances of a "
        "sparse law, in the values of its matrices, got a request for further ones; use the dense "
        "form of the matrices."
    )


def _tangent_call(pattern: SaddlePattern, *arrays: Array) -> tuple[Array, Array]:
    shapes = arrays[2].shape, arrays[3].shape
    function = HostFunction(_tangent_on_host, pattern)
    on_q, on_a = host_call(function, shapes, arrays[2].dtype, *arrays)
    return on_q, on_a


def _symmetric(pattern: SaddlePattern, values: Array) -> Array:
    return 0.5 * (values + values[..., _mirror(pattern)])


@lru_cache(maxsize=64)
def _mirror(pattern: SaddlePattern) -> np.ndarray:
    """``(nq,)`` the place of the entry across the diagonal."""
    row, column, n = pattern.q_row, pattern.q_column, pattern.num_variables
    place = row * n + column
    order = np.argsort(place)
    return order[np.searchsorted(place[order], column * n + row)].astype(np.int32)


@lru_cache(maxsize=64)
def _sums(pattern: SaddlePattern) -> tuple[Segments, Segments, Segments]:
    """Sums over entries: by rows of Q, and by columns and rows of A."""
    n, r = pattern.num_variables, pattern.num_rows
    return (
        Segments(pattern.q_row, n),
        Segments(pattern.a_column, n),
        Segments(pattern.a_row, r),
    )


def _multiply(pattern: SaddlePattern, q: Array, a: Array, vector: Array) -> Array:
    """``K vector``."""
    by_q, by_column, by_row = _sums(pattern)
    above, below = vector[..., : pattern.num_variables], vector[..., pattern.num_variables :]
    top = by_q.totals(q * above[..., pattern.q_column])
    top = top + by_column.totals(a * below[..., pattern.a_row])
    return jnp.concatenate([top, by_row.totals(a * above[..., pattern.a_column])], -1)


def _of_one_rank(*arrays: Any) -> list[Array]:
    """As arrays of one dtype and rank, since ``vmap`` puts its axes in front of all."""
    dtype = jnp.result_type(*arrays)
    ndim = max(array.ndim for array in arrays)
    return [lift(jnp.asarray(array, dtype), ndim) for array in arrays]


# On the host, all arguments have one rank, and axes of size 1 stand for those of others.


def _solve_on_host(pattern: Any, q: np.ndarray, a: np.ndarray, right: np.ndarray) -> tuple:
    return _with_vectors(saddle.saddle_solve, pattern, q, a, right)


def _with_vectors(
    function: Callable, pattern: Any, q: np.ndarray, a: np.ndarray, vectors: np.ndarray
) -> tuple:
    batch = np.broadcast_shapes(q.shape[:-1], a.shape[:-1])
    own, order, vectors = _samples_first(batch, vectors)
    one_q, one_a = (v.reshape(tuple(v.shape[axis] for axis in own) + v.shape[-1:]) for v in (q, a))
    found = function(pattern, one_q, one_a, vectors, strict=False)
    return (found.transpose(np.argsort(order)),)


def _noise_on_host(pattern: Any, q: np.ndarray, a: np.ndarray, noise: np.ndarray) -> tuple:
    return _with_vectors(saddle.precision_noise, pattern, q, a, noise)


def _fixed_noise_on_host(pattern: Any, q: np.ndarray, a: np.ndarray, noise: np.ndarray) -> tuple:
    return _with_vectors(partial(saddle.precision_noise, fixed=False), pattern, q, a, noise)


def _samples_first(batch: tuple[int, ...], vectors: np.ndarray) -> tuple[list, list, np.ndarray]:
    """The axes of a batch that are longer than 1, and vectors with all other ones in front, in what
    order of theirs."""
    vectors = np.broadcast_to(
        vectors, (*np.broadcast_shapes(batch, vectors.shape[:-1]), vectors.shape[-1])
    )
    shared = [axis for axis, length in enumerate(batch) if length == 1]
    own = [axis for axis, length in enumerate(batch) if length != 1]
    order = [*shared, *own, len(batch)]
    return own, order, vectors.transpose(order)


def _log_det_on_host(pattern: Any, q: np.ndarray, a: np.ndarray) -> tuple:
    if q.dtype == np.float32:
        saddle.warn_of_lost_digits(pattern, q, a)
    return (saddle.saddle_log_det(pattern, q, a, strict=False),)


def _inverse_on_host(pattern: Any, q: np.ndarray, a: np.ndarray) -> tuple:
    return saddle.saddle_inverse(pattern, q, a, strict=False)


def _tangent_on_host(
    pattern: Any, q: np.ndarray, a: np.ndarray, dq: np.ndarray, da: np.ndarray
) -> tuple:
    return saddle.saddle_inverse_tangent(pattern, q, a, dq, da, strict=False)
