"""A further loss that is fed by draws: a classifier that has to read the class from the counts.

It is another network than the critic that judges the images, and is fixed while decoders train.
"""

from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiments.counts.network import layers
from experiments.counts.photons import Photons
from experiments.counts.settings import Settings
from pyro_constrained import ConstrainedPoisson

__all__ = ["ReaderLoss", "marginal", "score_function", "straight_through", "trained_reader"]

ReaderLoss = Callable[[Tensor], Tensor]
"""``(*batch, n)`` counts to ``(*batch,)`` losses."""

NUM_CLASSES = 10


def trained_reader(photons: Photons, settings: Settings) -> nn.Module:
    """``(*batch, 10)`` logits of counts; the same for all methods and seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = layers(photons.train.shape[-1], settings.hidden, NUM_CLASSES)
        optimiser = torch.optim.Adam(reader.parameters(), settings.learning_rate)
        for _ in range(settings.reader_steps):
            rows = torch.randint(len(photons.train), (settings.batch_size,))
            logits = reader(photons.train[rows] / settings.exposure)
            loss = cross_entropy(logits, photons.train_labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return reader.requires_grad_(False).eval()


# Each gives ``(batch,)`` losses of a draw; what differs is the gradient with respect to the rates.


def straight_through(given: TorchDistribution, rate: Tensor, loss: ReaderLoss) -> Tensor:
    """As if the draw were the rates.

    References:
        Bengio, Leonard, Courville (2013), *Estimating or propagating gradients through stochastic
        neurons for conditional computation*.
    """
    return loss(given.sample() + (rate - rate.detach()))


def marginal(given: ConstrainedPoisson, rate: Tensor, loss: ReaderLoss) -> Tensor:
    """As if the draw were the mean E[x | A x = k]."""
    return loss(given.rsample())


def score_function(given: TorchDistribution, rate: Tensor, loss: ReaderLoss) -> Tensor:
    """No bias: (loss - baseline) d log p(draw); the baseline is the mean loss of the others."""
    draw = given.sample()
    found = loss(draw).detach()
    others = (found.sum() - found) / max(len(found) - 1, 1)
    log_mass = given.log_prob(draw)
    return found + (found - others) * (log_mass - log_mass.detach())
