"""Gradient estimators of a draw.

- ``pathwise``: the exact reparametrised draw; unbiased.
- ``marginal_expectation``: the forward value is an exact draw, the backward pass is that of the
  constrained mean E[x | A x = k]; low variance, biased for functions that are not linear.
- ``score_function``: no gradient flows through the draw; ELBOs use REINFORCE.
"""

from torch import Tensor

__all__ = ["with_gradient"]


def with_gradient(estimator: str, draw: Tensor, mean: Tensor) -> Tensor:
    """The value of ``draw`` with the backward pass that the estimator asks for."""
    if estimator == "pathwise":
        return draw
    if estimator == "score_function":
        return draw.detach()
    return draw.detach() + (mean - mean.detach())
