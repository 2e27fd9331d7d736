"""The methods that are compared: a network, and how images are drawn with it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from torch import Tensor

from experiments.diffusion.network import Model
from experiments.diffusion.samplers import renoised_steps, reversed_steps
from experiments.diffusion.settings import Settings

__all__ = ["LINES", "REFERENCE", "SAMPLING_ONLY", "SUBSPACE", "Given", "Line", "lines_of"]

SAMPLING_ONLY = "ours, at sampling only (= image projected at each step)"
SUBSPACE = "ours, on the subspace"
REFERENCE = "training images at random", "none"
"""Real images, but with other sums: what a perfect generator that knows no sums would give."""


class Given(NamedTuple):
    """What a reverse process starts from.

    Attributes:
        k: ``(images, m)``.
        variances: ``(T + 1,)`` that make the bound of the model largest, where there is one.
    """

    model: Model
    k: Tensor
    settings: Settings
    variances: Tensor | None


Draw = Callable[[Given], Iterator[Tensor]]


def ddpm(given: Given, project: str = "never", *, best: bool = False) -> Iterator[Tensor]:
    """All levels; with the variances given x_0 or those that are best for the bound."""
    variances = given.variances if best else None
    return reversed_steps(given.model, given.k, given.settings.levels, 1.0, project, variances)


def ddim(given: Given, project: str = "never") -> Iterator[Tensor]:
    """Fewer levels and no new noise."""
    return reversed_steps(given.model, given.k, given.settings.fewer_levels, 0.0, project)


def renoise(given: Given) -> Iterator[Tensor]:
    """Predict, project, renoise: so many levels that the network is asked as often as by DDPM."""
    levels, rounds = given.settings.levels, given.settings.rounds
    return renoised_steps(given.model, given.k, levels // rounds, rounds, 1)


def interpolate(given: Given) -> Iterator[Tensor]:
    """Extrapolate, correct, interpolate: all levels, noise that is kept for a while."""
    settings = given.settings
    return renoised_steps(given.model, given.k, settings.levels, 1, settings.noise_lifetime)


def ending_on_law(draw: Draw) -> Draw:
    """The same states, and after them the nearest images of the law."""

    def states(given: Given) -> Iterator[Tensor]:
        for state in draw(given):
            yield state
        yield given.model.process.onto_law(state, given.k)

    return states


class Line(NamedTuple):
    """A line of the table.

    Attributes:
        training: of the network, see ``training.TRAININGS``.
        draw: yields the states of the reverse process, the images last.
        bounded: whether its kernels are normal laws given A x = k, which give a bound.
    """

    training: str
    draw: Draw
    bounded: bool = False


Lines = dict[tuple[str, str], Line]
"""(method, sampler) -> how its images are made."""


def in_both(name: str, training: str, change: Callable[[Draw], Draw]) -> Lines:
    """Lines of a method with both samplers."""
    return {
        (name, label): Line(training, change(draw))
        for label, draw in (("DDPM", ddpm), ("DDIM", ddim))
    }


def with_image_projected(name: str, training: str) -> Lines:
    """Lines of a network whose reverse kernels are conditioned."""
    return {
        (name, "DDPM"): Line(training, partial(ddpm, project="image"), bounded=True),
        (name, "DDIM"): Line(training, partial(ddim, project="image")),
    }


THROUGH = ("expected", "expected, weighted", "draw")
"""Networks that are trained through constrained kernels."""

LINES: Lines = {
    **in_both("plain", "plain", lambda draw: draw),
    **in_both("projected at the end", "plain", ending_on_law),
    ("state projected at each step", "DDPM"): Line("plain", partial(ddpm, project="state")),
    ("state projected at each step", "DDIM"): Line("plain", partial(ddim, project="state")),
    ("predict, project, renoise", "its own"): Line("plain", renoise),
    ("extrapolate, correct, interpolate", "its own"): Line("plain", interpolate),
    **in_both("noise off the law, projected at the end", "perturbed", ending_on_law),
    **with_image_projected(SAMPLING_ONLY, "plain"),
    **with_image_projected("ours, trained through a draw, weights of the bound", "draw"),
    **with_image_projected(
        "ours, trained through the expected loss, weights of the bound", "expected, weighted"
    ),
    **with_image_projected("ours, trained through the expected loss", "expected"),
    (SUBSPACE, "DDPM"): Line("subspace", ddpm, bounded=True),
    (SUBSPACE, "DDPM, variances of the bound"): Line("subspace", partial(ddpm, best=True), True),
    (SUBSPACE, "DDIM"): Line("subspace", ddim),
}
"""In the order of the table."""


def lines_of(only: str, *, through: bool) -> Lines:
    """Those whose method contains a text, of networks trained through kernels or of others."""
    return {
        name: line
        for name, line in LINES.items()
        if only in name[0] and (line.training in THROUGH) == through
    }
