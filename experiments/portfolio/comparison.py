"""The methods that are compared."""

from collections.abc import Callable
from functools import partial

from experiments.portfolio.market import Law
from experiments.portfolio.methods import (
    Completion,
    EqualWeights,
    ExpectedLoss,
    LeastVariance,
    Likelihood,
    Method,
    Ours,
    ProjectionAfterTraining,
    ProjectionLayer,
    QuadraticProgramme,
    SemanticLoss,
    Sinkhorn,
    Softmax,
    SoftPenalty,
    Unconstrained,
)
from experiments.portfolio.settings import Settings

EQUAL = "equal weights"
"""What the others are compared with."""

METHODS: dict[str, Callable[[Law, Settings], Method]] = {
    EQUAL: EqualWeights,
    "unconstrained": Unconstrained,
    "soft penalty": SoftPenalty,
    "semantic loss": SemanticLoss,
    "softmax": Softmax,
    "projection after training": ProjectionAfterTraining,
    "projection layer": ProjectionLayer,
    "variable elimination": partial(Completion, from_the_end=False),
    "constraint layer": Completion,
    "Sinkhorn (LinSATNet)": Sinkhorn,
    "quadratic programme (cvxpylayers)": QuadraticProgramme,
    "ours, pathwise": Ours,
    "ours, marginal expectation": partial(Ours, estimator="marginal_expectation"),
    "ours, expected loss": ExpectedLoss,
    "ours, likelihood": Likelihood,
    "ours, nothing learned (least variance)": LeastVariance,
}
