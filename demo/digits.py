"""What both demos share and no framework is needed for: data, sensor, table, picture."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from constrained_core import GroupSum

SIDE = 8
NUM_PIXELS = SIDE * SIDE
GREY_LEVELS = 17
"""The pixels of scikit-learn's digits are the integers 0, ..., 16."""

_row, _column = np.divmod(np.arange(NUM_PIXELS), SIDE)
SENSOR = GroupSum(index=2 * (_row // 4) + _column // 4, num_groups=4)
"""The law: a sensor of 2 x 2 cells, each of which reads the sum of a block of 4 x 4 pixels."""

SENSOR_MATRIX = SENSOR.to_dense()
"""The same as a matrix A, 4 x 64."""

FOOTNOTES = """\
Log-likelihood: nats per held-out image, of x given A x = k, as a density on the
  60-dimensional subspace for all three, so that they can be compared; higher is better.
* The unconstrained VAE's density conditioned on the law afterwards: what it would be worth
  if its draws obeyed. They do not: its own density is one on R^64, under which the subspace
  has probability zero.
Reconstruction error: root mean square over pixels in [0, 1], decoder mean against image.
Violation: largest |A x - k| of all draws; k is between 0 and 16."""


@dataclass(frozen=True)
class Settings:
    """How long to train and how many draws to score with."""

    epochs: int = 260
    batch_size: int = 128
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    num_held_out: int = 400
    encoder_draws: int = 200
    prior_draws: int = 1000
    seed: int = 0

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(self, epochs=3, num_held_out=40, encoder_draws=20, prior_draws=20)


@dataclass(frozen=True)
class Split:
    """Digits to train on, as integers, and held-out ones, as reals; each row has 64 pixels."""

    train: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class Result:
    """How one model does on the held-out digits.

    Attributes:
        log_likelihood: mean over images, density on the subspace.
        reconstruction_error: root mean square over pixels.
        reconstructions: ``(images, 64)`` draws given the code of each image.
        samples: ``(images, 64)`` draws given only what the sensor reads of each image.
        violation: largest |A x - k| of all these draws.
    """

    log_likelihood: float
    reconstruction_error: float
    reconstructions: np.ndarray
    samples: np.ndarray
    violation: float


def parse_arguments(backend: str, argv: list[str] | None) -> tuple[Settings, Path]:
    """Settings and where the picture goes, from the command line."""
    parser = argparse.ArgumentParser(description=f"A VAE under a linear law, in {backend}.")
    parser.add_argument("--short", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--picture", type=Path, default=Path("outputs") / f"digits_vae_{backend.lower()}.png"
    )
    arguments = parser.parse_args(argv)
    settings = Settings(seed=arguments.seed)
    return settings.shortened() if arguments.short else settings, arguments.picture


def load_split(settings: Settings) -> Split:
    """The same split and the same held-out reals for every model and both backends.

    A held-out image gets its dequantisation noise once, here; a training image gets fresh noise
    at every step, from the framework.
    """
    digits = load_digits()
    train, held_out = train_test_split(
        digits.data, test_size=400, stratify=digits.target, random_state=settings.seed
    )
    noise = np.random.default_rng(settings.seed).uniform(size=held_out.shape)
    return Split(train, ((held_out + noise) / GREY_LEVELS)[: settings.num_held_out])


def violations(images: np.ndarray, readings: np.ndarray) -> np.ndarray:
    """Largest |A x - k| of each image, computed in double precision."""
    sums = np.asarray(images, dtype=np.float64) @ SENSOR_MATRIX.T
    return np.abs(sums - readings).max(-1)


@contextmanager
def training_progress(name: str, epochs: int) -> Iterator[Callable[[float], None]]:
    """A progress bar; call what it gives with the ELBO after each epoch."""
    columns = [
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("epoch {task.completed:>3}/{task.total}   ELBO {task.fields[elbo]:7.2f}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=epochs, elbo=float("nan"))
        yield lambda elbo: progress.update(task, advance=1, elbo=elbo)


def print_table(backend: str, results: dict[str, Result]) -> None:
    """The table and how to read it."""
    table = Table(title=f"Held-out digits given four block sums ({backend})")
    table.add_column("VAE")
    for heading in ("log-likelihood", "reconstruction error", "largest violation"):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        mark = "*" if name == "unconstrained" else " "
        table.add_row(
            name,
            f"{result.log_likelihood:.2f}{mark}",
            f"{result.reconstruction_error:.4f}",
            f"{result.violation:.1e}",
        )
    console = Console()
    console.print(table)
    console.print(FOOTNOTES, highlight=False, soft_wrap=True)


def save_picture(
    path: Path, images: np.ndarray, readings: np.ndarray, results: dict[str, Result]
) -> None:
    """Sensor readings, digits, and what each model makes of them, violations written below."""
    chosen = np.linspace(0, 39, 6).astype(int)  # six different digits
    coarse = readings[:, SENSOR.index] / 16  # each pixel shows the mean of its block
    plain = {"sensor reads": coarse, "real digit": images}
    num_rows, num_columns = len(plain) + len(results), len(chosen)
    figure = Figure(figsize=(12, 5.7), dpi=100, layout="constrained")
    widths = [1] * num_columns + [0.2] + [1] * num_columns
    grid = figure.subplots(num_rows, len(widths), gridspec_kw={"width_ratios": widths})
    for axis in grid[:, num_columns]:
        axis.set_axis_off()
    halves = {"reconstructions": grid[:, :num_columns], "samples": grid[:, num_columns + 1 :]}
    for kind, half in halves.items():
        drawn = {name: getattr(result, kind) for name, result in results.items()}
        for axes, (name, shown) in zip(half, (plain | drawn).items(), strict=True):
            gaps = violations(shown, readings)[chosen] if name in drawn else None
            _fill_row(axes, shown[chosen], gaps)
    for row, name in zip(grid, [*plain, *results], strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    titles = {
        "reconstructions": "reconstructions",
        "samples": "new draws, from the sensor's reading alone",
    }
    for kind, title in titles.items():
        label = halves[kind][0, 0].annotate(title, (0, 1.15), xycoords="axes fraction", fontsize=12)
        label.set_in_layout(False)  # it is wider than its column, which must not grow to hold it
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.95))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    Console().print(f"picture: {path}", highlight=False, soft_wrap=True)


def _fill_row(axes: np.ndarray, images: np.ndarray, gaps: np.ndarray | None) -> None:
    for i, (axis, image) in enumerate(zip(axes, images, strict=True)):
        axis.imshow(image.reshape(SIDE, SIDE), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        if gaps is not None:
            wrong = gaps[i] > 1e-4
            text = f"off by {gaps[i]:.2f}" if wrong else f"off by {gaps[i]:.0e}"
            axis.set_xlabel(text, fontsize=8, color="firebrick" if wrong else "seagreen")
