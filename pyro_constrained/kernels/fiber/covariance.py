"""Covariances of an exponential family: derivatives of its means in the natural parameters."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.derivatives import outside_inference, slope_of
from pyro_constrained.kernels.arrays.inspection import is_differentiated
from pyro_constrained.kernels.arrays.log_space import without_nan
from pyro_constrained.kernels.arrays.value_tables import mean_of, values_of

__all__ = ["derivative_of_means", "settled"]

AT_ONCE = 4_000_000
"""Numbers of the programme, over all directions that are differentiated at one time."""


def derivative_of_means(
    tables: Callable[[Tensor, Tensor], Tensor], parameter: Tensor, directions: Tensor, size: int
) -> Tensor:
    """``(*batch, p, d)`` derivatives of the p means along d directions.

    Args:
        tables: from the parameter and t ``(*shape, p)`` the probabilities ``(*shape, p, U)`` where
            that of value u of variable i has the additional log weight u t_i.
        parameter: of the law.
        directions: ``(d, p)`` of t.
        size: numbers that one direction takes.
    """
    with outside_inference():
        parameter = parameter if is_differentiated(parameter) else parameter.clone()
        directions = directions.clone()
        start, _ = without_nan(tables(parameter, torch.zeros_like(directions[0])))
        # From the mean, so that those that hardly vary have small terms only.
        deviation = values_of(start.shape[-1], start) - mean_of(start)[..., None]
        deviation, found = deviation.detach(), list[Tensor]()
        for some in directions.split(max(1, AT_ONCE // max(size, 1))):
            # One copy of the law for each direction, so that one pass backward serves all. Means
            # along t are symmetric: those of a combination are combinations of those along t.
            some = some.reshape(some.shape[:1] + (1,) * (start.ndim - 2) + some.shape[1:])
            t = torch.zeros_like(some.expand((-1,) + start.shape[:-1]))

            def along(t: Tensor, some: Tensor = some) -> Tensor:
                known, _ = without_nan(tables(parameter, t))
                return (known * deviation).sum(-1) * some

            found.append(slope_of(along, t, parameter))
        return torch.cat(found).movedim(0, -1)


def settled(covariance: Tensor, variance: Tensor) -> Tensor:
    """``(*batch, p, p)`` exactly symmetric, with the variances on the diagonal.

    The derivative of the mean that varies less has the smaller rounding error.
    """
    one, other = variance[..., :, None], variance[..., None, :]
    index = torch.arange(variance.shape[-1], device=variance.device)
    chosen = (one < other) | ((one == other) & (index[:, None] < index))
    covariance = torch.where(chosen, covariance, covariance.mT)
    covariance = covariance.masked_fill(one.isnan() | other.isnan(), torch.nan)
    return torch.where(index[:, None] == index, one, covariance)
