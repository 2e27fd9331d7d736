"""Laws of the charges of many crystals at once: densities of each crystal, intervals of each atom.

The laws that are trained by expected losses, draws and normal likelihood come from
``pyro_constrained``, whose ``log_prob`` is that of a whole batch. For scores the density of each
crystal is needed, one Student-t law per crystal shares nothing with the others, and what rivals
make of normal charges has laws of its own. All densities are those of n - 1 charges of a crystal,
whichever: the last follows. That is the density on the subspace times the square root of n.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from constrained_core import GroupSum
from pyro_constrained import ConstrainedNormal

__all__ = [
    "CompletedNormal",
    "CrystalLaw",
    "GivenCopies",
    "GivenNormal",
    "GivenStudentT",
    "ProjectedNormal",
    "Sums",
]

LOG_TWO_PI = math.log(2 * math.pi)


class Sums:
    """Sums over the atoms of each crystal.

    Args:
        neutral: the constraint that the charges of each of G crystals sum to zero.

    Attributes:
        num_atoms: ``(G,)`` float64.
    """

    def __init__(self, neutral: GroupSum) -> None:
        self.neutral, self.crystal = neutral, torch.tensor(neutral.index)
        self.num_atoms = torch.bincount(self.crystal, minlength=neutral.num_groups).double()

    def __call__(self, values: Tensor) -> Tensor:
        """``(a,)`` to ``(G,)``."""
        return values.new_zeros(len(self.num_atoms)).index_add(0, self.crystal, values)

    def spread(self, totals: Tensor) -> Tensor:
        """``(G,)`` to ``(a,)``: to every atom the figure of its crystal."""
        return totals.index_select(0, self.crystal)


@dataclass(frozen=True, eq=False)
class CrystalLaw(ABC):
    """What follows from independent charges of these locations and scales.

    Attributes:
        loc, scale: ``(a,)`` float64, e.
        sums: over crystals.
    """

    loc: Tensor
    scale: Tensor
    sums: Sums

    @abstractmethod
    def log_prob(self, charge: Tensor) -> Tensor:
        """``(G,)`` log density of n - 1 charges of each crystal."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``(a,)``."""

    @property
    @abstractmethod
    def spread(self) -> Tensor:
        """``(a,)`` scale of the marginal law of each charge."""

    @property
    def marginal_df(self) -> Tensor:
        """Degrees of freedom of the marginal laws; infinite for normal ones."""
        return self.loc.new_tensor(math.inf)


@dataclass(frozen=True, eq=False)
class CompletedNormal(CrystalLaw):
    """Independent normal charges but for one of each crystal, which follows from the others.

    Attributes:
        dependent: ``(G,)`` the atoms that follow.
        is_completed: whether ``mean`` and ``spread`` are those of the completed charges, or, for
            methods that do not obey the law, those of n independent ones.
    """

    dependent: Tensor
    is_completed: bool = True

    def log_prob(self, charge: Tensor) -> Tensor:
        each = -0.5 * ((charge - self.loc) / self.scale).square() - self.scale.log()
        each = each - 0.5 * LOG_TWO_PI
        return self.sums(each) - each[self.dependent]

    @property
    def mean(self) -> Tensor:
        if not self.is_completed:
            return self.loc
        others = self.sums(self.loc) - self.loc[self.dependent]
        return self.loc.index_copy(0, self.dependent, -others)

    @property
    def spread(self) -> Tensor:
        if not self.is_completed:
            return self.scale
        variance = self.scale.square()
        others = self.sums(variance) - variance[self.dependent]
        return self.scale.index_copy(0, self.dependent, others.sqrt())


@dataclass(frozen=True, eq=False)
class ProjectedNormal(CrystalLaw):
    """Independent normal charges less their mean over the crystal."""

    def log_prob(self, charge: Tensor) -> Tensor:
        # The independent density, integrated along the direction that the projection removes.
        sums, precision = self.sums, self.scale.square().reciprocal()
        error, total = charge - self.loc, sums(precision)
        along = sums(precision * error)
        distance = sums(precision * error.square()) - along.square() / total
        half_log_det = sums(self.scale.log()) + 0.5 * (total / sums.num_atoms).log()
        normaliser = half_log_det + 0.5 * (sums.num_atoms - 1) * LOG_TWO_PI
        return 0.5 * sums.num_atoms.log() - 0.5 * distance - normaliser

    @property
    def mean(self) -> Tensor:
        return self.loc - self.sums.spread(self.sums(self.loc) / self.sums.num_atoms)

    @property
    def spread(self) -> Tensor:
        variance, count = self.scale.square(), self.sums.num_atoms
        average = self.sums.spread(self.sums(variance) / count.square())
        return (variance * (1 - 2 / self.sums.spread(count)) + average).sqrt()


