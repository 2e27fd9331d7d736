"""Location-scale laws conditioned on ``A x = k``.

For x = loc + L e with white noise e, the constraint is S e = c - B loc with S = B L. Conditioning
a draw is kriging (Matheron's rule): e - S' F^-1 S e with F = S S'. Nothing here depends on the
value that is scored, so each law computes it once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_constrained.kernels.arrays.inspection import are_known, are_plain
from pyro_constrained.kernels.arrays.lazy import lazy_property
from pyro_constrained.kernels.linear.completion import (
    Completion,
    DenseCompletion,
    DisjointCompletion,
    RankedCompletion,
    SparseCompletion,
)
from pyro_constrained.kernels.linear.constraint import LinearConstraint
from pyro_constrained.kernels.linear.rows import DenseRows, DisjointRows
from pyro_constrained.kernels.linear.sparse_rows import SparseRows

__all__ = ["Conditional", "generic_values", "leading_identity", "leading_rows"]

EVEN = 1e3
"""Ratio of scales up to which one correction of a draw leaves nothing in float32."""
TOGETHER = 8
"""Draws of a sparse law that are made at once."""


class Conditional(ABC):
    """x given A x = k, for covariance (or scale matrix) Sigma.

    Attributes:
        constraint: the constraint A x = k.
        loc: ``(*batch, n)`` of the law without the constraint.
        mean: ``(*batch, n)``, on the subspace up to rounding; ``settled_mean`` to the last bits.
        half_log_det: ``(*batch,)`` 1/2 log pdet of the conditional covariance.
        constraint_half_log_det: ``(*batch,)`` 1/2 log(det A Sigma A' / det A A').
        noise_size: white-noise entries of one draw.
        base_size: white-noise entries of a reparametrised draw.
    """

    constraint: LinearConstraint
    loc: Tensor
    mean: Tensor
    half_log_det: Tensor
    constraint_half_log_det: Tensor
    noise_size: int

    @property
    @abstractmethod
    def surprise(self) -> Tensor:
        """``(*batch,)`` (k - A loc)' (A Sigma A')^-1 (k - A loc)."""

    @lazy_property
    def settled_mean(self) -> Tensor:
        """``(*batch, n)`` the mean, on the subspace to the last bits."""
        return self.settle(self.mean)

    @abstractmethod
    def deviation(self, noise: Tensor) -> Tensor:
        """Draw of x - mean from white noise ``(..., noise_size)``."""

    def draw(self, noise: Tensor) -> Tensor:
        """Draw of x from white noise, on the subspace to the last bits."""
        return self.settle(self.mean + self.deviation(noise))

    def in_parts(self, draw: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
        """``draw(noise)``; of sparse laws few at once, so that what is made on the way stays in the
        cache."""
        num_samples = noise.ndim - self.loc.ndim
        is_plain = self.constraint.matrix.is_sparse and are_plain(noise, self.loc)
        if num_samples < 1 or not is_plain or noise.device.type != "cpu":
            return draw(noise)
        at_once = max(1, TOGETHER // max(1, self.loc[..., 0].numel()))
        samples = noise.flatten(0, num_samples - 1)
        if len(samples) <= at_once:
            return draw(noise)
        drawn = torch.cat([draw(part) for part in samples.split(at_once)])
        return drawn.unflatten(0, noise.shape[:num_samples])

    def generic_point(self) -> Tensor:
        """``(*batch, n)`` a point of the subspace that is not special."""
        probe = generic_values(self.noise_size, self.loc)
        return self.draw(probe.expand(self.mean.shape[:-1] + (-1,)))

    @abstractmethod
    def closing(self, value: Tensor) -> Tensor:
        """A step within the covariance from a point beside the subspace to it."""

    @abstractmethod
    def mahalanobis(self, deviation: Tensor) -> Tensor:
        """Squared length of a deviation in the metric of the conditional covariance."""

    def distance(self, value: Tensor) -> Tensor:
        """Squared length of ``value - mean`` in that metric."""
        return self.mahalanobis(value - self.mean)

    @abstractmethod
    def variance(self) -> Tensor:
        """``(*batch, n)`` diagonal of the conditional covariance."""

    @abstractmethod
    def covariance_matvec(self, vector: Tensor) -> Tensor:
        """Conditional covariance times ``vector``."""

    @abstractmethod
    def precision_trace(self, other: "Conditional") -> Tensor:
        """Trace of this law's inverse covariance times the covariance of ``other``."""

    # A reparametrised draw is continuous in every parameter for fixed noise. Orthonormal bases of
    # a null space are not, where that turns freely: there conditioning by kriging is.

    @property
    def base_size(self) -> int:
        return self.noise_size

    def from_base(self, noise: Tensor) -> Tensor:
        """Draw of x from white noise ``(..., base_size)``."""
        return self.draw(noise)

    @abstractmethod
    def to_base(self, value: Tensor) -> Tensor:
        """White noise that ``from_base`` takes to ``value``."""

    @property
    @abstractmethod
    def size(self) -> Tensor:
        """``(*batch, n)`` standard deviations without the constraint."""

    @lazy_property
    def completion(self) -> Completion:
        """Variables whose scale dominates a row, from the others."""
        matrix = self.constraint.matrix
        if isinstance(matrix.rows, DisjointRows):
            return DisjointCompletion(matrix.rows, self.size)
        if isinstance(matrix.rows, SparseRows):
            return SparseCompletion(matrix.rows, self.size)
        rows = matrix.full_rank_rows()
        if rows is None:
            assert isinstance(matrix.rows, DenseRows) and matrix.is_kept is not None
            return RankedCompletion(matrix.rows, matrix.is_kept, self.size)
        return DenseCompletion(rows, self.size)

    def covariance(self) -> Tensor:
        """``(*batch, n, n)`` conditional covariance."""
        identity = leading_identity(self.loc.shape[-1], self)
        return self.completion.fill_both(self.covariance_matvec(identity).movedim(0, -2))

    def num_corrections(self) -> int:
        """Corrections after which a draw obeys the constraint to the last bits."""
        # A step leaves a gap of rounding times the condition of A Sigma A'. Of an A without a plan
        # that is not bounded; in float32 one step may leave too much where scales differ.
        if self.constraint.matrix.plan is None:
            return 3
        return 1 if self.loc.dtype == torch.float64 else 2

    def settle(self, value: Tensor) -> Tensor:
        """Move a draw onto the subspace to the last bits, within the covariance; no gradient."""
        step, count = self.closing, self.num_corrections()
        if self.constraint.matrix.own is not None and self.is_even():
            step = self.constraint.own_step  # moves what it moves by rounding of its own size
        return self._flushed(self.constraint.settle(value, step, count))

    def is_even(self) -> bool:
        """Whether scales are seen to be of similar size."""
        with torch.set_grad_enabled(False):
            size = self.size
            if not are_known(size) or size.numel() == 0:
                return False
            low, high = size.aminmax()
        return float(high) <= EVEN * float(low)

    def _flushed(self, value: Tensor) -> Tensor:
        """Exact zeros, where only rounding tells that the constraint holds a variable there."""
        matrix = self.constraint.matrix
        if matrix.plan is not None:
            return value
        # A step that closes the gap of rounding in n others has again rounding errors of its own.
        eps = 4 * value.shape[-1] * torch.finfo(value.dtype).eps ** 2
        rounding = eps * (self.size + self.loc.abs())
        return torch.where(value.abs() <= rounding, 0.0, value)


def leading_identity(size: int, *laws: Conditional) -> Tensor:
    """``(size, 1, ..., 1, size)``: unit vectors as samples of laws that may be batches."""
    like = laws[0].loc
    return leading_rows(torch.eye(size, dtype=like.dtype, device=like.device), *laws)


def leading_rows(matrix: Tensor, *laws: Conditional) -> Tensor:
    """``(*batch, c, p)`` as ``(c, 1, ..., 1, *batch, p)``: rows as samples of laws of which one may
    have more batch dimensions than the matrix."""
    ndim = max(law.loc.ndim for law in laws) - 1
    rows = matrix.movedim(-2, 0)
    return rows.reshape(rows.shape[:1] + (1,) * (ndim + 2 - rows.ndim) + rows.shape[1:])


def generic_values(size: int, like: Tensor) -> Tensor:
    """``(size,)`` values that are not special."""
    return torch.linspace(0.5, 1.5, size, dtype=like.dtype, device=like.device).cos()
