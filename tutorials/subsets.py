"""What both exactly-k tutorials share and needs no framework: truth, data, tables, picture."""

import argparse
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rivals.quality import Quality

NUM_ITEMS, SUBSET_SIZE = 10, 5
CODE_BITS, CODE_ONES = 16, 8
NUM_PIXELS = 64

ESTIMATOR_NOTES = """\
Cosine distances (1 - cosine; 0 is the same direction, 1 a right angle) of 5-of-10 gradients, mean
and standard deviation over the seeds:
  bias      of the mean of all estimates from the enumerated gradient
  variance  of single estimates from their own mean, averaged
  error     of single estimates from the enumerated gradient, averaged
Relative bias: |mean of the estimates - gradient| / |gradient|; it sees a wrong length too. Even an
unbiased estimator has some, from a finite number of draws."""

VAE_NOTES = """\
Both figures are nats per held-out image and exact: sums over all codes. Higher is better.
  log-likelihood  log p(image)
  ELBO            its bound by the encoder"""


@dataclass(frozen=True)
class Settings:
    """How many draws to judge estimators by, and how long to train the autoencoder."""

    num_draws: int = 10_000
    num_seeds: int = 10
    epochs: int = 150
    batch_size: int = 127
    learning_rate: float = 3e-3
    num_held_out: int = 400
    seed: int = 0

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(self, num_draws=1000, num_seeds=2, epochs=2, num_held_out=20)


class Problem(NamedTuple):
    """Loss E |z - target|^2 of an exactly-5-of-10 Bernoulli z with these logits."""

    logits: np.ndarray
    target: np.ndarray

    @classmethod
    def draw(cls, seed: int) -> "Problem":
        logits, target = np.random.default_rng(seed).normal(size=(2, NUM_ITEMS))
        return cls(logits, target)

    def exact_gradient(self) -> np.ndarray:
        """``(10,)`` gradient of the loss in the logits: the sum over all 252 subsets."""
        chosen = list(combinations(range(NUM_ITEMS), SUBSET_SIZE))
        subsets = np.zeros((len(chosen), NUM_ITEMS))
        np.put_along_axis(subsets, np.array(chosen), 1.0, axis=1)
        probability = softmax(subsets @ self.logits)
        losses = np.square(subsets - self.target).sum(-1)
        return (probability * (losses - probability @ losses)) @ subsets


@dataclass(frozen=True)
class Trained:
    """A trained autoencoder, judged.

    Attributes:
        curve: ``(epochs,)`` training ELBO, one draw per image.
        log_likelihood, elbo: held out, per image.
        seconds: of training.
    """

    curve: np.ndarray
    log_likelihood: float
    elbo: float
    seconds: float


class Split(NamedTuple):
    """Black-and-white digits, rows of 64 pixels."""

    train: np.ndarray
    held_out: np.ndarray


def parse_arguments(backend: str, argv: list[str] | None) -> tuple[Settings, Path]:
    """Settings and where the picture goes, from the command line."""
    parser = argparse.ArgumentParser(description=f"Subsets of exactly k, in {backend}.")
    parser.add_argument("--short", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    path = Path("outputs") / f"exactly_k_{backend.lower()}.png"
    parser.add_argument("--picture", type=Path, default=path)
    arguments = parser.parse_args(argv)
    settings = Settings(seed=arguments.seed)
    return settings.shortened() if arguments.short else settings, arguments.picture


def load_split(settings: Settings) -> Split:
    """The same split for all models and both backends; a pixel is ink from half of full scale."""
    digits = load_digits()
    train, held_out = train_test_split(
        (digits.data >= 8).astype(float),
        test_size=400,
        stratify=digits.target,
        random_state=settings.seed,
    )
    return Split(train, held_out[: settings.num_held_out])


def judge(
    images: np.ndarray, codes: np.ndarray, pixel_logits: np.ndarray, code_log_probs: np.ndarray
) -> tuple[float, float]:
    """Exact log-likelihood and ELBO per image under a uniform prior of the codes.

    Args:
        images: ``(images, 64)`` of zeros and ones.
        codes: ``(codes, 16)``, every one there is.
        pixel_logits: ``(codes, 64)`` of the decoder.
        code_log_probs: ``(codes, images)`` log q(z | x) of the encoder.
    """
    joint = pixel_logits @ images.T - np.logaddexp(0.0, pixel_logits).sum(-1, keepdims=True)
    joint = joint - np.log(len(codes))
    elbo = (np.exp(code_log_probs) * (joint - code_log_probs)).sum(0)
    return float(logsumexp(joint, axis=0).mean()), float(elbo.mean())


def print_tables(
    backend: str, qualities: dict[str, list[Quality]], trained: dict[str, Trained]
) -> None:
    """Both tables and how to read them."""
    console = Console()
    title = f"Gradients of an exactly-{SUBSET_SIZE}-of-{NUM_ITEMS} Bernoulli ({backend})"
    table = Table("estimator", title=title)
    for heading in Quality._fields:
        table.add_column(heading.replace("_", "\n"), justify="right")
    for name, seeds in qualities.items():
        means, spreads = np.mean(seeds, 0), np.std(seeds, 0)
        cells = [f"{m:.3f} ± {s:.2f}" for m, s in zip(means[:3], spreads[:3], strict=True)]
        table.add_row(name, *cells, f"{means[3]:.2f}")
    console.print(table)
    console.print(ESTIMATOR_NOTES, highlight=False, soft_wrap=True)

    title = f"Digits coded by {CODE_ONES} of {CODE_BITS} bits ({backend})"
    table = Table("gradient of the encoder", title=title)
    for heading in ("log-likelihood", "ELBO", "seconds"):
        table.add_column(heading, justify="right")
    for name, model in trained.items():
        cells = f"{model.log_likelihood:.2f}", f"{model.elbo:.2f}", f"{model.seconds:.0f}"
        table.add_row(name, *cells)
    console.print(table)
    console.print(VAE_NOTES, highlight=False, soft_wrap=True)


def save_picture(
    path: Path, qualities: dict[str, list[Quality]], trained: dict[str, Trained]
) -> None:
    """Bars of bias, variance and error; learning curves of the autoencoders."""
    figure = Figure(figsize=(13, 4), dpi=100, layout="constrained")
    *bars, curves = figure.subplots(1, 4, gridspec_kw={"width_ratios": [1, 1, 1, 2]})
    names = list(qualities)[::-1]
    figures = np.array([qualities[name] for name in names])
    for column, (axis, heading) in enumerate(zip(bars, Quality._fields[:3], strict=True)):
        values = figures[..., column]
        axis.barh(names, values.mean(-1), xerr=values.std(-1), color="steelblue")
        axis.set(title=f"{heading} (cosine distance)", xlim=(0, None))
        axis.tick_params(labelleft=column == 0)
    for name, model in trained.items():
        curves.plot(np.arange(1, len(model.curve) + 1), model.curve, label=name)
    curves.set(title="exactly-k autoencoder", xlabel="epoch", ylabel="training ELBO, nats")
    curves.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    Console().print(f"picture: {path}", highlight=False, soft_wrap=True)
