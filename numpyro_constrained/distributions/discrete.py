"""What all laws of counts and subsets given ``A x = k`` have in common."""

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpyro.distributions import constraints
from numpyro.util import is_prng_key

from constrained_core import (
    ConstraintError,
    InfeasibleConstraintError,
    ParameterError,
    enumerate_fiber,
)
from constrained_core.checks.arguments import check_estimator
from constrained_core.checks.laws import (
    different_supports,
    no_reparametrised_draw,
    off_fiber,
    require_table,
    several_sides,
    unbounded_variable,
)
from constrained_core.fiber.plan import NO_POINT
from numpyro_constrained.constraints import integer_linear_equality
from numpyro_constrained.distributions.base import ConstrainedDistribution
from numpyro_constrained.estimators import with_gradient
from numpyro_constrained.kernels.arrays.inputs import whole_or_floating
from numpyro_constrained.kernels.arrays.leaves import folded, untraced_property
from numpyro_constrained.kernels.arrays.linalg import lift
from numpyro_constrained.kernels.fiber.constraint import Fiber, rebind_fiber, same_fiber
from numpyro_constrained.kernels.fiber.parts.part import Part

__all__ = ["ConstrainedDiscrete", "kl_discrete_discrete"]

ESTIMATORS = ("score_function", "marginal_expectation")


