"""Gradient estimators of a draw.

- ``pathwise``: the exact reparametrised draw; unbiased.
- ``marginal_expectation``: the forward value is an exact draw, the backward pass is that of the
  constrained mean E[x | A x = k]; low variance, biased for functions that are not linear.
- ``score_function``: no gradient flows through the draw; ``TraceGraph_ELBO`` uses REINFORCE.
  NumPyro's ``Trace_ELBO`` knows only reparametrised draws: with it, this gradient is biased.
"""

from jax import Array
from jax.lax import stop_gradient

__all__ = ["with_gradient"]


def with_gradient(estimator: str, draw: Array, mean: Array) -> Array:
    """The value of ``draw`` with the backward pass that the estimator asks for."""
    if estimator == "pathwise":
        return draw
    if estimator == "score_function":
        return stop_gradient(draw)
    return stop_gradient(draw) + (mean - stop_gradient(mean))
