"""The ways of training a decoder, and their common loop."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.distributions import Distribution
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

Estimator = Callable[[Law, Tensor, Tensor, ReaderLoss], Tensor]


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
    """

    law: type[Law]
    is_penalised: bool = False
    estimator: Estimator | None = None

    def loss(self, vae: VAE, x: Tensor, labels: Tensor, place: Workplace) -> Tensor:
        """``(batch,)`` losses of one draw of the code each."""
        law, settings = self.law(place.detector), place.settings
        k = place.detector.sums(x)
        q = vae.encode(x, k)
        z = q.rsample()
        rate = vae.decode(z, k)
        loss = negative_elbo(law, q, z, rate, x, k)
        if self.is_penalised:
            missed = soft_penalty(rate, place.detector.A, k).sum(-1)
            loss = loss + settings.penalty_weight * missed
        if self.estimator is not None:
            read = self.estimator(law, rate, k, place.reading(labels))
            loss = loss + settings.reader_weight * read
        return loss


TRAININGS = {
    "unconstrained": Training(Free),
    "soft penalty": Training(Free, is_penalised=True),
    "ours": Training(Constrained),
    "straight-through, reader": Training(Free, estimator=estimators.straight_through),
    "score function, reader": Training(Constrained, estimator=estimators.score_function),
    "marginal expectation, reader": Training(Constrained, estimator=estimators.marginal),
}


def negative_elbo(
    law: Law, q: Distribution, z: Tensor, rate: Tensor, x: Tensor, k: Tensor
) -> Tensor:
    """``(batch,)`` log q(z | x, k) - log p(z) - log p(x | z, k)."""
    divergence = q.log_prob(z) - prior(z.shape[-1]).log_prob(z)
    return divergence - law.given(rate, k).log_prob(x)


def train(
    training: Training, place: Workplace, seed: int, advance: Callable[[], None]
) -> tuple[VAE, float]:
    """A network, and the processor seconds of a thousand steps.

    Raises:
        FloatingPointError: the last loss is not finite.
    """
    settings, photons = place.settings, place.photons
    torch.manual_seed(seed)
    vae = VAE(place.detector, settings.exposure, settings.code_size, settings.hidden)
    optimiser = torch.optim.Adam(vae.parameters(), settings.learning_rate)
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
