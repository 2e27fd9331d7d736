"""Draws of each method, and the densities along the line."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.two_dimensions.laws import METHODS, Plane, Shadow

__all__ = ["draw"]

NUM_DRAWS = 300
NUM_ARROWS = 12
BLUE, GREY, RED = "tab:blue", "0.6", "tab:red"


def draw(path: Path, plane: Plane, shadows: dict[str, Shadow]) -> None:
    """A panel for each method above the density of what it gives.

    Args:
        path: of the picture.
        plane: base law and line.
        shadows: laws of t by method, the conditional law last.
    """
    x = plane.base.sample((NUM_DRAWS,))
    on_line = {name: method(plane, x) for name, method in METHODS.items()}
    *_, ours = shadows
    on_line[ours] = plane.law.sample((NUM_DRAWS,))
    figure = Figure(figsize=(3.1 * len(on_line), 4.9), dpi=100, layout="constrained")
    grid = figure.subplots(2, len(on_line), height_ratios=[3, 2], sharey="row", sharex="row")
    for (above, below), (name, points) in zip(grid.T, on_line.items(), strict=True):
        draw_plane(above, plane, x)
        colour = BLUE if name == ours else RED
        if name != ours:
            draw_moves(above, x, points)
        above.plot(*points.mT.numpy(), ".", ms=3, color=colour, alpha=0.5)
        above.set(title=name, xlabel="$x_1$")
        draw_densities(below, shadows[name], shadows[ours], colour)
    grid[0, 0].set_ylabel("$x_2$")
    grid[1, 0].set_ylabel("density along the line")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def draw_plane(axis: Axes, plane: Plane, x: torch.Tensor) -> None:
    """The base law, its draws and the line."""
    first, second = np.meshgrid(np.linspace(-2, 5, 100), np.linspace(-1, 3, 100))
    points = torch.as_tensor(np.stack([first, second], -1))
    gap = points - plane.loc
    distance = (gap * torch.linalg.solve(plane.covariance, gap[..., None])[..., 0]).sum(-1).sqrt()
    axis.contour(first, second, distance, [1, 2], colors=GREY, linewidths=0.8)
    axis.plot(*x.mT.numpy(), ".", ms=1.5, color=GREY)
    axis.plot(*plane.at(np.array([-4.0, 4.0])).mT.numpy(), color="black", lw=0.8)
    axis.set(xlim=(-2, 5), ylim=(-1, 3), aspect="equal")


def draw_moves(axis: Axes, x: torch.Tensor, points: torch.Tensor) -> None:
    """From where a few draws were taken to where."""
    for start, end in zip(x[:NUM_ARROWS], points[:NUM_ARROWS], strict=True):
        axis.annotate(
            "",
            xy=end.tolist(),
            xytext=start.tolist(),
            arrowprops={"arrowstyle": "->", "color": RED, "lw": 0.6, "shrinkA": 0, "shrinkB": 0},
        )


def draw_densities(axis: Axes, found: Shadow, right: Shadow, colour: str) -> None:
    """Of t, beside that of the conditional law."""
    t = np.linspace(-4, 4, 400)
    axis.fill_between(t, right.density(t), color=BLUE, alpha=0.2, lw=0)
    axis.plot(t, found.density(t), color=colour)
    axis.set(xlabel="$t$", ylim=(0, None))
