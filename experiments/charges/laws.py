"""Laws of the charges of many crystals at once: their density, intervals of each atom.

Laws given the sums come from ``pyro_constrained``: a ``GroupSum`` holds all crystals of a batch.
Written out here are what rivals make of normal charges, and what the package has no law of, copies
that share an error. All densities are those of n - 1 charges of each crystal, whichever: the last
follows. That is the density on the subspace times the square root of n.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from constrained_core import GroupSum
from pyro_constrained import ConstrainedMultivariateStudentT, ConstrainedNormal

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
        log_area: log area of the subspaces of all crystals per area in n - 1 charges of each.
    """

    def __init__(self, neutral: GroupSum) -> None:
        self.neutral, self.crystal = neutral, torch.tensor(neutral.index)
        self.num_atoms = torch.bincount(self.crystal, minlength=neutral.num_groups).double()
        self.log_area = 0.5 * self.num_atoms.log().sum()

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
        """Log density of n - 1 charges of each crystal, over all crystals; a scalar."""

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
        return each.sum() - each[self.dependent].sum()

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
        return sums.log_area - (0.5 * distance + normaliser).sum()

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

    @cached_property
    def law(self) -> ConstrainedNormal:
        """All crystals as one law."""
        zero = torch.zeros_like(self.sums.num_atoms)
        return ConstrainedNormal(self.loc, self.scale, self.sums.neutral, zero, validate_args=False)

    def log_prob(self, charge: Tensor) -> Tensor:
        return self.law.log_prob(charge) + self.sums.log_area

    @property
    def mean(self) -> Tensor:
        return self.law.mean

    @property
    def spread(self) -> Tensor:
        return self.law.stddev


@dataclass(frozen=True, eq=False)
class StudentT(CrystalLaw):
    """One multivariate Student-t law per crystal, given that its charges sum to zero.

    Attributes:
        df: degrees of freedom before the condition, a scalar.
    """

    df: Tensor

    @property
    @abstractmethod
    def _variance(self) -> Tensor:
        """``(a,)`` what each charge adds to the squared scale of the sum."""

    @cached_property
    def _gain(self) -> Tensor:
        """``(a,)`` by how much a charge moves per unit that the sum misses."""
        return self._variance / self.sums.spread(self.sums(self._variance))

    @cached_property
    def _surprise(self) -> Tensor:
        """``(G,)`` of a sum of zero."""
        return self.sums(self.loc).square() / self.sums(self._variance)

    def _widened(self, spread: Tensor) -> Tensor:
        """``(a,)`` scales of the marginal laws, from those of normal charges."""
        return spread * self.sums.spread(((self.df + self._surprise) / (self.df + 1)).sqrt())

    @property
    def marginal_df(self) -> Tensor:
        return self.df + 1


@dataclass(frozen=True, eq=False)
class GivenStudentT(StudentT):
    """That of independent scales."""

    @cached_property
    def law(self) -> ConstrainedMultivariateStudentT:
        """All crystals as one law."""
        return ConstrainedMultivariateStudentT(
            self.df,
            self.loc,
            A=self.sums.neutral,
            k=torch.zeros_like(self.sums.num_atoms),
            scale=self.scale,
            per_group=True,
            validate_args=False,
        )

    def log_prob(self, charge: Tensor) -> Tensor:
        return self.law.log_prob(charge) + self.sums.log_area

    @property
    def mean(self) -> Tensor:
        return self.law.mean

    @property
    def spread(self) -> Tensor:
        # The law tells a variance, which is infinite for df <= 1; the scale of an interval is not.
        return self._widened(GivenNormal(self.loc, self.scale, self.sums).spread)

    @property
    def _variance(self) -> Tensor:
        return self.scale.square()


@dataclass(frozen=True, eq=False)
class GivenCopies(StudentT):
    """That of charges whose symmetric copies share an error.

    Atoms of a class get one prediction, so they share its error; their own deviations from the mean
    charge of the class are far smaller. The squared scale matrix of m atoms of a class has the
    eigenvalue ``m scale^2`` along their mean and ``within^2`` across it.

    The density is written out, since the package's law per group takes a scale of each variable but
    no matrix: of n charges, with s the surprise of the sum and d the squared distance on the
    subspace, that of a t law with df + 1 degrees of freedom, whose squared scale is that of the
    normal law times (df + s) / (df + 1).

    Attributes:
        loc, scale: of the mean charge of the atom's class.
        within: ``(a,)`` scale of the deviations from that mean.
        copies: ``(a,)`` class of every atom.
    """

    within: Tensor
    copies: Tensor

    def log_prob(self, charge: Tensor) -> Tensor:
        count, spread = self.sums.num_atoms, self.df + self._surprise
        half_total = 0.5 * (self.df + count)
        each = (
            torch.lgamma(half_total)
            - torch.lgamma(0.5 * (self.df + 1))
            - 0.5 * (count - 1) * (math.pi * spread).log()
            - self._half_log_det
            - half_total * torch.log1p(self._distance(charge) / spread)
        )
        return each.sum()

    @property
    def mean(self) -> Tensor:
        return self.loc - self._gain * self.sums.spread(self.sums(self.loc))

    @property
    def spread(self) -> Tensor:
        shared, own = self.scale.square(), self.within.square() * (1 - 1 / self._size)
        return self._widened((shared + own - self._gain * self._variance).sqrt())

    @cached_property
    def _size(self) -> Tensor:
        """``(a,)`` number of atoms in the atom's class."""
        return torch.bincount(self.copies).double()[self.copies]

    @property
    def _variance(self) -> Tensor:
        return self._size * self.scale.square()

    def _distance(self, charge: Tensor) -> Tensor:
        total = charge.new_zeros(int(self.copies.max()) + 1).index_add(0, self.copies, charge)
        centre = total[self.copies] / self._size
        along = ((centre - self.loc) / self.scale).square() / self._size
        across = ((charge - centre) / self.within).square()
        return self.sums(along + across) - self._surprise

    @property
    def _half_log_det(self) -> Tensor:
        """``(G,)`` of the squared scale of n - 1 charges."""
        along = self._variance.log() / self._size
        across = (1 - 1 / self._size) * self.within.square().log()
        return 0.5 * (self.sums(along + across) - self.sums(self._variance).log())
