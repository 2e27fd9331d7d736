"""What the methods make of a network's locations and scales: a loss, and a law of the charges."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from constrained_core import GroupSum
from experiments.charges.laws import (
    CompletedNormal,
    CrystalLaw,
    GivenCopies,
    GivenNormal,
    GivenStudentT,
    ProjectedNormal,
    Sums,
)
from pyro_constrained import ConstrainedNormal
from rivals import layers_torch

__all__ = ["ELEMENT_MEAN", "METHODS", "TRAININGS", "Guess", "LawOf", "Method", "unbound"]

PENALTY = 0.1
"""Weight of the soft penalty and of the semantic loss beside the error of an atom."""


@dataclass(frozen=True, eq=False)
class Guess:
    """What a network says of the a atoms of G crystals.

    Attributes:
        loc, scale: ``(a,)`` float64, e.
        df: degrees of freedom, a scalar; of Student-t laws.
        charge: ``(a,)`` the truth.
        sums: over crystals.
        last: ``(G,)`` last atom of each crystal in the file.
        least_sure: ``(G,)`` the atom of each crystal whose element varies most in charge.
        within: ``(a,)`` scale of the differences between atoms of a class; of ``GivenCopies``.
        copies: ``(a,)`` class of every atom.
    """

    loc: Tensor
    scale: Tensor
    df: Tensor
    charge: Tensor
    sums: Sums
    last: Tensor
    least_sure: Tensor
    within: Tensor
    copies: Tensor

    @property
    def neutral(self) -> tuple[GroupSum, Tensor]:
        """A and k."""
        return self.sums.neutral, self.loc.new_zeros(self.sums.neutral.num_groups)

    def law(self, gradient_estimator: str = "pathwise") -> ConstrainedNormal:
        """Independent normal charges given that those of each crystal sum to zero."""
        return ConstrainedNormal(
            self.loc,
            self.scale,
            *self.neutral,
            gradient_estimator=gradient_estimator,
            validate_args=False,
        )

    def error(self, point: Tensor) -> Tensor:
        """Mean absolute error of an atom."""
        return (point - self.charge).abs().mean()


Loss = Callable[[Guess], Tensor]
LawOf = Callable[[Guess], CrystalLaw]


def _unconstrained(guess: Guess) -> Tensor:
    return guess.error(guess.loc)


def _soft_penalty(guess: Guess) -> Tensor:
    penalty = layers_torch.soft_penalty(guess.loc, *guess.neutral).sum() / len(guess.loc)
    return guess.error(guess.loc) + PENALTY * penalty


def _semantic_loss(guess: Guess) -> Tensor:
    penalty = layers_torch.semantic_loss(guess.loc, guess.scale, *guess.neutral) / len(guess.loc)
    return guess.error(guess.loc) + PENALTY * penalty


def _projection_layer(guess: Guess) -> Tensor:
    return guess.error(layers_torch.projected(guess.loc, *guess.neutral))


def _variable_elimination(guess: Guess) -> Tensor:
    return guess.error(layers_torch.complete(guess.loc, *guess.neutral, guess.last))


def _constraint_layer(guess: Guess) -> Tensor:
    return guess.error(layers_torch.complete(guess.loc, *guess.neutral, guess.least_sure))


def _pathwise(guess: Guess) -> Tensor:
    return guess.error(guess.law().rsample())


def _marginal_expectation(guess: Guess) -> Tensor:
    return guess.error(guess.law("marginal_expectation").rsample())


def _expected_loss(guess: Guess) -> Tensor:
    return guess.law().expected_l1(guess.charge).mean()


def _likelihood(guess: Guess) -> Tensor:
    return -guess.law().log_prob(guess.charge) / len(guess.loc)


def _student_t_likelihood(guess: Guess) -> Tensor:
    return -_given_student_t(guess).log_prob(guess.charge) / len(guess.loc)


def unbound(guess: Guess) -> CrystalLaw:
    """Independent normal charges that need not sum to zero."""
    return CompletedNormal(guess.loc, guess.scale, guess.sums, guess.last, is_completed=False)


def _projected(guess: Guess) -> CrystalLaw:
    return ProjectedNormal(guess.loc, guess.scale, guess.sums)


def _eliminated(guess: Guess) -> CrystalLaw:
    return CompletedNormal(guess.loc, guess.scale, guess.sums, guess.last)


def _overwritten(guess: Guess) -> CrystalLaw:
    return CompletedNormal(guess.loc, guess.scale, guess.sums, guess.least_sure)


def _given_normal(guess: Guess) -> CrystalLaw:
    return GivenNormal(guess.loc, guess.scale, guess.sums)


def _given_student_t(guess: Guess) -> CrystalLaw:
    return GivenStudentT(guess.loc, guess.scale, guess.sums, guess.df)


def _given_copies(guess: Guess) -> CrystalLaw:
    return GivenCopies(guess.loc, guess.scale, guess.sums, guess.df, guess.within, guess.copies)


TRAININGS: dict[str, Loss] = {
    "unconstrained": _unconstrained,
    "soft penalty": _soft_penalty,
    "semantic loss": _semantic_loss,
    "projection layer": _projection_layer,
    "variable elimination": _variable_elimination,
    "constraint layer": _constraint_layer,
    "ours, pathwise": _pathwise,
    "ours, marginal expectation": _marginal_expectation,
    "ours, expected loss": _expected_loss,
    "ours, likelihood": _likelihood,
    "ours, likelihood (Student-t)": _student_t_likelihood,
}
"""Name of a training -> its loss per atom."""


@dataclass(frozen=True)
class Method:
    """A line of the table.

    Attributes:
        training: the training whose networks it uses.
        law: what it makes of their locations and scales; its mean is the prediction.
        fitted_law: the law whose scales are fitted afterwards around that prediction.
        has_trained_scale: whether the training says anything about scales.
        starts_with_fit: whether scales are fitted first, so that ``law`` can share a miss by them.
    """

    training: str
    law: LawOf
    fitted_law: LawOf
    has_trained_scale: bool = False
    starts_with_fit: bool = False


ELEMENT_MEAN = "element mean"
"""Needs no training."""

METHODS: dict[str, Method] = {
    ELEMENT_MEAN: Method(ELEMENT_MEAN, _projected, _projected, True),
    "unconstrained": Method("unconstrained", unbound, unbound),
    "soft penalty": Method("soft penalty", unbound, unbound),
    "semantic loss": Method("semantic loss", unbound, unbound, True),
    "projection after training": Method("unconstrained", _projected, _projected),
    "projection after training, Student-t law fitted": Method(
        "unconstrained", _projected, _given_student_t
    ),
    "projection after training, law of copies fitted": Method(
        "unconstrained", _projected, _given_copies
    ),
    "variance correction": Method("unconstrained", _given_normal, _given_normal, False, True),
    "projection layer": Method("projection layer", _projected, _projected),
    "variable elimination": Method("variable elimination", _eliminated, _eliminated),
    "constraint layer": Method("constraint layer", _overwritten, _overwritten),
    "ours, pathwise": Method("ours, pathwise", _given_normal, _given_normal, True),
    "ours, marginal expectation": Method(
        "ours, marginal expectation", _given_normal, _given_normal, True
    ),
    "ours, expected loss": Method("ours, expected loss", _given_normal, _given_normal, True),
    "ours, expected loss, Student-t law fitted": Method(
        "ours, expected loss", _given_normal, _given_student_t
    ),
    "ours, expected loss, law of copies fitted": Method(
        "ours, expected loss", _given_normal, _given_copies
    ),
    "ours, likelihood": Method("ours, likelihood", _given_normal, _given_normal, True),
    "ours, likelihood (Student-t)": Method(
        "ours, likelihood (Student-t)", _given_student_t, _given_student_t, True
    ),
}
"""Name of a line -> method. That of "variance correction" (Raza et al. 2020) spreads what a crystal
misses in proportion to the variances, which are fitted to the unconstrained errors."""
