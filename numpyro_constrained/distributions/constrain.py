"""``constrain``: from an ordinary law to its constrained one, by an open registry."""

import copy
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from numpyro.distributions import ExpandedDistribution, Independent

from constrained_core.checks.arguments import unknown_base

__all__ = ["constrain"]


class _Constrain:
    """``constrain(base_distribution, A, k, **kw)``: the law given ``A x = k``.

    Known are ``MultivariateNormal``, ``LowRankMultivariateNormal``, and ``Normal``, ``Poisson``,
    ``Bernoulli`` and ``Categorical`` with ``to_event(1)``; ``constrain.register`` adds others.

    Args:
        base_distribution: a law with event shape ``(n,)``.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, or a ``GroupSum``.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        **kw: further arguments of the constrained class.

    Raises:
        ConstraintError: no constrained law is registered for the base law.

    Example:
        >>> import jax.numpy as jnp
        >>> from numpyro.distributions import Normal
        >>> base = Normal(jnp.zeros(3), jnp.ones(3)).to_event(1)
        >>> print(constrain(base, jnp.ones(3), 6.0).mean)
        [2. 2. 2.]
    """

    def __init__(self) -> None:
        self._makers: dict[tuple[type, int], Callable] = {}

    def register(self, base_type: type, independent_dims: int = 0) -> Callable:
        """Decorator: the function makes the constrained law of a ``base_type``.

        Args:
            base_type: class of the base law, also of its subclasses.
            independent_dims: how many dimensions ``to_event`` turned into the event.
        """

        def decorate(maker: Callable) -> Callable:
            self._makers[base_type, independent_dims] = maker
            return maker

        return decorate

    def __call__(self, base_distribution: Any, A: Any, k: Any, **kw: Any) -> Any:
        base, dims = base_distribution, 0
        while isinstance(base, Independent | ExpandedDistribution):
            dims += base.reinterpreted_batch_ndims if isinstance(base, Independent) else 0
            base = base.base_dist
        for base_type in type(base).__mro__:
            if (base_type, dims) in self._makers:
                full_shape = base_distribution.batch_shape + base_distribution.event_shape[:dims]
                base = _expanded(base, full_shape) if dims else base
                law = self._makers[base_type, dims](base, A, k, **kw)
                full_shape = jnp.broadcast_shapes(base_distribution.batch_shape, law.batch_shape)
                return law.expand(full_shape)
        raise unknown_base(self._makers, base, getattr(base_distribution, "event_shape", None))


def _expanded(base: Any, batch_shape: tuple[int, ...]) -> Any:
    """``base`` with parameters of the batch shape that ``ExpandedDistribution`` promised."""
    full = copy.copy(base)
    for name, value in base.get_args().items():
        event_dim = base.arg_constraints[name].event_dim
        event_shape = jnp.shape(value)[jnp.ndim(value) - event_dim :]
        full.__dict__[name] = jnp.broadcast_to(value, batch_shape + event_shape)
    full._batch_shape = batch_shape
    return full


constrain = _Constrain()
