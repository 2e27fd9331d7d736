"""How forecasts become weights, and what each method minimises."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from experiments.portfolio.market import Law
from experiments.portfolio.network import Forecast
from experiments.portfolio.settings import Settings
from pyro_constrained import ConstrainedMultivariateNormal
from rivals.layers_torch import (
    complete,
    last_of_each_row,
    projected,
    semantic_loss,
    squared_penalty,
)


def utility(weights: Tensor, outcome: Tensor, settings: Settings) -> Tensor:
    """``(decisions,)`` quadratic utility of the return of a holding."""
    gain = (weights * outcome).sum(-1)
    return gain - 0.5 * settings.risk_aversion * gain.square()


def unconstrained_optimum(forecast: Forecast, settings: Settings) -> Tensor:
    """``(decisions, n)`` Sigma^-1 mu / risk aversion: best weights without a law (Markowitz)."""
    solved = torch.cholesky_solve(forecast.mean[..., None], forecast.scale_tril)
    return solved[..., 0] / settings.risk_aversion


@dataclass(frozen=True)
class Method(ABC):
    """From a forecast to weights.

    Attributes:
        law: A w = k that the weights should obey.
        learns: whether the net is trained; one that is not forecasts a mean of zero and the
            covariance of the past, the same for all seeds.
    """

    law: Law
    settings: Settings
    learns: ClassVar[bool] = True

    @cached_property
    def A(self) -> Tensor:
        """``(sectors, n)`` the rows for the sectors: the budget follows from them."""
        return torch.as_tensor(self.law.A[1:])

    @cached_property
    def k(self) -> Tensor:
        return torch.as_tensor(self.law.k[1:])

    @abstractmethod
    def weights(self, forecast: Forecast) -> Tensor:
        """``(decisions, n)`` weights to trade."""

    def loss(self, forecast: Forecast, outcome: Tensor) -> Tensor:
        """``(decisions,)`` minus the utility."""
        return -utility(self.weights(forecast), outcome, self.settings)


@dataclass(frozen=True)
class Unconstrained(Method):
    """The unconstrained optimum; what it leaves or borrows earns nothing."""

    def weights(self, forecast: Forecast) -> Tensor:
        return unconstrained_optimum(forecast, self.settings)


@dataclass(frozen=True)
class SoftPenalty(Unconstrained):
    """The same; the loss has a multiple of the mean squared residual."""

    def loss(self, forecast: Forecast, outcome: Tensor) -> Tensor:
        residual = squared_penalty(self.weights(forecast), self.A, self.k).mean(-1)
        return super().loss(forecast, outcome) + self.settings.penalty_weight * residual


@dataclass(frozen=True)
class SemanticLoss(Unconstrained):
    """The same; the loss has minus the log density of A w at k, weights normal around w."""

    def loss(self, forecast: Forecast, outcome: Tensor) -> Tensor:
        weights = self.weights(forecast)
        scale = torch.full_like(weights, self.settings.draw_scale)
        surprise = semantic_loss(weights, scale, self.A, self.k)
        return super().loss(forecast, outcome) + self.settings.semantic_weight * surprise


@dataclass(frozen=True)
class Softmax(Method):
    """Softmax of the scores: long only, within the budget, not sector-neutral."""

    def weights(self, forecast: Forecast) -> Tensor:
        return forecast.score.softmax(-1)


@dataclass(frozen=True)
class Sinkhorn(Method):
    """Scores under positive linear constraints (LinSATNet of Wang et al. 2023): long only."""

    def weights(self, forecast: Forecast) -> Tensor:
        from LinSATNet import linsat_layer

        dtype = torch.get_default_dtype()  # the only one it works in
        score, A, k = (part.to(dtype) for part in (forecast.score, self.A, self.k))
        many = 10  # iterations; 100 leave the same residual
        weights = linsat_layer(score, E=A, f=k, tau=1.0, max_iter=many, no_warning=True)
        return weights.double()


@dataclass(frozen=True)
class ProjectionAfterTraining(Unconstrained):
    """The unconstrained optimum, moved to the nearest weights of the law when it is traded."""

    def weights(self, forecast: Forecast) -> Tensor:
        return projected(super().weights(forecast), self.A, self.k)

    def loss(self, forecast: Forecast, outcome: Tensor) -> Tensor:
        return -utility(super().weights(forecast), outcome, self.settings)


@dataclass(frozen=True)
class ProjectionLayer(Unconstrained):
    """The same, already while learning."""

    def weights(self, forecast: Forecast) -> Tensor:
        return projected(super().weights(forecast), self.A, self.k)


@dataclass(frozen=True)
class Completion(Unconstrained):
    """All but one asset of each sector from the unconstrained optimum; that one takes the rest."""

    from_the_end: bool = True

    @cached_property
    def dependent(self) -> Tensor:
        order = range(self.law.A.shape[1])
        chosen = last_of_each_row(self.law.A[1:], order if self.from_the_end else order[::-1])
        return torch.as_tensor(chosen)

    def weights(self, forecast: Forecast) -> Tensor:
        return complete(super().weights(forecast), self.A, self.k, self.dependent)


@dataclass(frozen=True)
class Ours(Method):
    """Weights ~ N(unconstrained optimum, Sigma^-1 up to a factor) given budget and neutrality.

    The conditional mean is the Markowitz portfolio among those that obey the law: of all w with
    A w = k it maximises w'mu - risk aversion / 2 w'Sigma w. The factor sets how far draws spread.
    """

    estimator: str = "pathwise"

    def weights_law(self, forecast: Forecast) -> ConstrainedMultivariateNormal:
        """The law of the weights; the redundant budget is left to the library."""
        variance = forecast.covariance.diagonal(dim1=-2, dim2=-1)
        spread = self.settings.draw_scale**2 * variance.mean()
        return ConstrainedMultivariateNormal(
            unconstrained_optimum(forecast, self.settings),
            precision_matrix=forecast.covariance / spread,
            A=torch.as_tensor(self.law.A),
            k=torch.as_tensor(self.law.k),
            gradient_estimator=self.estimator,
            validate_args=False,
        )

    def weights(self, forecast: Forecast) -> Tensor:
        return self.weights_law(forecast).mean

    def loss(self, forecast: Forecast, outcome: Tensor) -> Tensor:
        draw = self.weights_law(forecast).rsample()
        return -utility(draw, outcome, self.settings)


@dataclass(frozen=True)
class ExpectedLoss(Ours):
    """Minus the expected utility of a draw, exactly: that of the mean less the draw's variance."""

    def loss(self, forecast: Forecast, outcome: Tensor) -> Tensor:
        law = self.weights_law(forecast)
        variance = (outcome * (law.covariance @ outcome[..., None])[..., 0]).sum(-1)
        risk = 0.5 * self.settings.risk_aversion * variance
        return risk - utility(law.mean, outcome, self.settings)


