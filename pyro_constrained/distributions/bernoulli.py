"""Independent Bernoulli variables under integer linear constraints: subsets."""

from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from constrained_core.checks.arguments import exactly_one
from constrained_core.fiber.known import Reader, known_logits, known_probs
from pyro_constrained.distributions.finite import ConstrainedFinite
from pyro_constrained.distributions.parameters import (
    batch_shape_of,
    check_logits,
    check_probs,
    require_event,
)
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.inputs import floating
from pyro_constrained.kernels.arrays.inspection import is_differentiated
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import is_there, safe_log
from pyro_constrained.kernels.arrays.shapes import expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.fiber.constraint import bind_fiber
from pyro_constrained.kernels.fiber.parts.bernoulli_edges import BernoulliEdges
from pyro_constrained.kernels.fiber.parts.bernoulli_groups import BernoulliGroups
from pyro_constrained.kernels.fiber.parts.fixed import Fixed
from pyro_constrained.kernels.fiber.parts.free import Free
from pyro_constrained.kernels.fiber.parts.part import FinitePart
from pyro_constrained.kernels.fiber.parts.trellis import BernoulliTrellis

__all__ = ["ConstrainedBernoulli"]


@in_full_precision
class ConstrainedBernoulli(ConstrainedFinite):
    """Independent x_i ~ Bernoulli(p_i) given A x = k.

    With A a row of ones it is the law of a subset of exactly k elements (conditional Bernoulli).
    P(x | A x = k) = prod_i p_i^x_i (1 - p_i)^(1 - x_i) / P(A x = k). Rows that share no variables
    and have one coefficient each go by a balanced tree of products of polynomials, all else by a
    dynamic programme over the columns.

    Args:
        probs: ``(*batch, n)`` in [0, 1], exact zeros and ones included; a number stands for all n.
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers.
        k: ``(*batch, m)``; ``(*batch,)`` for one row; whole numbers.
        logits: ``(*batch, n)`` log odds instead of ``probs``.
        gradient_estimator: ``score_function`` or ``marginal_expectation``.
        validate_args: whether parameters and values are checked.
        k_max: ``(m,)`` plan once for all k with 0 <= k <= k_max.
        max_transitions: the budget of the dynamic programme, 10^7 unless given.

    Raises:
        InfeasibleConstraintError: no x of zeros and ones satisfies A x = k.
        IntractableConstraintError: the dynamic programme would be too large.
        ConstraintError: shapes that do not fit, numbers that are not whole, probabilities outside
            [0, 1], NaN, a value off the support.

    References:
        Chen, Dempster, Liu (1994), *Weighted finite population sampling to maximize entropy*.
        Ahmed, Zeng, Niepert, Van den Broeck (2023), *SIMPLE: A gradient estimator for k-subset
        sampling*.

    Example:
        >>> import torch
        >>> law = ConstrainedBernoulli(torch.tensor([0.5, 0.5, 0.2]), torch.ones(3), 2)
        >>> law.mean
        tensor([0.8333, 0.8333, 0.3333])
    """

    arg_constraints = {
        "probs": constraints.independent(constraints.unit_interval, 1),
        "logits": constraints.real_vector,
        "k": constraints.dependent(is_discrete=True, event_dim=1),
    }
    _event_dims = {"probs": 1, "logits": 1}

    @quiet_under_trace
    def __init__(
        self,
        probs: Any = None,
        A: Any = None,
        k: Any = None,
        *,
        logits: Any = None,
        gradient_estimator: str = "score_function",
        validate_args: bool | None = None,
        k_max: Any = None,
        max_transitions: int | None = None,
    ) -> None:
        name, given = exactly_one(probs=probs, logits=logits)
        (given,) = floating(**{name: given})
        options = {"k_max": k_max, "max_transitions": max_transitions}
        known: Reader | None = known_logits
        if name == "probs":  # of which derivatives at 0 and 1 need values that are impossible
            known = None if is_differentiated(given) else known_probs
        constraint = bind_fiber(A, k, given, upper=1, known=known, **options)
        n = constraint.num_variables
        given = require_event(name, given, (n,))
        if self._validates(validate_args):
            check_probs(name, given) if name == "probs" else check_logits(name, given)
        batch_shape = batch_shape_of(constraint, **{name: given.shape[:-1]})
        self.__dict__[name] = expanded(given, batch_shape + (n,))
        self._given_probs = given if name == "probs" else None
        parameter = given if name == "logits" else _logits(given)
        super().__init__(constraint, parameter, batch_shape, gradient_estimator, validate_args)

    @lazy_property
    def logits(self) -> Tensor:
        """``(*batch, n)`` log odds of the base law; infinite, with a gradient of zero, at
        probabilities of exactly 0 and 1."""
        return _logits(self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """``(*batch, n)`` probabilities of the base law."""
        return torch.sigmoid(self.logits)

    @property
    def base_dist(self) -> dist.Distribution:
        """The independent Bernoulli law without the constraint."""
        if "probs" in self.__dict__:
            return dist.Bernoulli(probs=self.probs).to_event(1)
        return dist.Bernoulli(logits=self.logits).to_event(1)

    @lazy_property
    def _edge(self) -> Tensor | None:
        probs = self._given_probs
        if probs is None or not is_differentiated(probs):
            return None
        is_never, is_always = probs == 0, probs == 1
        if not is_there(is_never | is_always):
            return None
        sides = (1 - probs).masked_fill(~is_always, 0.0), probs.masked_fill(~is_never, 0.0)
        return torch.stack(sides, -1)

    def _makes_law(self) -> Tensor:
        probs = self.__dict__.get("probs")
        return ~self.logits.isnan() if probs is None else (probs >= 0) & (probs <= 1)

    def _make_parts(self, parameter: Tensor) -> list[FinitePart]:
        fiber, free = self._constraint, self._constraint.plan.free
        parts: list[FinitePart] = []
        for groups, counts in fiber.sides.groups:
            logits = self._select(parameter, groups.variables)
            edge = self._edges_of(groups.variables)
            given = groups, logits, counts, fiber.capacity
            parts.append(BernoulliGroups(*given) if edge is None else BernoulliEdges(*given, edge))
        if fiber.sides.trellis is not None:
            trellis, start = fiber.sides.trellis
            order = trellis.variables[np.argsort(trellis.column)]
            edge = self._edges_of(order)
            theta = _table(self._select(parameter, order), edge)
            parts.append(BernoulliTrellis(trellis, theta, start, edge))
        if free.size:
            edge = self._edges_of(free)
            parts.append(Free(free, _table(self._full_parameter(free), edge), edge))
        if fiber.plan.fixed is not None:
            parts.append(Fixed(fiber.plan.fixed, parameter, self._own_batch_shape, 2))
        return parts

    def _log_weight(self, value: Tensor) -> Tensor:
        # Linear in the value, so that the gradient of a draw passes.
        logits, is_finite = self._parameter, self._parameter.isfinite()
        finite = logits.masked_fill(~is_finite, 0.0)
        weight, tilted = value * finite, finite
        if self._shift is not None:
            tilted = finite + self._shift
            moved = (tilted - finite).detach()  # of log odds of 1e9, less than the shift
            weight = weight + value.detach() * moved
        weight = (weight + logsigmoid(-tilted)).masked_fill(~is_finite, 0.0)
        if self._edge is not None:  # the certain value has a derivative too
            zero, one = torch.log1p(-self._edge).unbind(-1)
            weight = weight + (1 - value) * one + value * zero
        return weight.masked_fill(~is_finite & ((logits > 0) != (value > 0)), -torch.inf)

    @property
    def _log_table(self) -> Tensor:
        shift = self._shift
        return _table(self._parameter if shift is None else self._parameter + shift)

    @lazy_property
    def _shift(self) -> Tensor | None:
        """``(*batch, n)`` constants by which values are scored as by log odds near those given the
        sums, which changes no probability given these; None where there are no sums of groups."""
        if not self._constraint.sides.groups:
            return None
        none = self._parameter.new_zeros
        return self._joined(
            [
                part.shift if isinstance(part, BernoulliGroups) else none(len(part.variables))
                for part in self._parts
            ]
        )


def _logits(probs: Tensor) -> Tensor:
    """Log odds; infinite, with a gradient of zero, at exactly 0 and 1."""
    below_one = probs < 1
    rest = torch.log1p(-probs.masked_fill(~below_one, 0.0)).masked_fill(~below_one, -torch.inf)
    return safe_log(probs) - rest


def _table(logits: Tensor, edge: Tensor | None = None) -> Tensor:
    table = torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)
    return table if edge is None else table + torch.log1p(-edge.flip(-1))
