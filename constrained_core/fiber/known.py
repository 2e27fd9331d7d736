"""What concrete parameters say for certain of the values of discrete variables, before planning.

A rate of 0 and a probability of 0 are structural zeros: the values that they exclude are no part of
the fiber. Only what holds in a whole batch counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from constrained_core.fiber.tables import TwoWayTable

__all__ = [
    "Known",
    "KnownRates",
    "Reader",
    "known_categories",
    "known_log_categories",
    "known_logits",
    "known_probs",
    "known_rates",
]

PRODUCT_EPS = 8
"""Rates are products of one factor per row and one per column up to so many units of rounding."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of n variables.

    Attributes:
        fixed: ``(n,)`` int64, the one value that a variable can have, or -1.
        possible: ``(n, C)`` which values have a positive probability; None where all have, but
            for those that ``fixed`` tells.
    """

    fixed: np.ndarray
    possible: np.ndarray | None = None

    def is_product(self, table: TwoWayTable) -> bool:
        """Whether rows and columns of a table are independent under the base law."""
        return False


Reader = Callable[[np.ndarray, int], Known | None]
"""From parameters ``(*batch, n)`` or ``(*batch, n, C)`` and n to what they say, if anything."""


@dataclass(frozen=True, eq=False, kw_only=True)
class KnownRates(Known):
    """Rates of Poisson variables.

    Attributes:
        rate: ``(batch, n)`` as they came, float32 or float64.
    """

    rate: np.ndarray

    def is_product(self, table: TwoWayTable) -> bool:
        """Whether ``rate_ij = r_i c_j`` up to rounding of the products, in the whole batch."""
        cells = np.zeros((len(self.rate), *table.shape), dtype=np.longdouble)
        cells[:, table.row, table.column] = self.rate[:, table.variables]
        if not (np.isfinite(cells) & (cells > 0)).all():
            return False
        rows, columns = cells.sum(-1, keepdims=True), cells.sum(-2, keepdims=True)
        product = rows / cells.sum((-2, -1), keepdims=True) * columns
        tolerance = PRODUCT_EPS * np.finfo(self.rate.dtype).eps
        return bool((np.abs(cells - product) <= tolerance * product).all())


def known_rates(rate: np.ndarray, num_variables: int) -> KnownRates | None:
    """Of rates ``(*batch, n)``: those that are 0."""
    rates = _batched(rate, (num_variables,))
    if rates is None:
        return None
    return KnownRates(np.where((rates == 0).all(0), 0, -1), rate=rates)


def known_probs(probs: np.ndarray, num_variables: int) -> Known | None:
    """Of probabilities ``(*batch, n)``: those that are 0 or 1."""
    return _known_subset(probs, num_variables, 0.0, 1.0)


def known_logits(logits: np.ndarray, num_variables: int) -> Known | None:
    """Of log odds ``(*batch, n)``: those that are infinite."""
    return _known_subset(logits, num_variables, -np.inf, np.inf)


def known_categories(probs: np.ndarray, num_variables: int) -> Known | None:
    """Of probabilities of categories ``(*batch, n, C)``: those that are 0."""
    return _known_table(probs, num_variables, 0.0)


def known_log_categories(logits: np.ndarray, num_variables: int) -> Known | None:
    """Of log probabilities of categories ``(*batch, n, C)``: those that are -inf; or all but those
    that are inf, if there are any."""
    certain = np.isposinf(logits)
    is_excluded = certain.any(-1, keepdims=True) & ~certain
    return _known_table(np.where(is_excluded, -np.inf, logits), num_variables, -np.inf)


def _known_subset(
    values: np.ndarray, num_variables: int, never: float, always: float
) -> Known | None:
    found = _batched(values, (num_variables,))
    if found is None:
        return None
    fixed = np.full(num_variables, -1)
    fixed[(found == never).all(0)], fixed[(found == always).all(0)] = 0, 1
    return Known(fixed)


def _known_table(values: np.ndarray, num_variables: int, never: float) -> Known | None:
    found = _batched(values, (num_variables, values.shape[-1]))
    if found is None:
        return None
    possible = ~(found == never).all(0)
    possible[~possible.any(1)] = True  # no law at all: the checks of parameters say so
    fixed = np.where(possible.sum(1) == 1, possible.argmax(1), -1)
    return Known(fixed, None if possible.all() else possible)


def _batched(values: np.ndarray, event_shape: tuple[int, ...]) -> np.ndarray | None:
    """``(batch, *event_shape)``; None where shapes do not fit, which is told elsewhere."""
    try:
        shape = np.broadcast_shapes(values.shape, event_shape)
    except ValueError:
        return None
    if shape[len(shape) - len(event_shape) :] != event_shape or 0 in shape:
        return None
    return np.broadcast_to(values, shape).reshape(-1, *event_shape)
