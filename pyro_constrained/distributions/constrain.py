"""``constrain``: from an ordinary law to its constrained one, by an open registry."""

from collections.abc import Callable
from typing import Any

import torch

from constrained_core.checks.arguments import unknown_base

__all__ = ["constrain"]


class _Constrain:
    """``constrain(base_distribution, A, k, **kw)``: the law given ``A x = k``.

    Known are ``MultivariateNormal``, ``LowRankMultivariateNormal``, and ``Normal``, ``Poisson``,
    ``Bernoulli`` and ``Categorical`` with ``to_event(1)``; ``constrain.register`` adds others.

    Args:
        base_distribution: a law with event shape ``(n,)``.
        A: ``(*batch, m, n)``, ``(n,)`` for one row, a ``GroupSum``, or a sparse matrix.
        k: ``(*batch, m)``; ``(*batch,)`` for one row.
        **kw: further arguments of the constrained class.

    Raises:
        ConstraintError: no constrained law is registered for the base law.

    Example:
        >>> import torch
        >>> from pyro.distributions import Normal
        >>> base = Normal(torch.zeros(3), torch.ones(3)).to_event(1)
        >>> constrain(base, torch.ones(3), 6.0).mean
        tensor([2., 2., 2.])
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
        while isinstance(base, torch.distributions.Independent):
            dims += base.reinterpreted_batch_ndims
            base = base.base_dist
        for base_type in type(base).__mro__:
            if (base_type, dims) in self._makers:
                return self._makers[base_type, dims](base, A, k, **kw)
        raise unknown_base(self._makers, base, tuple(base_distribution.event_shape))


constrain = _Constrain()
