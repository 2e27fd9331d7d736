"""Distances, images side by side, and the reverse process on and off the subspace."""

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.diffusion.gallery import NUM_IMAGES, Gallery
from experiments.diffusion.methods import LINES, REFERENCE, SAMPLING_ONLY, SUBSPACE
from experiments.diffusion.problem import Problem
from experiments.diffusion.settings import SHORT_STUDIES, STUDIES, Study

SHOWN = [
    "plain",
    "projected at the end",
    "state projected at each step",
    "noise off the law, projected at the end",
    SAMPLING_ONLY,
    SUBSPACE,
]
"""Methods whose images are shown, all drawn by DDPM."""

CLEAREST = "mnist"

PATHS = {"off": "plain", "on": SUBSPACE}


def draw_distances(path: Path, frame: pd.DataFrame) -> None:
    """FID of each method: a panel for each study, a dot for each seed."""
    studies = list(dict.fromkeys(frame["data"]))
    there = set(frame["method"] + ", " + frame["sampler"])
    names = [name for name in map(", ".join, [REFERENCE, *LINES]) if name in there]
    size = 4 + 2.4 * len(studies), 0.6 + 0.24 * len(names)
    figure, panels = plt.subplots(1, len(studies), figsize=size, sharey=True, squeeze=False)
    for axes, study in zip(panels[0], studies, strict=True):
        part = frame[frame["data"] == study]
        heights = [names.index(name) for name in part["method"] + ", " + part["sampler"]]
        ours = part["method"].str.startswith("ours")
        axes.scatter(part["fid"], heights, c=np.where(ours, "tab:blue", "tab:gray"), s=14)
        axes.set_xlim(0, 1.05 * part["fid"].max())
        axes.set_title(study.replace(", ", "\n", 1), fontsize=9)
        axes.set_xlabel("Frechet distance")
        axes.grid(axis="y", alpha=0.3)
    panels[0, 0].set_yticks(range(len(names)), names, fontsize=7)
    panels[0, 0].invert_yaxis()
    _save(figure, path)


def draw_samples(path: Path, gallery: Gallery, titles: list[str]) -> None:
    """Images of each method for the same sums; of the first study that has them all.

    Under those of some, by how much the mean of each block is off.
    """
    for study in _studies(titles):
        kept = {name: gallery.states(study.title, name, "DDPM") for name in SHOWN}
        if all(states is not None for states in kept.values()):
            return _draw_rows(path, study, {name: states[-1] for name, states in kept.items()})


def _draw_rows(path: Path, study: Study, images: dict[str, np.ndarray]) -> None:
    problem = Problem.of(study)
    side, real = problem.split.side, problem.real[:NUM_IMAGES]
    lines: list[Line] = [Line("test image", real, "gray", 0, 1)]
    for name, pixels in images.items():
        lines.append(Line(name, pixels, "gray", 0, 1))
        if name in PATHS.values():
            off = _missed(problem, pixels, problem.k[:NUM_IMAGES])
            title = f"block means off, at most {np.abs(off).max():.0e}"
            lines.append(Line(title, off, "RdBu", -0.1, 0.1))
    figure, grid = plt.subplots(len(lines), NUM_IMAGES, figsize=(1.5 * NUM_IMAGES, len(lines)))
    for panels, line in zip(grid, lines, strict=True):
        line.show(panels, side)
    _save(figure, path)


def draw_paths(path: Path, gallery: Gallery, titles: list[str]) -> None:
    """Strips of the reverse process off and on the subspace, with the block means' distance from
    the given ones; of the first study that has them.
    """
    for study in _studies(titles):
        kept = {where: gallery.states(study.title, name, "DDPM") for where, name in PATHS.items()}
        if all(states is not None for states in kept.values()):
            return _draw_strips(path, study, kept)


def _draw_strips(path: Path, study: Study, kept: dict[str, np.ndarray]) -> None:
    problem = Problem.of(study)
    side, number = problem.split.side, len(next(iter(kept.values())))
    figure, grid = plt.subplots(2 * len(kept), number, figsize=(number, 2.3 * len(kept)))
    for (where, states), panels in zip(kept.items(), np.split(grid, len(kept)), strict=True):
        first = states[:, 0]
        off = _missed(problem, first, problem.k[0])
        Line(f"{where} the subspace", first, "gray", 0, 1).show(panels[0], side)
        Line("block means off", off, "RdBu", -1, 1).show(panels[1], side)
        for axes, miss in zip(panels[1], off, strict=True):
            axes.set_title(f"{np.abs(miss).max():.0e}", fontsize=7)
    _save(figure, path)


def _missed(problem: Problem, pixels: np.ndarray, k: np.ndarray) -> np.ndarray:
    """``(images, n)`` by how much the mean of a pixel's block is off."""
    A = problem.A.to_dense()
    return ((pixels @ A.T - k) / A.sum(1))[:, problem.A.index]


class Line(NamedTuple):
    """Images beside each other; ``low`` and ``high`` are the ends of the colours."""

    name: str
    images: np.ndarray
    colours: str
    low: float
    high: float

    def show(self, panels: np.ndarray, side: int) -> None:
        """Draw them into a row of panels, named at the left."""
        for axes, image in zip(panels, self.images, strict=True):
            square = image.reshape(side, side)
            axes.imshow(square, cmap=self.colours, vmin=self.low, vmax=self.high)
            axes.set_xticks([])
            axes.set_yticks([])
        panels[0].set_ylabel(self.name, rotation=0, ha="right", va="center", fontsize=7)


def _studies(titles: list[str]) -> list[Study]:
    """Those with these titles, the set whose images are easiest to judge by eye first."""
    known = {study.title: study for study in (*SHORT_STUDIES, *STUDIES)}
    return sorted((known[title] for title in titles), key=lambda study: study.data != CLEAREST)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
