"""What all laws given ``A x = k`` have in common."""

import copy
import inspect
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpyro.distributions import Distribution, constraints

from constrained_core import GroupSum, SparseMatrix, plan_constraint
from constrained_core.checks.laws import off_subspace
from constrained_core.checks.shapes import check_value, inferred_shapes
from constrained_core.explanation.law import law_card
from numpyro_constrained.constraints import linear_equality
from numpyro_constrained.distributions.card import facts_of
from numpyro_constrained.kernels.arrays.inputs import floating
from numpyro_constrained.kernels.arrays.leaves import (
    AxesLayout,
    Layout,
    PromotedLeaves,
    folded,
    leaf_shape,
    unstacked,
    untraced_property,
)
from numpyro_constrained.kernels.arrays.linalg import lift, lifted
from numpyro_constrained.kernels.arrays.sparse_inputs import unstacked_matrix
from numpyro_constrained.kernels.linear.binding import rebind_constraint
from numpyro_constrained.kernels.linear.constraint import LinearConstraint, default_tolerance

__all__ = ["ConstrainedDistribution"]


class ConstrainedDistribution(PromotedLeaves, Distribution):
    """A law of vectors given ``A x = k``; the base class of all laws of this package.

    The leaves of its pytree are its parameters, A and k. What follows from them, the conditional
    law, is computed at construction, and again where a transformation of JAX replaced the leaves.

    Autoguides and MCMC keep the transform onto the support of a latent site from their first run of
    the model. If A or k changes after it (sampled, learned, another minibatch, other arguments of
    the model), an autoguide on the site has an infinite loss (an error under ``validate_args``
    outside ``jit``), and the points that MCMC returns for the site are on the old subspace, though
    the other sites are right. ``Predictive`` with such a guide does not score and cannot notice.
    Use ``reparam.auto_reparam``.
    """

    pytree_data_fields: tuple[str, ...] = ("A", "k")
    pytree_aux_fields: tuple[str, ...] = ("_layout", "_support_tolerance")

    _event_dims: dict[str, int] = {}
    _covariance_form: str | None = None

    def __init__(
        self,
        constraint: LinearConstraint,
        batch_shape: tuple[int, ...],
        support_tolerance: float | None,
        validate_args: bool | None,
    ) -> None:
        self.A: Array | GroupSum | SparseMatrix = constraint.A
        self.k: Array = constraint.k
        self._layout: Layout = constraint.layout
        self._support_tolerance = support_tolerance
        self._conditional = folded(self._condition)(constraint)
        # Parameters are checked by the laws themselves, with messages that say what to do.
        super().__init__(batch_shape, (constraint.num_variables,), validate_args=False)
        self._validate_args = self._validates(validate_args)

    @staticmethod
    def _validates(validate_args: bool | None) -> bool:
        return Distribution._validate_args if validate_args is None else validate_args

    def _has_checked(self, parameter: Array) -> bool:
        """Whether a wrong value of a parameter would have raised."""
        return bool(self._validate_args) and not isinstance(parameter, Tracer)

    @abstractmethod
    def _condition(self, constraint: LinearConstraint) -> Any:
        """The conditional law of the parameters under a constraint."""

    @abstractmethod
    def _leaf(self) -> Array:
        """A parameter of the law with event shape ``(n,)``."""

    @untraced_property
    @folded
    def _conditional(self) -> Any:
        return self._condition(rebind_constraint(self.A, self.k, self._leaf(), self._layout))

    @property
    def _constraint(self) -> LinearConstraint:
        return self._conditional.constraint

    @property
    def rank(self) -> int | Array:
        """r, the number of independent rows of A.

        An array where that is not one known number.
        """
        if isinstance(self.A, GroupSum):
            return plan_constraint(self.A).rank
        rank = self._constraint.rank
        return rank if isinstance(rank, int) or self._layout.rank is None else self._layout.rank

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> linear_equality:
        """The affine subspace ``{x : A x = k}``."""
        return linear_equality.of(self._constraint, self._support_tolerance)

    @property
    def stddev(self) -> Array:
        """``(*batch, n)`` square root of the variance."""
        variance = self.variance
        is_zero = variance == 0  # where a square root has no slope, though the law does not move
        return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, variance)))

    def residual(self, value: Any) -> Array:
        """``A value - k``: ``(*batch, m)``; ``(*batch,)`` where A is one row ``(n,)``."""
        return self._constraint.residual(self._floating(value))

    @classmethod
    def infer_shapes(cls, *args: Any, **kwargs: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Batch and event shape from the shapes of the arguments, by position or name."""
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        given = dict(zip(names, args, strict=False)) | kwargs
        shapes = {name: shape for name, shape in given.items() if shape is not None}
        return inferred_shapes(shapes, cls._event_dims)

    def expand(self, batch_shape: Sequence[int]) -> "ConstrainedDistribution":
        """The same law with a larger batch shape; nothing is computed anew."""
        batch_shape = tuple(batch_shape)
        if not _broadcasts_to(self._batch_shape, batch_shape):
            raise ValueError(
                f"Cannot broadcast distribution of shape {self._batch_shape} to shape {batch_shape}"
            )
        new = copy.copy(self)
        new.__dict__.update(self.__dict__)
        new._batch_shape = batch_shape
        for name, event_dim in self._leaves().items():
            new.__dict__[name] = lifted(self.__dict__[name], batch_shape, event_dim)
        return new

    def _leaves(self) -> dict[str, int]:
        """Event dimensions of the parameters that this instance holds."""
        return {name: dim for name, dim in self._event_dims.items() if name in self.__dict__}

    def _given(self) -> list[str]:
        """Names of the parameters, for ``repr``."""
        return [name for name in self._event_dims if name in self.__dict__]

    def _restacked(self) -> "ConstrainedDistribution":
        """The law whose batch shape counts the dimensions that ``vmap`` stacked on its leaves."""
        old, leaves = self._layout, self._leaves()
        k_dims = 0 if old.is_vector else 1
        ranks = [self.__dict__[name].ndim - event_dim for name, event_dim in leaves.items()]
        parts = [self.__dict__[name].shape[:rank] for name, rank in zip(leaves, ranks, strict=True)]
        own = len(self._batch_shape)
        stacked = [*(rank - own for rank in ranks), self.k.ndim - k_dims - old.k_batch]
        new = copy.copy(self)
        if not isinstance(self.A, GroupSum):
            stacked.append(self.A.ndim - old.row_dims - old.matrix_batch)
            new.A = unstacked_matrix(self.A, old.row_dims, old.matrix_batch, own + max(stacked))
            parts.append(new.A.shape[: new.A.ndim - old.row_dims])
        new.k = unstacked(self.k, k_dims, old.k_batch, own + max(stacked))
        for name, event_dim in leaves.items():
            leaf = unstacked(self.__dict__[name], event_dim, own, own + max(stacked))
            new.__dict__[name] = lifted(leaf, range(own + max(stacked)), event_dim)
        parts.append(new.k.shape[: new.k.ndim - k_dims])
        matrix_batch = 0 if isinstance(self.A, GroupSum) else new.A.ndim - old.row_dims
        new._layout = old._replace(matrix_batch=matrix_batch, k_batch=len(parts[-1]))
        new._batch_shape = jnp.broadcast_shapes(self._batch_shape, *parts)
        return new

    def _with_axes(self, **axes: Any) -> "ConstrainedDistribution":
        """This law with the axes of ``vmap`` in place of its leaves."""
        new = copy.copy(self)
        for name in type(self).gather_pytree_data_fields():
            new.__dict__[name] = axes.get(name)
        if isinstance(self._layout, Layout):
            new._layout = AxesLayout(*self._layout)
        return new

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in self.__dict__.items() if name != "_conditional"}

    def _floating(self, value: Any) -> Array:
        (value,) = floating(value=value)
        return value

    def _expanded(self, value: Array, event_dim: int) -> Array:
        event_shape = value.shape[value.ndim - event_dim :]
        batch_shape = value.shape[: value.ndim - event_dim]
        return jnp.broadcast_to(
            value, jnp.broadcast_shapes(batch_shape, self._batch_shape) + event_shape
        )

    def _on_support(self, value: Array) -> Array:
        """Where ``value`` obeys the constraint; raises under ``validate_args`` if it does not."""
        tolerance = self._support_tolerance
        if tolerance is None:
            tolerance = default_tolerance(value.dtype)
        inside = self._constraint.contains(value, tolerance)
        if self._validate_args and not isinstance(inside, Tracer) and not np.asarray(inside).all():
            residual = folded(self.residual)(value)
            gap = jnp.abs(jax.lax.stop_gradient(residual)).max()
            size = "unknown" if isinstance(gap, Tracer) else f"{float(gap):.3g}"
            raise off_subspace(tolerance, size)
        return inside

    def _checked_value(self, value: Any) -> Array:
        """``value`` as an array of at least the rank of the law."""
        value = self._floating(value)
        check_value(value, object, self.event_shape[0], self._batch_shape)
        return lift(value, 1 + len(self._batch_shape))

    @property
    def _known_plan(self) -> Any:
        """What is planned of A, for the card of the law; None where there is no plan, or where the
        law was rebuilt from leaves and has not asked for it yet."""
        conditional = self.__dict__.get("_conditional")
        return None if conditional is None else conditional.constraint.matrix.plan

    def _repr_html_(self) -> str:
        return law_card(facts_of(self))

    def __repr__(self) -> str:
        parts = [f"{name}: {leaf_shape(getattr(self, name))}" for name in self._given()]
        parts += [f"A: {leaf_shape(self.A)}", f"k: {leaf_shape(self.k)}"]
        parts.append(f"rank: {self._layout.rank}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _broadcasts_to(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    try:
        return jnp.broadcast_shapes(shape, larger) == larger
    except ValueError:
        return False