@dataclass(frozen=True)
class Likelihood(Ours):
    """The forecast is learned by the likelihood of the returns; the law only makes the weights."""

    def loss(self, forecast: Forecast, outcome: Tensor) -> Tensor:
        law = torch.distributions.MultivariateNormal(
            forecast.mean, scale_tril=forecast.scale_tril, validate_args=False
        )
        return -law.log_prob(outcome) / outcome.shape[-1]


@dataclass(frozen=True)
class LeastVariance(Ours):
    """The least variance among weights that obey the law, by the covariance of the past."""

    learns = False


@dataclass(frozen=True)
class QuadraticProgramme(Likelihood):
    """The same forecast; the best weights that obey the law and are not negative."""

    @cached_property
    def layer(self) -> nn.Module:
        import cvxpy as cp
        from cvxpylayers.torch import CvxpyLayer

        n = self.law.A.shape[1]
        w, mean, root = cp.Variable(n), cp.Parameter(n), cp.Parameter((n, n))
        risk = 0.5 * self.settings.risk_aversion * cp.sum_squares(root @ w)
        obeys = [self.law.A[1:] @ w == self.law.k[1:], w >= 0]
        programme = cp.Problem(cp.Minimize(risk - mean @ w), obeys)
        return CvxpyLayer(programme, parameters=[mean, root], variables=[w])

    def weights(self, forecast: Forecast) -> Tensor:
        exactly = {"solve_method": "Clarabel"}
        return self.layer(forecast.mean, forecast.scale_tril.mT, solver_args=exactly)[0]


@dataclass(frozen=True)
class EqualWeights(Method):
    """The same weight for every asset; nothing is learned."""

    learns = False

    def weights(self, forecast: Forecast) -> Tensor:
        return torch.full_like(forecast.mean, 1 / forecast.mean.shape[-1])
