"""Saddle-point matrices K = [[Q, A'], [A, 0]] with sparse Q and A, factored by SciPy's SuperLU.

All that a sparse law computes comes from K: its inverse has the conditional covariance in its upper
left block, its determinant is det(A A') times that of the precision on the null space of A.
Everything here is NumPy in float64, whatever the law computes in; the backends call it with known
values and know the derivatives (Rue and Held 2005, *Gaussian Markov Random Fields*, section 2.3).
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from constrained_core.errors import ParameterError
from constrained_core.linear.completed_root import root_for_noise
from constrained_core.linear.field_words import few_digits
from constrained_core.linear.saddle_factor import SaddleFactor
from constrained_core.linear.saddle_factors import MUCH_LOSS, factor_saddle
from constrained_core.linear.saddle_pattern import SaddlePattern
from constrained_core.linear.saddle_pivoted import ScalesFactor

__all__ = [
    "SaddlePattern",
    "precision_noise",
    "saddle_inverse",
    "saddle_inverse_tangent",
    "saddle_log_det",
    "saddle_solve",
    "warn_of_lost_digits",
]

Factor = TypeVar("Factor")

STEP = 1e-30
"""Imaginary step of derivatives: no difference is taken, so that none can be too small."""


# What follows takes values (*batch, nq) and (*batch, na) of any floating dtype that broadcast, and
# raises ParameterError where a matrix is not one of a law, or gives NaN there if not strict.


def saddle_solve(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, right: np.ndarray, strict: bool = True
) -> np.ndarray:
    """``K^-1 right``: ``(*sample, *batch, n + r)``."""
    batch, pairs = _pairs(q, a)
    shape = np.broadcast_shapes(right.shape[:-1], batch) + (pattern.size,)
    right = np.broadcast_to(right.astype(np.float64, copy=False), shape)
    solution = np.full(shape, np.nan)
    for where, one_q, one_a in pairs:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            place = _of_vectors(batch, where)
            solution[place] = factor.solve(right[place])
    return solution


def saddle_log_det(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, strict: bool = True
) -> np.ndarray:
    """``log |det K|``: ``(*batch,)``."""
    batch, pairs = _pairs(q, a)
    result = np.full(batch, np.nan)
    for where, one_q, one_a in pairs:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            result[where] = factor.log_det
    return result


def warn_of_lost_digits(pattern: SaddlePattern, q: np.ndarray, a: np.ndarray) -> None:
    """Warn of values of Q in single precision, of which few digits are left where A x = 0."""
    found = (_try_factor(pattern, one_q, one_a, False) for _, one_q, one_a in _pairs(q, a)[1])
    loss = max((factor.loss for factor in found if factor is not None), default=0.0)
    loss *= float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)
    if loss > MUCH_LOSS:
        warnings.warn(few_digits(min(loss, 1.0), "float32"), UserWarning, stacklevel=2)


def saddle_inverse(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, strict: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """``K^-1`` where Q has entries, ``(*batch, nq)``, and where A has, ``(*batch, na)``."""
    batch, pairs = _pairs(q, a)
    on_q = np.full((*batch, len(pattern.q_row)), np.nan)
    on_a = np.full((*batch, len(pattern.a_row)), np.nan)
    for where, one_q, one_a in pairs:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            on_q[where], on_a[where] = factor.selected_inverse
    return on_q, on_a


def saddle_inverse_tangent(
    pattern: SaddlePattern,
    q: np.ndarray,
    a: np.ndarray,
    dq: np.ndarray,
    da: np.ndarray,
    strict: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of ``saddle_inverse`` in the direction ``dq`` (symmetric) and ``da``."""
    batch = np.broadcast_shapes(*(v.shape[:-1] for v in (q, a, dq, da)))
    q, a, dq, da = (np.broadcast_to(v, batch + v.shape[-1:]) for v in (q, a, dq, da))
    on_q, on_a = np.full(dq.shape, np.nan), np.full(da.shape, np.nan)
    for where, one_q, one_a in _pairs(q, a)[1]:
        factor = _try_factor(pattern, one_q, one_a, strict)
        if factor is not None:
            direction = pattern.values(dq[where], da[where]).astype(np.float64)
            on_q[where], on_a[where] = _along(factor, pattern.values(one_q, one_a), direction)
    return on_q, on_a


def _along(
    factor: SaddleFactor | ScalesFactor, values: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of the selected inverse by a complex step, which has no rounding of its own."""
    size = np.abs(direction).max(initial=0.0)
    step = STEP / size if size > 0 else STEP
    moved = factor.moved(values + 1j * step * direction)
    on_q, on_a = moved.selected_inverse
    return on_q.imag / step, on_a.imag / step


def precision_noise(
    pattern: SaddlePattern,
    q: np.ndarray,
    a: np.ndarray,
    noise: np.ndarray,
    strict: bool = True,
    fixed: bool = True,
) -> np.ndarray:
    """``(*sample, *batch, n)`` w from white noises ``(..., n + r)``, for ``K^-1 [w; 0]`` of the
    conditional covariance: of covariance Q, or of Q + R'R with rows R of A.

    Args:
        fixed: whether A is; else w does not depend on it.

    Raises:
        ParameterError: Q is not positive definite on the null space of A, or A is not fixed and Q
            has negative eigenvalues (NaN if not strict).
    """
    batch, pairs = _pairs(q, a)
    shape = np.broadcast_shapes(noise.shape[:-1], batch) + (pattern.num_variables,)
    noise = noise.astype(np.float64, copy=False)
    noise = np.broadcast_to(noise, shape[:-1] + noise.shape[-1:])
    drawn = np.full(shape, np.nan)
    for where, one_q, one_a in pairs:
        factor = _try(partial(root_for_noise, pattern, one_q, one_a, fixed), strict)
        if factor is not None:
            place = _of_vectors(batch, where)
            drawn[place] = factor.root(noise[place])
    return drawn


def _pairs(q: np.ndarray, a: np.ndarray) -> tuple[tuple[int, ...], list]:
    """The batch shape, and every index of it with the values there, as float64."""
    batch = np.broadcast_shapes(q.shape[:-1], a.shape[:-1])
    q, a = (np.broadcast_to(v.astype(np.float64), batch + v.shape[-1:]) for v in (q, a))
    return batch, [
        (i, np.ascontiguousarray(q[i]), np.ascontiguousarray(a[i])) for i in np.ndindex(batch)
    ]


def _of_vectors(batch: tuple[int, ...], where: tuple[int, ...]) -> tuple:
    """Index of the vectors of a matrix: they may be many along a batch of one."""
    index = (slice(None) if size == 1 else i for size, i in zip(batch, where, strict=True))
    return (..., *index, slice(None))


def _try_factor(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray, strict: bool
) -> SaddleFactor | ScalesFactor | None:
    return _try(partial(factor_saddle, pattern, q, a), strict)


def _try(make: Callable[[], Factor], strict: bool) -> Factor | None:
    try:
        return make()
    except ParameterError:
        if strict:
            raise
        return None
