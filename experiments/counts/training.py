"""The ways of training a decoder, and their common loop."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.counts import reader as estimators
from experiments.counts.laws import Constrained, Free, Law
from experiments.counts.network import VAE, prior
from experiments.counts.photons import Detector, Photons
from experiments.counts.reader import ReaderLoss
from experiments.counts.settings import Settings
from rivals.layers_torch import soft_penalty

__all__ = ["TRAININGS", "Training", "Workplace", "negative_elbo", "train"]

Estimator = Callable[[TorchDistribution, Tensor, ReaderLoss], Tensor]


@dataclass(frozen=True)
class Workplace:
    """What trainings of one set under one law have in common.

    Attributes:
        photons: counts and classes.
        detector: tells the sums.
        reader: ``(*batch, 10)`` logits of ``(*batch, n)`` counts over the exposure.
    """

    photons: Photons
    detector: Detector
    reader: torch.nn.Module
    settings: Settings

    def reading(self, labels: Tensor) -> ReaderLoss:
        """Cross-entropy of the reader, ``(batch,)``, against the labels."""

        def loss(x: Tensor) -> Tensor:
            return cross_entropy(self.reader(x / self.settings.exposure), labels, reduction="none")

        return loss


@dataclass(frozen=True)
class Training:
    """A loss: negative ELBO under a law, with a penalty or a reader's loss added.

    Attributes:
        law: of the counts given the rates.
        is_penalised: whether the rates pay for missing the sums.
        estimator: of the gradient through a draw that the reader reads; without reader if None.
        is_scaled: whether the decoder starts from rates that are scaled by the sums.
    """

    law: type[Law]
    is_penalised: bool = False
    estimator: Estimator | None = None
    is_scaled: bool = True

    def loss(self, vae: VAE, x: Tensor, labels: Tensor, place: Workplace) -> Tensor:
        """``(batch,)`` losses of one draw of the code each."""
        settings = place.settings
        k = place.detector.sums(x)
        q = vae.encode(x, k)
        z = q.rsample()
        rate = vae.decode(z, k)
        given = self.law(place.detector).given(rate, k)
        loss = negative_elbo(given, q, z, x)
        if self.is_penalised:
            missed = soft_penalty(rate, place.detector.A, k).sum(-1)
            loss = loss + settings.penalty_weight * missed
        if self.estimator is not None:
            read = self.estimator(given, rate, place.reading(labels))
            loss = loss + settings.reader_weight * read
        return loss


TRAININGS = {
    "unconstrained": Training(Free),
    "unconstrained, not scaled": Training(Free, is_scaled=False),
    "soft penalty": Training(Free, is_penalised=True),
    "ours": Training(Constrained),
    "straight-through, reader": Training(Free, estimator=estimators.straight_through),
    "score function, reader": Training(Constrained, estimator=estimators.score_function),
    "marginal expectation, reader": Training(Constrained, estimator=estimators.marginal),
}


def negative_elbo(given: TorchDistribution, q: TorchDistribution, z: Tensor, x: Tensor) -> Tensor:
    """``(batch,)`` log q(z | x, k) - log p(z) - log p(x | z, k), the last by the law given z."""
    return q.log_prob(z) - prior(z.shape[-1]).log_prob(z) - given.log_prob(x)


def train(
    training: Training, place: Workplace, seed: int, advance: Callable[[], None]
) -> tuple[VAE, float]:
    """A network, and the processor seconds of a thousand steps.

    Raises:
        FloatingPointError: the last loss is not finite.
    """
    settings, photons = place.settings, place.photons
    torch.manual_seed(seed)
    sizes = settings.code_size, settings.hidden
    vae = VAE(place.detector, settings.exposure, *sizes, training.is_scaled)
    optimiser = torch.optim.Adam(vae.parameters(), settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    start = time.process_time()  # that of a clock would count other jobs
    for _ in range(settings.steps):
        rows = torch.randint(len(photons.train), (settings.batch_size,))
        loss = training.loss(vae, photons.train[rows], photons.train_labels[rows], place).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), settings.largest_gradient)
        optimiser.step()
        schedule.step()
        advance()
    if not loss.isfinite():
        raise FloatingPointError(f"expected a finite loss of {training}, got {loss.item()}")
    return vae.eval(), (time.process_time() - start) * 1000 / settings.steps
