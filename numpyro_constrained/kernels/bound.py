"""What linear and integer constraints have in common."""

from typing import Any, Protocol

from jax import Array

__all__ = ["BoundConstraint"]


class BoundConstraint(Protocol):
    """``A x = k``, bound to a law."""

    @property
    def A(self) -> Any:
        """As given, an array or a ``GroupSum``."""

    @property
    def k(self) -> Array:
        """As given."""

    @property
    def batch_shape(self) -> Any:
        """Of A and k."""

    @property
    def num_variables(self) -> int:
        """n."""

    @property
    def is_vector(self) -> bool:
        """Whether A was given as one row ``(n,)``, so that k has no row dimension."""

    def residual(self, value: Array) -> Array:
        """``A value - k``, in the rows of A."""
