"""Which factor of a saddle-point matrix serves the values at hand; the latest ones are kept."""

import numpy as np

from constrained_core.cache import Cache, Content
from constrained_core.errors import ParameterError
from constrained_core.linear.field_words import few_digits
from constrained_core.linear.saddle_factor import SaddleFactor
from constrained_core.linear.saddle_ordering import Ordering, order_saddle
from constrained_core.linear.saddle_pattern import SaddlePattern
from constrained_core.linear.saddle_pivoted import ScalesFactor

__all__ = ["MUCH_LOSS", "factor_of_precision", "factor_saddle"]

MUCH_LOSS = 1e-2
"""Relative error of what a factor finds, from which it is none."""

_ORDERINGS: Cache[Ordering] = Cache(max_entries=64)
_FACTORS: Cache[SaddleFactor | ScalesFactor] = Cache(max_entries=8)


def factor_saddle(
    pattern: SaddlePattern, q: np.ndarray, a: np.ndarray
) -> SaddleFactor | ScalesFactor:
    """K factored; the same values are factored once.

    Raises:
        ParameterError: Q is not positive definite on the null space of A, or rows of A depend on
            each other; values that are not finite.
    """
    return _FACTORS.get((pattern, Content(q), Content(a)), lambda: _definite(pattern, q, a))


def _definite(pattern: SaddlePattern, q: np.ndarray, a: np.ndarray) -> SaddleFactor | ScalesFactor:
    if pattern.is_diagonal and (q > 0).all():
        return _of_scales(pattern, q, a)
    factor = _factor_values(pattern, q, a)
    free, negative = factor.signs()
    if free or negative != pattern.num_rows:
        raise ParameterError(_not_definite(free, negative - pattern.num_rows))
    if factor.loss > MUCH_LOSS:
        raise ParameterError(few_digits(factor.loss, "float64"))
    return factor


def _of_scales(pattern: SaddlePattern, q: np.ndarray, a: np.ndarray) -> ScalesFactor:
    """K of a Q that is positive definite whatever A is, if rows of A are independent."""
    values = _finite_values(pattern, q, a)
    ordering = _ORDERINGS.find(pattern)
    if ordering is None:  # for any scales
        unit = pattern.values(np.ones_like(q), np.sign(a))
        ordering = _ORDERINGS.put(pattern, order_saddle(pattern, _scaled(pattern, unit)[0]))
    factor = _try(ordering, values, pattern.scale(values))
    try:
        return ScalesFactor(pattern, values, factor)
    except np.linalg.LinAlgError as error:
        raise ParameterError(_not_definite(1, 0)) from error


def factor_of_precision(pattern: SaddlePattern, q: np.ndarray) -> SaddleFactor:
    """Q alone, factored: whatever its eigenvalues are."""
    return _factor_values(pattern.of_precision, q, np.zeros(0))


def _factor_values(pattern: SaddlePattern, q: np.ndarray, a: np.ndarray) -> SaddleFactor:
    values = _finite_values(pattern, q, a)
    scaled, scale = _scaled(pattern, values)
    ordering = _ORDERINGS.find(pattern)
    if ordering is not None:
        factor = _try(ordering, values, scale)
        if factor is not None:
            return factor
    ordering = _ORDERINGS.put(pattern, order_saddle(pattern, scaled))
    try:
        factor = SaddleFactor(ordering, values, scale)
    except RuntimeError as error:  # as below, whatever the order
        raise ParameterError(_not_definite(1, 0)) from error
    if not factor.is_in_order:
        raise ParameterError(_not_definite(1, 0))
    return factor


def _finite_values(pattern: SaddlePattern, q: np.ndarray, a: np.ndarray) -> np.ndarray:
    values = pattern.values(q, a)
    if not np.isfinite(values).all():
        raise ParameterError(
            "expected finite values of the precision, scale and A, got NaN or infinity; check the "
            "parameters."
        )
    return values


def _scaled(pattern: SaddlePattern, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T K T, and T."""
    scale = pattern.scale(values)
    row, column = pattern.entries
    return values * scale[row] * scale[column], scale


def _try(ordering: Ordering, values: np.ndarray, scale: np.ndarray) -> SaddleFactor | None:
    try:
        factor = SaddleFactor(ordering, values, scale)
    except RuntimeError:  # SuperLU found a pivot that is exactly zero
        return None
    return factor if factor.is_stable else None


def _not_definite(free: int, negative: int) -> str:
    what = []
    if free:
        what.append(f"leaves {free} direction{'s' * (free > 1)} free")
    if negative:
        what.append(f"is negative along {negative} direction{'s' * (negative > 1)}")
    return (
        "precision_matrix: expected a matrix Q that is positive definite on the null space of A, "
        f"got one that {' and '.join(what) or 'is not'} there; add a row to A for each free "
        "direction (a sum over every connected component of an intrinsic field), or make Q "
        "positive definite."
    )
