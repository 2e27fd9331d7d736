"""The matrix of a discrete plan, by which a law tells another one in its place."""

from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from numpyro_constrained.kernels.arrays.linalg import lift

__all__ = ["PlannedMatrix"]


class PlannedMatrix(NamedTuple):
    """The matrix that a plan was made of: static, as the plan itself.

    Attributes:
        shape: ``(m, n)``, or ``(n,)`` for one row.
        type_name: the smallest integer type that holds its entries.
        content: these, as bytes.
    """

    shape: tuple[int, ...]
    type_name: str
    content: bytes

    @classmethod
    def of(cls, A: np.ndarray) -> "PlannedMatrix":
        """That of whole numbers."""
        largest = int(np.abs(A).max(initial=0))
        A = A.astype(np.min_scalar_type(-largest - 1))
        return cls(A.shape, A.dtype.name, A.tobytes())

    def equals(self, A: Any) -> Any:
        """``(*stack,)`` whether matrices are this one; found in the program where they are
        traced."""
        A = A if isinstance(A, Tracer) else np.asarray(A)
        own = np.frombuffer(self.content, self.type_name).reshape(self.shape)
        return (lift(own.astype(A.dtype), A.ndim) == A).all(tuple(range(-own.ndim, 0)))
