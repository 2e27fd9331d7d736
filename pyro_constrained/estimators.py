"""Gradient estimators of a draw.

- ``pathwise``: the exact reparametrised draw; unbiased.
- ``marginal_expectation``: the forward value is an exact draw, the backward pass is that of the
  constrained mean E[x | A x = k]; low variance, biased for functions that are not linear.
- ``score_function``: no gradient flows through the draw; ELBOs use REINFORCE.
"""

from collections.abc import Collection

from torch import Tensor

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


def with_gradient(estimator: str, draw: Tensor, mean: Tensor) -> Tensor:
    """The value of ``draw`` with the backward pass that the estimator asks for."""
    if estimator == "pathwise":
        return draw
    if estimator == "score_function":
        return draw.detach()
    return draw.detach() + (mean - mean.detach())