@dataclass(frozen=True, eq=False)
class GivenNormal(CrystalLaw):
    """Independent normal charges given that they sum to zero."""

    def _terms(self, charge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each crystal: squared distance on the subspace, surprise of a sum of zero, 1/2 log
        determinant of the covariance of n - 1 charges."""
        total = self.sums(self.scale.square())
        surprise = self.sums(self.loc).square() / total
        distance = self.sums(((charge - self.loc) / self.scale).square()) - surprise
        return distance, surprise, self.sums(self.scale.log()) - 0.5 * total.log()

    def log_prob(self, charge: Tensor) -> Tensor:
        distance, _, half_log_det = self._terms(charge)
        return -0.5 * distance - half_log_det - 0.5 * (self.sums.num_atoms - 1) * LOG_TWO_PI

    @cached_property
    def law(self) -> ConstrainedNormal:
        """All crystals as one law."""
        zero = self.loc.new_zeros(self.sums.neutral.num_groups)
        return ConstrainedNormal(self.loc, self.scale, self.sums.neutral, zero, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.law.mean

    @property
    def spread(self) -> Tensor:
        return self.law.stddev


@dataclass(frozen=True, eq=False)
class GivenStudentT(GivenNormal):
    """One multivariate Student-t law per crystal, given that its charges sum to zero.

    Attributes:
        df: degrees of freedom before the condition, a scalar.
    """

    df: Tensor

    def log_prob(self, charge: Tensor) -> Tensor:
        distance, surprise, half_log_det = self._terms(charge)
        count, spread = self.sums.num_atoms, self.df + surprise
        half_total = 0.5 * (self.df + count)
        return (
            torch.lgamma(half_total)
            - torch.lgamma(0.5 * (self.df + 1))
            - 0.5 * (count - 1) * (math.pi * spread).log()
            - half_log_det
            - half_total * torch.log1p(distance / spread)
        )

    @property
    def spread(self) -> Tensor:
        _, surprise, _ = self._terms(self.loc)
        factor = ((self.df + surprise) / (self.df + 1)).sqrt()
        return super().spread * self.sums.spread(factor)

    @property
    def marginal_df(self) -> Tensor:
        return self.df + 1


@dataclass(frozen=True, eq=False)
class GivenCopies(GivenStudentT):
    """The Student-t law of charges whose symmetric copies share an error.

    Atoms of a class get one prediction, so they share its error; their own deviations from the mean
    charge of the class are far smaller. The squared scale matrix of m atoms of a class has the
    eigenvalue ``m scale^2`` along their mean and ``within^2`` across it.

    Attributes:
        loc, scale: of the mean charge of the atom's class.
        within: ``(a,)`` scale of the deviations from that mean.
        copies: ``(a,)`` class of every atom.
    """

    within: Tensor
    copies: Tensor

    @cached_property
    def _size(self) -> Tensor:
        """``(a,)`` number of atoms in the atom's class."""
        return torch.bincount(self.copies).double()[self.copies]

    def _terms(self, charge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size, variance = self._size, self.scale.square()
        total = charge.new_zeros(int(self.copies.max()) + 1).index_add(0, self.copies, charge)
        centre = total[self.copies] / size
        along = ((centre - self.loc) / self.scale).square() / size
        across = ((charge - centre) / self.within).square()
        log_det = (size * variance).log() / size + (1 - 1 / size) * self.within.square().log()
        of_sum = self.sums(size * variance)
        surprise = self.sums(self.loc).square() / of_sum
        half_log_det = 0.5 * (self.sums(log_det) - of_sum.log())
        return self.sums(along + across) - surprise, surprise, half_log_det

    @property
    def _gain(self) -> Tensor:
        """``(a,)`` by how much a charge moves per unit that the sum misses."""
        weight = self._size * self.scale.square()
        return weight / self.sums.spread(self.sums(weight))

    @property
    def mean(self) -> Tensor:
        return self.loc - self._gain * self.sums.spread(self.sums(self.loc))

    @property
    def spread(self) -> Tensor:
        _, surprise, _ = self._terms(self.loc)
        factor = ((self.df + surprise) / (self.df + 1)).sqrt()
        size, shared = self._size, self.scale.square()
        taken = self._gain * size * shared
        own = self.within.square() * (1 - 1 / size)
        return (shared + own - taken).sqrt() * self.sums.spread(factor)
