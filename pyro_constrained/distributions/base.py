"""What all laws given ``A x = k`` have in common."""

import copy
import warnings
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from constrained_core import GroupSum
from constrained_core.checks.laws import STALE_SUPPORT, off_subspace
from constrained_core.checks.shapes import check_value, inferred_shapes
from constrained_core.explanation.law import law_card
from constrained_core.sparse import SparseMatrix
from pyro_constrained.constraints import linear_equality
from pyro_constrained.distributions.card import facts_of
from pyro_constrained.kernels.arrays.autocast import in_full_precision
from pyro_constrained.kernels.arrays.compiled import while_current
from pyro_constrained.kernels.arrays.in_place import Unchanged, detached
from pyro_constrained.kernels.arrays.inspection import are_known
from pyro_constrained.kernels.arrays.lazy import without_asides
from pyro_constrained.kernels.arrays.shapes import broadcast_shapes
from pyro_constrained.kernels.linear.constraint import LinearConstraint, default_tolerance

__all__ = ["ConstrainedDistribution"]


@in_full_precision
class ConstrainedDistribution(TorchDistribution):
    """A law of vectors given ``A x = k``; the base class of all laws of this package.

    Autoguides and MCMC make the transform onto the support of a latent site once, from their first
    run of the model. If A or k changes after it (sampled, learned, another minibatch, other
    arguments of the model), values of the site are on the old subspace: ``log_prob`` then raises
    under ``validate_args``, and in an inference where gradients reach both the value and A or k;
    else it is -inf, with a warning if A or k requires a gradient. ``Predictive`` with such a guide
    does not score and cannot notice. Use ``reparam.auto_reparam``.
    """

    _event_dims: dict[str, int] = {}
    _covariance_form: str | None = None

    def __init__(
        self,
        constraint: LinearConstraint,
        batch_shape: torch.Size,
        support_tolerance: float | None,
        validate_args: bool | None,
    ) -> None:
        self._constraint = constraint
        self._support_tolerance = support_tolerance
        # Parameters are checked by the laws themselves, with messages that say what to do.
        super().__init__(batch_shape, torch.Size((constraint.num_variables,)), validate_args=False)
        self._validate_args = self._validates(validate_args)
        self._made_of = Unchanged(self._given, constraint.made_of)

    @property
    def _given(self) -> dict[str, Any]:
        return {name: self.__dict__.get(name) for name in self.arg_constraints}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy: a constant law, since its parts are no longer made of its parameters."""
        self.__dict__.update(state)
        self.__dict__.update({n: detached(p) for n, p in self._given.items() if p is not None})
        self._made_of = Unchanged(self._given, self._constraint.made_of).without_gradient()

    def __copy__(self) -> "ConstrainedDistribution":
        new = type(self).__new__(type(self))
        new.__dict__.update(without_asides(self.__dict__))
        return new

    def _require_unchanged(self) -> None:
        self._made_of.require(self)

    @property
    def _has_whole_gradient(self) -> bool:
        return self._made_of.has_whole_gradient

    @staticmethod
    def _validates(validate_args: bool | None) -> bool:
        if validate_args is None:
            return torch.distributions.Distribution._validate_args
        return validate_args

    def _has_checked(self, parameter: Tensor) -> bool:
        """Whether a wrong value of a parameter would have raised."""
        return bool(self._validate_args) and are_known(parameter)

    @property
    def A(self) -> Tensor | GroupSum | SparseMatrix:
        """The constraint matrix, as given."""
        return self._constraint.A

    @property
    def k(self) -> Tensor:
        """The right-hand side, as given."""
        return self._constraint.k

    @property
    def rank(self) -> int | Tensor:
        """r, the number of independent rows of A.

        A tensor where that is not one known number.
        """
        return self._constraint.rank

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> linear_equality:
        """The affine subspace ``{x : A x = k}``."""
        return linear_equality.of(self._constraint, self._support_tolerance)

    @property
    def stddev(self) -> Tensor:
        """``(*batch, n)`` square root of the variance."""
        variance = self.variance
        is_zero = variance == 0  # where a square root has no slope, though the law does not move
        return variance.masked_fill(is_zero, 1.0).sqrt().masked_fill(is_zero, 0.0)

    def residual(self, value: Tensor) -> Tensor:
        """``A value - k``: ``(*batch, m)``; ``(*batch,)`` where A is one row ``(n,)``."""
        return self._constraint.residual(value)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[torch.Size, torch.Size]:
        """Batch and event shape from the shapes of the arguments, by name."""
        given = {name: shape for name, shape in arg_shapes.items() if shape is not None}
        batch_shape, event_shape = inferred_shapes(given, cls._event_dims)
        return torch.Size(batch_shape), torch.Size(event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ConstrainedDistribution":
        """The same law with a larger batch shape; nothing is computed anew."""
        new = copy.copy(self) if _instance is None else _instance
        new.__dict__.update(without_asides(self.__dict__))
        new._batch_shape = torch.Size(batch_shape)
        for name, event_dim in self._event_dims.items():
            value = self.__dict__.get(name)
            if value is not None:
                new.__dict__[name] = _expanded(value, new._batch_shape, event_dim)
        if not torch.is_grad_enabled():
            new._made_of = self._made_of.without_gradient()
        return new

    def _expanded(self, value: Tensor, event_dim: int) -> Tensor:
        """An answer in the batch shape of the law, of which it has to be a law still."""
        self._require_unchanged()
        value = while_current(self._constraint.is_current, value)
        event_shape = value.shape[value.ndim - event_dim :]
        batch_shape = value.shape[: value.ndim - event_dim]
        if batch_shape == self._batch_shape:
            return value
        return value.expand(broadcast_shapes(batch_shape, self._batch_shape) + event_shape)

    def _on_support(self, value: Tensor) -> Tensor | None:
        """Where ``value`` obeys the constraint, None if that is seen to be everywhere; raises under
        ``validate_args`` if it does not."""
        tolerance = self._support_tolerance
        if tolerance is None:
            tolerance = default_tolerance(value.dtype)
        inside = self._constraint.contains(value, tolerance)
        is_moving = self._constraint.is_differentiated
        if not (self._validate_args or is_moving):
            return inside
        if not are_known(inside):
            return inside
        if bool(inside if inside.ndim == 0 else inside.all()):
            return None
        is_stale = is_moving and value.requires_grad and bool(value.isfinite().all())
        if self._validate_args or is_stale:
            gap = float(self.residual(value).detach().abs().max())
            raise off_subspace(tolerance, f"{gap:.3g}")
        warnings.warn(
            f"The log density is -inf: a value is off the support A x = k. {STALE_SUPPORT}",
            stacklevel=4,  # the caller of log_prob
        )
        return inside

    def _check_value(self, value: Tensor) -> None:
        check_value(value, Tensor, self._constraint.num_variables, self._batch_shape)

    @property
    def _known_plan(self) -> Any:
        """What is planned of A, for the card of the law; None where there is no plan."""
        return self._constraint.matrix.plan

    def _repr_html_(self) -> str:
        return law_card(facts_of(self))

    def __repr__(self) -> str:
        names = [name for name in self.arg_constraints if name in self.__dict__]
        parts = [f"{name}: {tuple(getattr(self, name).shape)}" for name in names]
        parts += [f"A: {tuple(self.A.shape)}", f"k: {tuple(self.k.shape)}", f"rank: {self.rank}"]
        return f"{type(self).__name__}({', '.join(parts)})"


def _expanded(value: Any, batch_shape: torch.Size, event_dim: int) -> Any:
    """A parameter with a larger batch shape."""
    if isinstance(value, SparseMatrix):
        return value.with_values(value.values.expand(batch_shape + value.values.shape[-1:]))
    return value.expand(batch_shape + value.shape[value.ndim - event_dim :])
