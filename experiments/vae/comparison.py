"""The methods that are compared."""

from collections.abc import Callable

from experiments.vae.cures import (
    Completion,
    ProjectionAfterTraining,
    ProjectionLayer,
    SemanticLoss,
    SoftPenalty,
)
from experiments.vae.methods import LowRank, Method
from experiments.vae.ours import (
    ExpectedLoss,
    JointStart,
    Likelihood,
    LikelihoodAndConstraint,
    LowRankLikelihood,
    MarginalExpectation,
    Pathwise,
)
from experiments.vae.settings import Settings

Maker = Callable[[int, int, Settings], Method]
"""From the side of images and of blocks."""


def with_ladder(make: type[Method]) -> Maker:
    """The method with two layers of codes."""
    return lambda side, block, settings: make(side, block, settings, has_ladder=True)


METHODS: dict[str, Maker] = {
    "plain": Method,
    "projection after training": ProjectionAfterTraining,
    "soft penalty": SoftPenalty,
    "semantic loss": SemanticLoss,
    "projection layer": ProjectionLayer,
    "constrained layer": Completion,
    "ours, pathwise": Pathwise,
    "ours, marginal expectation": MarginalExpectation,
    "ours, expected loss": ExpectedLoss,
    "ours, likelihood": Likelihood,
    "ours, likelihood and constraint": LikelihoodAndConstraint,
    "ours, joint start": JointStart,
    "low rank, plain": LowRank,
    "low rank, ours, likelihood": LowRankLikelihood,
    "ladder, plain": with_ladder(Method),
    "ladder, projection layer": with_ladder(ProjectionLayer),
    "ladder, ours, likelihood": with_ladder(Likelihood),
}

FAMILIES = ("low rank", "ladder")
"""Methods of a family are timed against its plain one."""


def plain_of(name: str) -> str:
    """The plain method of the family of a method."""
    return next((f"{family}, plain" for family in FAMILIES if name.startswith(family)), "plain")
