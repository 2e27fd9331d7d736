"""What all laws of counts and subsets given ``A x = k`` have in common."""

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints

from constrained_core import enumerate_fiber
from constrained_core.checks.arguments import check_estimator
from constrained_core.checks.laws import (
    different_supports,
    no_reparametrised_draw,
    off_fiber,
    require_table,
    several_sides,
    unbounded_variable,
)
from pyro_constrained.constraints import integer_linear_equality
from pyro_constrained.distributions.base import ConstrainedDistribution
from pyro_constrained.estimators import with_gradient
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.errors import require_possible
from pyro_constrained.kernels.arrays.inputs import cast
from pyro_constrained.kernels.arrays.inspection import are_known, has_values
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.arrays.log_space import is_there
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes, expanded
from pyro_constrained.kernels.arrays.tracing import quiet_under_trace
from pyro_constrained.kernels.fiber.constraint import Fiber, same_fiber
from pyro_constrained.kernels.fiber.parts.part import Part

__all__ = ["ConstrainedDiscrete", "kl_discrete_discrete"]

ESTIMATORS = ("score_function", "marginal_expectation")


@in_full_precision
class ConstrainedDiscrete(ConstrainedDistribution):
    """Independent discrete variables given A x = k: exact, by a dynamic programme where needed.

    Where rates or probabilities of exactly 0 or 1 leave no point, a draw raises; ``log_prob`` and
    ``constraint_log_prob`` are -inf, moments and tables of the variables that have none are NaN.
    Parameters that nothing could check and that make no law (negative rates, say) give NaN.
    """

    has_enumerate_support = True
    _parameter_event_dim = 1
    _constraint: Fiber  # type: ignore[assignment]  # whole numbers need a constraint of their own

    def __init__(
        self,
        constraint: Fiber,
        parameter: Tensor,
        batch_shape: torch.Size,
        gradient_estimator: str,
        validate_args: bool | None,
    ) -> None:
        self.gradient_estimator = check_estimator(gradient_estimator, ESTIMATORS)
        self._kept_parameter, self._own_batch_shape = parameter, batch_shape
        super().__init__(constraint, batch_shape, None, validate_args)  # type: ignore[arg-type]

    @property
    def _parameter(self) -> Tensor:
        self._require_unchanged()
        return self._kept_parameter

    @abstractmethod
    def _make_parts(self, parameter: Tensor) -> Sequence[Part]:
        """The independent parts, from the parameter that ``_parameter`` holds."""

    @abstractmethod
    def _log_weight(self, value: Tensor) -> Tensor:
        """``(*batch, n)`` log weights of values on the support."""

    @abstractmethod
    def _expected_log_weight(self) -> Tensor:
        """``(*batch,)`` expected sum of the log weights."""

    @abstractmethod
    def _expected_log_ratio(self, other: Any) -> Tensor:
        """``(*batch,)`` expected sum of the log weights, less those of a law of the family."""

    def _for_averages(self, *others: Any) -> Any:
        """The same law, with weights by which averages keep their digits, also those of ratios to
        other laws."""
        return self

    @abstractmethod
    def _makes_law(self) -> Tensor:
        """``(*batch, n)`` or ``(*batch, n, C)`` where parameters can be those of a law."""

    def _lawful(self) -> Tensor | None:
        """``(*batch,)`` where parameters that nothing has checked make a law: of others, negative
        rates say, answers may be those of another law. None where all were checked."""
        if self._has_checked(self._parameter):
            return None
        return self._makes_law().flatten(-self._parameter_event_dim).all(-1)

    def _expanded(self, value: Tensor, event_dim: int) -> Tensor:
        value, lawful = super()._expanded(value, event_dim), self._lawful()
        if lawful is None:
            return value
        return torch.where(lawful[(...,) + (None,) * event_dim], value, torch.nan)

    @property
    def _known_plan(self) -> Any:
        return self._constraint.plan

    @property
    def _parts(self) -> Sequence[Part]:
        self._require_unchanged()
        return self._made_parts

    @lazy_property
    def _made_parts(self) -> Sequence[Part]:
        return self._make_parts(self._parameter)

    @lazy_property
    def _log_weight_sum(self) -> Tensor:
        return sum((part.log_weight_sum() for part in self._parts), self._zero)

    def _full_parameter(self, variables: np.ndarray) -> Tensor:
        """The parameter of some variables in the batch shape of the law: of those in no row, draws
        differ even where it does not."""
        event_shape = self._parameter.shape[self._parameter.ndim - self._parameter_event_dim :]
        parameter = expanded(self._parameter, self._own_batch_shape + event_shape)
        return self._select(parameter, variables)

    def _select(self, parameter: Tensor, variables: np.ndarray) -> Tensor:
        """The parameter of some variables, in the order given."""
        if np.array_equal(variables, np.arange(self._constraint.num_variables)):
            return parameter
        index = torch.tensor(variables, device=parameter.device)
        return parameter.index_select(-self._parameter_event_dim, index)

    @property
    def _zero(self) -> Tensor:
        return self._parameter.new_zeros(())

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> integer_linear_equality:  # whole numbers
        """The integer points ``{x : A x = k, 0 <= x <= upper}``."""
        return integer_linear_equality.of(self._constraint)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # depends on the estimator
        """Whether gradients flow through a draw: those of the constrained mean."""
        return self.gradient_estimator == "marginal_expectation"

    def with_estimator(self, gradient_estimator: str) -> "ConstrainedDiscrete":
        """The same law with another gradient estimator."""
        new = copy.copy(self)
        new.gradient_estimator = check_estimator(gradient_estimator, ESTIMATORS)
        return new

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ConstrainedDiscrete":
        """The same law with a larger batch shape; new leading dimensions cost nothing."""
        new = super().expand(batch_shape, _instance)
        own = self._own_batch_shape
        if new.batch_shape[len(new.batch_shape) - len(own) :] != own:
            event_shape = self._parameter.shape[self._parameter.ndim - self._parameter_event_dim :]
            new._kept_parameter = expanded(self._parameter, new.batch_shape + event_shape)
            new._own_batch_shape = new.batch_shape
            for name in ("_made_parts", "_log_weight_sum", "_figures", "_edge", "_shift"):
                new.__dict__.pop(name, None)
        return new

    @property
    def mean(self) -> Tensor:
        """``(*batch, n)`` E[x | A x = k]; strictly between 0 and 1 for a Bernoulli variable that
        can be either."""
        return self._expanded(self._joined([part.mean for part in self._parts]), 1)

    @property
    def variance(self) -> Tensor:
        """``(*batch, n)`` Var[x | A x = k]."""
        return self._expanded(self._joined([part.variance for part in self._parts]), 1)

    @property
    def covariance(self) -> Tensor:
        """``(*batch, n, n)`` Cov[x | A x = k], exact; zero between independent parts.

        Closed forms for sums of Poissons, else derivatives of the mean: n times its cost.
        """
        n, batch = self._constraint.num_variables, self._batch_shape
        joined = self._parameter.new_zeros(batch + (n, n))
        for part in self._parts:
            rows = torch.as_tensor(part.variables, device=joined.device)
            joined[..., rows[:, None], rows] = part.covariance
        return self._expanded(joined, 2)

    def marginal_log_prob(self) -> Tensor:
        """``(*batch, n, U)`` log P(x_i = u | A x = k) for u = 0..U-1; -inf where impossible.

        However unlikely a value is, it keeps its digits. U is the number of values of the base
        law; of Poisson variables one more than the largest of the plan.

        Raises:
            ConstraintError: a variable in no row has infinitely many values.
            IntractableConstraintError: counts of which a table would have over 10^8 entries.
        """
        num_values = self._num_values("marginal_log_prob")
        tables = [part.log_marginals(num_values) for part in self._for_averages()._parts]
        return self._expanded(self._joined(tables, -2), 2)

    def _num_values(self, asked: str) -> int:
        """U; an error that names what is asked for where there is none."""
        unbounded = np.flatnonzero(self._constraint.plan.upper < 0)
        if unbounded.size:
            raise unbounded_variable(asked, unbounded[0])
        fiber = self._constraint
        if fiber.upper is None:  # else tables are of the size of the parameters
            require_table(asked, self._own_batch_shape, fiber.num_variables, fiber.num_values)
        return fiber.num_values

    def constraint_log_prob(self) -> Tensor:
        """``(*batch,)`` log probability of the event A x = k under the base law.

        It is what a soft-constraint loss maximises.
        """
        return self._expanded(sum((part.log_partition() for part in self._parts), self._zero), 0)

    def entropy(self) -> Tensor:
        """``(*batch,)`` exact entropy.

        Raises:
            ConstraintError: a variable in no row has infinitely many values.
            IntractableConstraintError: counts of which a table would have over 10^8 entries.
        """
        law = self._for_averages()
        return self._expanded(law._log_weight_sum - law._expected_log_weight(), 0)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Exact draws ``(*sample_shape, *batch, n)``, without a gradient."""
        with torch.no_grad():
            return self._draw(sample_shape).detach()

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Exact draws whose gradient is that of the constrained mean."""
        if not self.has_rsample:
            raise no_reparametrised_draw("gradient_estimator='marginal_expectation'")
        return with_gradient(self.gradient_estimator, self.sample(sample_shape), self.mean)

    @quiet_under_trace
    def _draw(self, sample_shape: Any) -> Tensor:
        lawful = self._lawful()
        if lawful is not None:
            require_possible(lawful)
        shape = torch.Size(sample_shape) + self._batch_shape
        lead = shape[: len(shape) - len(self._own_batch_shape)]
        return self._joined([part.draw(lead) for part in self._parts])

    @quiet_under_trace
    def log_prob(self, value: Tensor) -> Tensor:
        """``(*batch,)`` log probability; -inf off the support.

        Raises:
            ConstraintError: the value is off the support, under ``validate_args``.
        """
        self._check_value(value)
        inside = self._on_support(value)
        # Integer types may be too small for what follows, and half precision is.
        value = cast(value, torch.promote_types(value.dtype, self._parameter.dtype))
        if inside is not None:
            value = value.masked_fill(~inside[..., None], 0.0)
        score, total = self._log_weight(value).sum(-1), self._log_weight_sum
        is_impossible = total == -torch.inf
        if is_there(is_impossible):
            total, possible = total.masked_fill(is_impossible, 0.0), ~is_impossible
            inside = possible if inside is None else inside & possible
        log_prob = score - total
        if inside is not None:
            log_prob = log_prob.masked_fill(~inside, -torch.inf)
        return self._expanded(log_prob, 0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All points of the fiber in lexicographic order, ``(count, *batch, n)``; the batch
        dimensions are ones where ``expand`` is false.

        Raises:
            ConstraintError: k differs within the batch; too many points.
        """
        k = self._constraint.integers
        k = np.unique(k.reshape(math.prod(k.shape[:-1]), k.shape[-1]), axis=0)
        if len(k) != 1:
            raise several_sides(len(k))
        points = torch.as_tensor(enumerate_fiber(self._constraint.plan, k[0]), device="cpu")
        points = points.to(self._parameter)
        points = points.reshape((-1,) + (1,) * len(self._batch_shape) + self._event_shape)
        return points.expand((-1,) + self._batch_shape + self._event_shape) if expand else points

    def _on_support(self, value: Tensor) -> Tensor | None:
        """Where ``value`` is on the fiber, None if that is seen to be everywhere."""
        inside = self._constraint.contains(value)
        if not (self._validate_args and has_values(inside)):
            return inside
        if bool(inside.all()):
            return None if are_known(inside) else inside
        gap = float(self.residual(value).detach().abs().max())
        raise off_fiber(gap, float(value.min()), float(value.max()))

    def _joined(self, parts: list[Tensor], dim: int = -1) -> Tensor:
        """Answers of the parts in the order of the variables."""
        if len(parts) == 1:
            return parts[0]
        event_dim = -dim
        batch = broadcast_shapes(*(part.shape[: part.ndim - event_dim] for part in parts))
        parts = [part.expand(batch + part.shape[part.ndim - event_dim :]) for part in parts]
        order = np.argsort(np.concatenate([part.variables for part in self._parts]))
        return torch.cat(parts, dim).index_select(dim, torch.as_tensor(order).to(parts[0].device))


def kl_discrete_discrete(p: ConstrainedDiscrete, q: ConstrainedDiscrete) -> Tensor:
    """KL(p || q) of two laws of one family on one fiber; infinite where p has mass that q forbids.

    Raises:
        ConstraintError: the fibers differ, so that the divergence is infinite.
    """
    if not same_fiber(p._constraint, q._constraint):
        raise different_supports("fiber", p, q)
    p, q = p._for_averages(q), q._for_averages(p)
    normaliser = q._log_weight_sum - p._log_weight_sum
    return p._expanded(q._expanded(p._expected_log_ratio(q) + normaliser, 0), 0)
