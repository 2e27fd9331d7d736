"""A small net that forecasts the mean and the covariance of returns."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.portfolio.market import HORIZONS, Decisions

SMALL = 0.1
"""Forecast mean of a score of 1, in standard deviations of the return."""


class Known(NamedTuple):
    """What is known at some decisions, as tensors; see ``Decisions``."""

    features: Tensor
    volatility: Tensor
    correlation: Tensor

    @classmethod
    def of(cls, decisions: Decisions) -> "Known":
        parts = decisions.features, decisions.volatility, decisions.correlation
        return cls(*(torch.as_tensor(part) for part in parts))

    def take(self, rows: Tensor) -> "Known":
        """Some of the decisions."""
        return Known(*(part[rows] for part in self))


class Forecast(NamedTuple):
    """Law of the returns over the next holding.

    Attributes:
        score: ``(decisions, n)`` what the net says of each asset.
        mean: ``(decisions, n)``.
        scale_tril: ``(decisions, n, n)`` Cholesky factor of the covariance.
    """

    score: Tensor
    mean: Tensor
    scale_tril: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.scale_tril @ self.scale_tril.mT


class Forecaster(nn.Module):
    """The same small perceptron for every asset: a score and a factor of its volatility.

    It starts from knowing nothing: scores 0, the volatility of the past.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        last = nn.Linear(hidden, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(len(HORIZONS) + 1, hidden), nn.Tanh(), last)

    def forward(self, known: Known) -> Forecast:
        score, log_factor = self.layers(known.features).unbind(-1)
        scale = known.volatility * log_factor.exp()
        scale_tril = scale[..., None] * torch.linalg.cholesky(known.correlation)
        return Forecast(score, SMALL * score * scale, scale_tril)
