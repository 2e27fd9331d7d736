"""Laws of the counts given the decoder's rates, all scored by one measure: P(x | A x = k)."""

import numpy as np
import torch
from pyro.distributions import Poisson, TorchDistribution
from torch import Tensor

from constrained_core import GroupSum
from experiments.counts.photons import Detector
from pyro_constrained import ConstrainedPoisson

__all__ = ["Constrained", "Free", "Law", "Rescaled", "Rounded", "largest_remainder"]


class Law:
    """What a decoder's rates mean.

    Attributes:
        has_mass: whether P(x | A x = k) can be worked out.
    """

    has_mass = True

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def given(self, rate: Tensor, k: Tensor) -> TorchDistribution:
        """The law of x ``(n,)``, for ``(*batch, n)`` rates and ``(*batch, m)`` sums."""
        raise NotImplementedError

    def log_mass_of_sums(self, rate: Tensor, k: Tensor) -> Tensor:
        """``(*batch,)`` log probability of A x = k, which is to be averaged over codes, too."""
        raise NotImplementedError

    def draw(self, rate: Tensor, k: Tensor) -> Tensor:
        """``(*batch, n)`` counts."""
        return self.given(rate, k).sample()


class Free(Law):
    """Independent Poissons, whose sums are Poisson."""

    def given(self, rate: Tensor, k: Tensor) -> TorchDistribution:
        return Poisson(rate, validate_args=False).to_event(1)

    def log_mass_of_sums(self, rate: Tensor, k: Tensor) -> Tensor:
        return Poisson(self.detector.sums(rate), validate_args=False).log_prob(k).sum(-1)


class Rescaled(Free):
    """Independent Poissons with the rates scaled so that sums are k on average.

    Given its sums it is multinomial: P(A x = k) is the same for all codes, so that conditioning a
    rescaled decoder is the same as putting the constrained law in its place.
    """

    def given(self, rate: Tensor, k: Tensor) -> TorchDistribution:
        return super().given(self.detector.rescaled(rate, k), k)

    def log_mass_of_sums(self, rate: Tensor, k: Tensor) -> Tensor:
        return super().log_mass_of_sums(self.detector.rescaled(rate, k), k)


class Rounded(Rescaled):
    """Draws of ``Rescaled``, scaled once more and rounded to the sums by largest remainder.

    Many draws are rounded to one x, and the sum of their probabilities has no closed form.
    """

    has_mass = False

    def draw(self, rate: Tensor, k: Tensor) -> Tensor:
        drawn = super().draw(rate, k)
        is_empty = self.detector.own_sum(self.detector.sums(drawn)) == 0
        drawn = torch.where(is_empty, rate, drawn)  # nothing to scale: the rates are rounded
        return largest_remainder(
            self.detector.rescaled(drawn.double(), k.double()), k, self.detector.A
        )


class Constrained(Law):
    """Ours: the Poissons given A x = k, exactly."""

    def given(self, rate: Tensor, k: Tensor) -> ConstrainedPoisson:
        return ConstrainedPoisson(
            rate,
            self.detector.A,
            k,
            gradient_estimator="marginal_expectation",
            validate_args=False,
        )

    def log_mass_of_sums(self, rate: Tensor, k: Tensor) -> Tensor:
        return rate.new_zeros(rate.shape[:-1])


def largest_remainder(value: Tensor, k: Tensor, A: GroupSum) -> Tensor:
    """Whole numbers with sums k: values rounded down, then one more where most was cut off.

    Args:
        value: ``(*batch, n)``, nonnegative, whose sums are k to rounding.
        k: ``(*batch, m)`` whole numbers.
    """
    index = torch.tensor(A.index)
    whole = value.floor()
    rest = value - whole
    missing = k - whole.new_zeros(k.shape).index_add(-1, index, whole)
    order = (2.0 * index - rest).argsort(dim=-1, stable=True)  # by group, most cut off first
    first = np.concatenate([[0], np.cumsum(A.sizes)[:-1]])
    place = torch.arange(len(index)) - torch.as_tensor(np.repeat(first, A.sizes))
    rank = torch.empty_like(order).scatter(-1, order, place.expand_as(order))
    return (whole + (rank < missing[..., index])).to(k.dtype)