class ConstrainedDiscrete(ConstrainedDistribution):
    """Independent discrete variables given A x = k: exact, by a dynamic programme where needed.

    The plan of the fiber is static: a law that is an argument of ``jit`` is compiled once per plan.
    Draws are integers, and floating under ``marginal_expectation``, so that they have a gradient.
    Where rates or probabilities of exactly 0 or 1 leave no point, a draw raises under
    ``validate_args``; inside of ``jit`` and ``vmap``, and without, the variables that have none
    are drawn as -1 (NaN where floating), which is off the support: ``log_prob`` is -inf, moments
    and tables of these variables are NaN.

    Parameters that nothing could check and that make no law (negative rates, say) give what a k
    does that the plan does not have. So does an A that came in place of the leaf A of a law: make
    the law anew with it.

    A traced k cannot be checked when the law is made. One that the plan does not have (above
    ``k_max``, negative, not whole, off the lattice, rows that disagree) has ``log_prob`` and
    ``constraint_log_prob`` of -inf, moments, tables and entropy of NaN, and draws of -1 (NaN
    where floating) in all variables.

    NumPyro's own enumeration knows values 0..U-1 only, so that ``has_enumerate_support`` is false:
    enumerate a ``Categorical`` index into ``enumerate_support()`` with logits ``log_prob`` of it.
    """

    pytree_aux_fields: tuple[str, ...] = (
        "gradient_estimator",
        "_plan",
        "_planned",
        "_capacity",
        "_upper",
    )
    _parameter_event_dim = 1

    def __init__(
        self,
        constraint: Fiber,
        batch_shape: tuple[int, ...],
        gradient_estimator: str,
        validate_args: bool | None,
    ) -> None:
        self.gradient_estimator = check_estimator(gradient_estimator, ESTIMATORS)
        self._plan, self._planned = constraint.plan, constraint.planned
        self._capacity = constraint.capacity
        self._upper = constraint.upper
        super().__init__(constraint, batch_shape, None, validate_args)  # type: ignore[arg-type]

    def _condition(self, constraint: Any) -> Any:
        return constraint

    @untraced_property
    def _conditional(self) -> Fiber:
        batch_dims = self._leaf().ndim - self._parameter_event_dim
        planned = self._plan, self._planned, self._capacity
        return rebind_fiber(*planned, self.A, self.k, self._layout, self._upper, batch_dims)

    @property
    def _constraint(self) -> Any:
        return self._conditional

    @property
    @abstractmethod
    def _parameter(self) -> Array:
        """What the parts are made from, ``(*batch, n)`` or ``(*batch, n, C)``."""

    @abstractmethod
    def _make_parts(self, parameter: Array, edge: Array | None = None) -> Sequence[Part]:
        """The independent parts, from the parameter that ``_parameter`` holds, and from what
        ``_edge`` holds where derivatives may be asked for."""

    @abstractmethod
    def _log_weight(self, value: Array, parts: Sequence[Part]) -> Array:
        """``(*batch, n)`` log weights of values on the support."""

    @abstractmethod
    def _expected_log_weight(self, parts: Sequence[Part]) -> Array:
        """``(*batch,)`` expected sum of the log weights."""

    @abstractmethod
    def _expected_log_ratio(
        self, parts: Sequence[Part], other: Any, others: Sequence[Part]
    ) -> Array:
        """``(*batch,)`` expected sum of the log weights, less those of a law of the family, by the
        parts of both."""

    def _for_averages(self, *others: Any) -> Any:
        """The same law, with weights by which averages keep their digits, also those of ratios to
        other laws."""
        return self

    def _leaf(self) -> Array:
        return self._parameter

    @property
    def _edge(self) -> Array | None:
        """Probabilities ``(*batch, n, C)`` that are zero, as zeros with a derivative, else zeros;
        None where they need none: they are known, or made from logits."""
        return None

    @property
    def _known_plan(self) -> Any:
        return self._plan

    @property
    def _parts(self) -> Sequence[Part]:
        return self._make_parts(self._parameter, self._edge)

    @property
    def rank(self) -> int:
        """r, the number of independent rows of A."""
        return self._plan.rank

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> integer_linear_equality:
        """The integer points ``{x : A x = k, 0 <= x <= upper}``."""
        return integer_linear_equality.of(self._constraint)

    @property
    def has_rsample(self) -> bool:
        """Whether gradients flow through a draw: those of the constrained mean."""
        return self.gradient_estimator == "marginal_expectation"

    def with_estimator(self, gradient_estimator: str) -> "ConstrainedDiscrete":
        """The same law with another gradient estimator."""
        new = copy.copy(self)
        new.__dict__.update(self.__dict__)
        new.gradient_estimator = check_estimator(gradient_estimator, ESTIMATORS)
        return new

    @property
    def mean(self) -> Array:
        """``(*batch, n)`` E[x | A x = k]; strictly between 0 and 1 for a Bernoulli variable that
        can be either."""
        mean = self._joined([part.mean for part in self._parts])
        return self._expanded(self._where_possible(mean, jnp.nan, 1), 1)

    @property
    def variance(self) -> Array:
        """``(*batch, n)`` Var[x | A x = k]."""
        variance = self._joined([part.variance for part in self._parts])
        return self._expanded(self._where_possible(variance, jnp.nan, 1), 1)

    @property
    def covariance(self) -> Array:
        """``(*batch, n, n)`` Cov[x | A x = k], exact; zero between independent parts.

        Closed forms for sums of Poissons, else derivatives of the mean: n times its cost.
        """
        parts, n = self._parts, self.event_shape[0]
        blocks = [part.covariance for part in parts]
        rank = max(block.ndim for block in blocks)
        blocks = [lift(block, rank) for block in blocks]
        batch = jnp.broadcast_shapes(*(block.shape[:-2] for block in blocks))
        joined = jnp.zeros(batch + (n, n), self._leaf().dtype)
        for part, block in zip(parts, blocks, strict=True):
            rows = part.variables.astype(np.int32)
            joined = joined.at[..., rows[:, None], rows[None]].set(block)
        return self._expanded(self._where_possible(joined, jnp.nan, 2), 2)

    def marginal_log_prob(self) -> Array:
        """``(*batch, n, U)`` log P(x_i = u | A x = k) for u = 0..U-1; -inf where impossible.

        However unlikely a value is, it keeps its digits. U is the number of values of the base
        law; of Poisson variables one more than the largest of the plan.

        Raises:
            ConstraintError: a variable in no row has infinitely many values.
            IntractableConstraintError: counts of which a table would have over 10^8 entries.
        """
        num_values = self._num_values("marginal_log_prob")
        tables = [part.log_marginals(num_values) for part in self._for_averages()._parts]
        return self._expanded(self._where_possible(self._joined(tables, 2), jnp.nan, 2), 2)

    def _num_values(self, asked: str) -> int:
        """U; an error that names what is asked for where there is none."""
        unbounded = np.flatnonzero(self._plan.upper < 0)
        if unbounded.size:
            raise unbounded_variable(asked, unbounded[0])
        num_values = self._constraint.num_values
        if self._upper is None:  # else tables are of the size of the parameters
            require_table(asked, self._batch_shape, self._plan.num_variables, num_values)
        return num_values

    def constraint_log_prob(self) -> Array:
        """``(*batch,)`` log probability of the event A x = k under the base law.

        It is what a soft-constraint loss maximises.
        """
        return self._expanded(self._total([part.log_partition() for part in self._parts]), 0)

    def _log_weight_sum(self, parts: Sequence[Part]) -> Array:
        return self._total([part.log_weight_sum() for part in parts])

    def _total(self, parts: list[Array]) -> Array:
        """Sum over parts, of the rank of the batch; -inf where k has no point."""
        rank = len(self._batch_shape)
        total = sum((lift(part, rank) for part in parts), jnp.zeros((1,) * rank))
        return self._where_possible(total.astype(self._leaf().dtype), -jnp.inf, 0)

    @abstractmethod
    def _makes_law(self) -> Array:
        """``(*batch, n)`` or ``(*batch, n, C)`` where parameters can be those of a law."""

    @folded
    def _lawful(self) -> Array | np.ndarray:
        """``(*batch,)`` where parameters that nothing has checked make a law: of others, negative
        rates say, answers may be those of another law."""
        if self._has_checked(self._leaf()):
            return np.ones((), bool)
        axes = tuple(range(-self._parameter_event_dim, 0))
        lawful = self._makes_law().all(axes)
        return lawful if isinstance(lawful, Tracer) else np.asarray(lawful)

    def _where_possible(self, figures: Array, other: Any, event_dim: int) -> Array:
        """``(*batch, ...)`` figures, and others where k is no right-hand side of the plan, or
        parameters make no law."""
        for possible in (self._constraint.possible, self._lawful()):
            if not isinstance(possible, Array) and possible.all():
                continue
            possible = jnp.asarray(possible).reshape(possible.shape + (1,) * event_dim)
            ndim = max(figures.ndim, possible.ndim)
            figures = jnp.where(lift(possible, ndim), lift(figures, ndim), other)
        return figures

    def entropy(self) -> Array:
        """``(*batch,)`` exact entropy.

        Raises:
            ConstraintError: a variable in no row has infinitely many values.
            IntractableConstraintError: counts of which a table would have over 10^8 entries.
        """
        law = self._for_averages()
        parts = law._parts
        entropy = law._log_weight_sum(parts) - law._expected_log_weight(parts)
        return self._expanded(self._where_possible(entropy, jnp.nan, 0), 0)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Exact draws ``(*sample_shape, *batch, n)``, with the gradient of the estimator.

        Raises:
            ParameterError: A x = k has probability zero, under ``validate_args`` and outside of a
                trace.
            InfeasibleConstraintError: A or k came in the place of the one that was planned for,
                likewise.
        """
        assert is_prng_key(key)
        draw = self._draw(key, tuple(sample_shape))
        self._require_possible(draw)
        if not self.has_rsample:
            return draw
        mean = self.mean
        draw = jnp.where(draw < 0, jnp.nan, draw.astype(mean.dtype))
        return with_gradient(self.gradient_estimator, draw, lift(mean, draw.ndim))

    def rsample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Exact draws whose gradient is that of the constrained mean."""
        if not self.has_rsample:
            raise no_reparametrised_draw("gradient_estimator='marginal_expectation'")
        return self.sample(key, sample_shape)

    def _draw(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        lead, parameter = self._own_parameter()
        parts = self._make_parts(parameter)
        keys = jax.random.split(key, max(len(parts), 1))
        shape = sample_shape + self._batch_shape
        drawn = [
            part.draw(key, sample_shape + lead)
            .reshape(*shape, len(part.variables))
            .astype(jnp.result_type(int))
            for part, key in zip(parts, keys, strict=True)
        ]
        return self._where_possible(self._joined(drawn), -1, 1)

    def _require_possible(self, draw: Array) -> None:
        if not self._validate_args or isinstance(draw, Tracer) or (draw >= 0).all():
            return
        if np.all(self._constraint.possible):
            raise ParameterError(NO_POINT)
        self._require_planned_matrix("sample")
        raise InfeasibleConstraintError(
            "sample: expected a k that was planned for, got another in its place; make the law "
            "anew with this k, or with a k_max that is at least as large."
        )

    def _require_planned_matrix(self, asked: str) -> None:
        is_planned = self._constraint.has_planned_matrix
        if isinstance(is_planned, Tracer) or not np.all(is_planned):
            raise InfeasibleConstraintError(
                f"{asked}: expected the A that was planned for, got another in its place, or a "
                "traced one; make the law anew with this A, outside jit, vmap and grad."
            )

    def _own_parameter(self) -> tuple[tuple[int, ...], Array]:
        """Leading batch dimensions along which the law is the same, and the parameter for the
        others: a dimension that k does not have is there in full, so that draws differ."""
        parameter, rank = self._parameter, len(self._batch_shape)
        k_batch = self._constraint.batch_shape
        k_batch = (1,) * (rank - len(k_batch)) + k_batch
        own = jnp.broadcast_shapes(k_batch, parameter.shape[:rank])
        same = next((i for i, size in enumerate(own) if size != 1), rank)
        sizes = zip(parameter.shape[same:], k_batch[same:], self._batch_shape[same:], strict=False)
        batch_shape = tuple(size if of_k == full else full for size, of_k, full in sizes)
        event_shape = parameter.shape[rank:]
        parameter = parameter.reshape(parameter.shape[same:])
        return self._batch_shape[:same], jnp.broadcast_to(parameter, batch_shape + event_shape)

    def _common_batch(self, parameter: Array) -> tuple[int, ...]:
        """Batch shape of a parameter and k."""
        batch_shape = parameter.shape[: parameter.ndim - self._parameter_event_dim]
        return jnp.broadcast_shapes(batch_shape, self._constraint.batch_shape)

    def _full_parameter(self, parameter: Array, variables: np.ndarray) -> Array:
        """That of some variables in all of the batch of k: of those in no row, draws differ even
        where it does not."""
        event_shape = parameter.shape[parameter.ndim - self._parameter_event_dim :]
        batch_shape = self._common_batch(parameter)
        parameter = lift(parameter, len(batch_shape + event_shape))
        parameter = jnp.broadcast_to(parameter, batch_shape + event_shape)
        return jnp.take(parameter, variables.astype(np.int32), axis=-self._parameter_event_dim)

    def _agreeing(self, parameter: Array) -> Array:
        """The parameter; NaN where it does not have the facts that the plan was made with, which
        can be when the leaves of a law are replaced."""
        plan = self._plan
        if plan.fixed is None and plan.possible is None and not plan.tables:
            return parameter
        agrees = self._agrees(parameter)
        if not isinstance(agrees, Tracer) and agrees.all():
            return parameter
        agrees = agrees.reshape(agrees.shape + (1,) * self._parameter_event_dim)
        return jnp.where(agrees, parameter, jnp.nan)

    @abstractmethod
    def _agrees(self, parameter: Array) -> Array:
        """``(*batch,)`` whether values that the plan leaves out have probability zero."""

    def log_prob(self, value: Any) -> Array:
        """``(*batch,)`` log probability; -inf off the support.

        Raises:
            ConstraintError: the value is off the support, under ``validate_args``.
        """
        value = self._checked_value(value)
        inside = self._on_support(value)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            value = value.astype(self._leaf().dtype)
        value = jnp.where(inside[..., None], value, 0.0)
        parts = self._parts
        score = self._log_weight(value, parts).sum(-1)
        total = lift(self._log_weight_sum(parts), score.ndim)
        is_possible = inside & (total > -jnp.inf)
        log_prob = jnp.where(is_possible, score - jnp.where(is_possible, total, 0.0), -jnp.inf)
        return self._expanded(log_prob, 0)

    def enumerate_support(self, expand: bool = True) -> Array:
        """All points of the fiber in lexicographic order, ``(count, *batch, n)``; the batch
        dimensions are ones where ``expand`` is false.

        Raises:
            ConstraintError: k is traced or differs within the batch; too many points.
            InfeasibleConstraintError: A came in the place of the one that was planned for.
        """
        k = self._constraint.integers
        if k is None:
            raise ConstraintError(
                "enumerate_support: expected a k that is known, got a traced array; the number of "
                "points depends on it, so make k outside jit and vmap."
            )
        self._require_planned_matrix("enumerate_support")
        k = np.unique(k.reshape(math.prod(k.shape[:-1]), k.shape[-1]), axis=0)
        if len(k) != 1:
            raise several_sides(len(k))
        points = jnp.asarray(enumerate_fiber(self._plan, k[0]), jnp.result_type(int))
        points = points.reshape((-1,) + (1,) * len(self._batch_shape) + self._event_shape)
        shape = points.shape[:1] + self._batch_shape + self._event_shape
        return jnp.broadcast_to(points, shape) if expand else points

    def _floating(self, value: Any) -> Array:
        """Whole numbers stay what they are: sums of them are exact."""
        return whole_or_floating("value", value)

    def _on_support(self, value: Array) -> Array:
        inside = self._constraint.contains(value)
        if self._validate_args and not isinstance(inside, Tracer) and not np.asarray(inside).all():
            given = np.asarray(value)
            is_whole = (np.rint(given) == given) & (np.abs(given) < np.iinfo(np.int32).max)
            if is_whole.all():  # no float has to hold their sums
                value = value.astype(int)
            gap = np.abs(folded(self.residual)(value))
            raise off_fiber(float(gap.max()), float(given.min()), float(given.max()))
        return inside

    def _joined(self, parts: Sequence[Array], event_dim: int = 1) -> Array:
        """Answers of the parts in the order of the variables."""
        variables = np.concatenate([part.variables for part in self._parts])
        order = np.argsort(variables).astype(np.int32)
        rank = max(part.ndim for part in parts)
        parts = [lift(part, rank) for part in parts]
        batch = jnp.broadcast_shapes(*(part.shape[: rank - event_dim] for part in parts))
        parts = [jnp.broadcast_to(p, batch + p.shape[rank - event_dim :]) for p in parts]
        joined = jnp.concatenate(parts, -event_dim)
        is_ordered = bool((order == np.arange(len(order))).all())
        return joined if is_ordered else jnp.take(joined, order, axis=-event_dim)


def kl_discrete_discrete(p: ConstrainedDiscrete, q: ConstrainedDiscrete) -> Array:
    """KL(p || q) of two laws of one family on one fiber; infinite where p has mass that q forbids.

    Raises:
        ConstraintError: the fibers differ, so that the divergence is infinite. NaN instead where
            that is not known before k is, and where a law has none.
    """
    is_same = same_fiber(p._constraint, q._constraint)
    if not isinstance(is_same, Array) and not is_same:
        raise different_supports("fiber", p, q)
    rank = max(len(p.batch_shape), len(q.batch_shape))
    p, q = (law.expand((1,) * (rank - len(law.batch_shape)) + law.batch_shape) for law in (p, q))
    p, q = p._for_averages(q), q._for_averages(p)
    parts, others = p._parts, q._parts
    normaliser = q._log_weight_sum(others) - p._log_weight_sum(parts)
    ratio = p._expected_log_ratio(parts, q, others)
    found = p._expanded(q._expanded(ratio + normaliser, 0), 0)
    for law in (p, q):
        found = law._where_possible(found, jnp.nan, 0)
    if not isinstance(is_same, Array):
        return found
    return jnp.where(lift(is_same, rank), found, jnp.nan)
