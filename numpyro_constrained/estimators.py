"""Gradient estimators of a draw.

- ``pathwise``: the exact reparametrised draw; unbiased.
- ``marginal_expectation``: the forward value is an exact draw, the backward pass is that of the
  constrained mean E[x | A x = k]; low variance, biased for functions that are not linear.
- ``score_function``: no gradient flows through the draw; ``TraceGraph_ELBO`` uses REINFORCE.
  NumPyro's ``Trace_ELBO`` knows only reparametrised draws: with it, this gradient is biased.
"""

from collections.abc import Collection

from jax import Array
from jax.lax import stop_gradient

from constrained_core import ConstraintError

__all__ = ["check_estimator", "with_gradient"]


def check_estimator(name: str, allowed: Collection[str]) -> str:
    """Return ``name`` if it is one of ``allowed``.

    Raises:
        ConstraintError: it is not.
    """
    if name not in allowed:
        raise ConstraintError(
            f"gradient_estimator: expected one of {', '.join(allowed)}, got {name!r}."
        )
    return name


def with_gradient(estimator: str, draw: Array, mean: Array) -> Array:
    """The value of ``draw`` with the backward pass that the estimator asks for."""
    if estimator == "pathwise":
        return draw
    if estimator == "score_function":
        return stop_gradient(draw)
    return stop_gradient(draw) + (mean - stop_gradient(mean))
