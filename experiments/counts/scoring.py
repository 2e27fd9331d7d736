"""Figures of merit of a trained decoder under a law of its counts."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.counts.laws import Law
from experiments.counts.network import VAE, prior
from experiments.counts.training import Workplace
from experiments.images.critic import Critic
from experiments.images.quality import largest_violation, score_images

__all__ = [
    "Drawn",
    "draw",
    "judge_real",
    "log_likelihood",
    "log_mass_of_sums",
    "log_terms",
    "score",
]

CHUNK = 20
"""Draws of codes at a time, so that memory stays small."""


class Drawn(NamedTuple):
    """Counts drawn for the sums of held-out images, ``(images, n)``.

    Attributes:
        copies: codes from the encoder, which sees the image.
        samples: codes from the prior, so that the sums are all that is known of the image.
    """

    copies: Tensor
    samples: Tensor


def _chunks(draws: int) -> Iterator[int]:
    """Numbers of draws that add up to all."""
    yield from (min(CHUNK, draws - done) for done in range(0, draws, CHUNK))


def log_mean_exp(values: Tensor) -> Tensor:
    """Log of the mean over the first dimension."""
    return values.logsumexp(0) - math.log(len(values))


def log_terms(law: Law, vae: VAE, x: Tensor, k: Tensor, draws: int) -> Tensor:
    """``(draws, images)`` log p(z) p(x | z, k) / q(z | x, k), z from the encoder."""
    q, found = vae.encode(x, k), []
    for number in _chunks(draws):
        z = q.sample((number,))
        log_weight = prior(z.shape[-1]).log_prob(z) - q.log_prob(z)
        found.append(log_weight + law.given(vae.decode(z, k), k).log_prob(x))
    return torch.cat(found)


def log_mass_of_sums(law: Law, vae: VAE, k: Tensor, draws: int) -> Tensor:
    """``(draws, images)`` log P(A x = k | z, k), z from the prior."""
    p, found = prior(vae.code_size), []
    for number in _chunks(draws):
        rate = vae.decode(p.sample((number, len(k))), k)
        found.append(law.log_mass_of_sums(rate, k))
    return torch.cat(found)


def _effective_share(log_values: Tensor) -> Tensor:
    """``(images,)`` which share of the draws carries the mean of the values."""
    log_share = 2 * log_values.logsumexp(0) - (2 * log_values).logsumexp(0)
    return log_share.exp() / len(log_values)


def log_likelihood(law: Law, vae: VAE, x: Tensor, place: Workplace) -> dict[str, float]:
    """Means over images of log P(x | A x = k) and of its bound by one code, in nats.

    A mass on the fiber, the same measure for all: p(x) / P(A x = k). The first is averaged over
    codes of the encoder by importance, the second over codes of the prior (where it depends on
    the code). Both are underestimated a little; where P(A x = k) < 1, that of it flatters.
    """
    settings, k = place.settings, place.detector.sums(x)
    terms = log_terms(law, vae, x, k, settings.encoder_draws)
    sums = log_mass_of_sums(law, vae, k, settings.prior_draws)
    of_sums = log_mean_exp(sums)
    return {
        "log_likelihood": (log_mean_exp(terms) - of_sums).mean().item(),
        "elbo": (terms.mean(0) - of_sums).mean().item(),
        "effective": _effective_share(sums).mean().item(),
        "doubling": (of_sums - log_mean_exp(sums[: len(sums) // 2])).mean().item(),
    }


def draw(law: Law, vae: VAE, x: Tensor, k: Tensor) -> Drawn:
    """One copy and one sample for each image."""
    copies = law.draw(vae.decode(vae.encode(x, k).sample(), k), k)
    codes = prior(vae.code_size).sample((len(x),))
    return Drawn(copies, law.draw(vae.decode(codes, k), k))


@torch.no_grad()
def score(
    law: Law, vae: VAE, place: Workplace, critic: Critic, seed: int
) -> tuple[dict[str, float], Drawn]:
    """All figures, and the draws that they are of; both depend on the seed only."""
    number = place.settings.num_scored
    x, rate = place.photons.test[:number], place.photons.test_rate[:number]
    k = place.detector.sums(x)
    torch.manual_seed(seed)  # the same codes for all laws, whatever random numbers their draws take
    figures = log_likelihood(law, vae, x, place) if law.has_mass else {}
    torch.manual_seed(seed)
    drawn = draw(law, vae, x, k)
    mean = law.given(vae.decode(vae.encode(x, k).mean, k), k).mean
    figures |= {
        "error": _root_mean_square(mean - x),
        "error_of_rate": _root_mean_square(mean - rate),
    }
    return figures | _judge(drawn, place, critic), drawn


@torch.no_grad()
def judge_real(place: Workplace, critic: Critic) -> dict[str, float]:
    """What the same measures say of real counts."""
    number = place.settings.num_scored
    x = place.photons.test[:number]
    others = place.photons.train[: len(x)]
    figures = _judge(Drawn(x, x), place, critic)
    labels = place.photons.test_labels[:number].numpy()
    real, other = ((part / place.settings.exposure).numpy() for part in (x, others))
    apart = score_images(critic, real, other, labels)
    return figures | {"fid": apart["fid"]}


def _judge(drawn: Drawn, place: Workplace, critic: Critic) -> dict[str, float]:
    """How good draws are, beside the images whose sums they were given."""
    number = place.settings.num_scored
    x, labels = place.photons.test[:number], place.photons.test_labels[:number]
    k = place.detector.sums(x).numpy()
    real, copies, samples = ((part / place.settings.exposure).numpy() for part in (x, *drawn))
    _, classes = critic.judge(copies)
    return {
        "violation": max(largest_violation(part.numpy(), place.detector.A, k) for part in drawn),
        "agreement_of_copies": float((classes == labels.numpy()).mean()),
        "reader_loss": place.reading(labels)(drawn.copies).mean().item(),
        **score_images(critic, real, samples, labels.numpy()),
    }


def _root_mean_square(values: Tensor) -> float:
    """Over all images and pixels, in photons."""
    return values.square().mean().sqrt().item()
