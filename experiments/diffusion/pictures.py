"""Distances, images side by side, and the reverse process on and off the subspace."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from experiments.diffusion.gallery import NUM_IMAGES, Gallery
from experiments.diffusion.methods import SAMPLING_ONLY, SUBSPACE
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

PATHS = {"off": "plain", "on": SUBSPACE}


def draw_distances(path: Path, frame: pd.DataFrame) -> None:
    """FID of each method: a panel for each study, a dot for each seed."""
    studies = list(dict.fromkeys(frame["data"]))
    names = list(dict.fromkeys(frame["method"] + ", " + frame["sampler"]))
    size = 4 + 2.4 * len(studies), 0.6 + 0.24 * len(names)
    figure, panels = plt.subplots(1, len(studies), figsize=size, sharey=True, squeeze=False)
    for axes, study in zip(panels[0], studies, strict=True):
        part = frame[frame["data"] == study]
        heights = [names.index(name) for name in part["method"] + ", " + part["sampler"]]
        ours = part["method"].str.startswith("ours")
        axes.scatter(part["fid"], heights, c=np.where(ours, "tab:blue", "tab:gray"), s=14)
        axes.set_xscale("log")
        axes.set_title(study, fontsize=9)
        axes.set_xlabel("Frechet distance")
        axes.grid(axis="y", alpha=0.3)
    panels[0, 0].set_yticks(range(len(names)), names, fontsize=7)
    panels[0, 0].invert_yaxis()
    _save(figure, path)


def draw_samples(path: Path, gallery: Gallery, titles: list[str]) -> None:
    """Images of each method for the same sums; of the last study that has them.

    Under them, for the plain network, how far each block's sum is off, spread over its pixels.
    """
    for study in reversed(_studies(titles)):
        kept = {name: gallery.states(study.title, name, "DDPM") for name in SHOWN}
        if all(states is not None for states in kept.values()):
            return _draw_rows(path, study, {name: states[-1] for name, states in kept.items()})


def _draw_rows(path: Path, study: Study, images: dict[str, np.ndarray]) -> None:
    problem = Problem.of(study)
    rows = {"test image": problem.real[:NUM_IMAGES], **images}
    A = problem.A.to_dense()
    figure, grid = plt.subplots(
        2 * len(rows) - 1, NUM_IMAGES, figsize=(1 + NUM_IMAGES, 0.8 * (2 * len(rows) - 1))
    )
    lines = iter(grid)
    for name, pixels in rows.items():
        _show_line(next(lines), name, pixels, study_side(problem), "gray", (0, 1))
        if name != "test image":
            missed = (pixels @ A.T - problem.k[: len(pixels)]) / A.sum(1)
            off = missed[:, problem.A.index]
            title = f"off by, {np.abs(off).max():.0e}"
            _show_line(next(lines), title, off, study_side(problem), "RdBu", (-0.1, 0.1))
    _save(figure, path)


def study_side(problem: Problem) -> int:
    """Pixels along an edge."""
    return problem.split.side


def draw_paths(path: Path, gallery: Gallery, titles: list[str]) -> None:
    """Strips of the reverse process off and on the subspace: states, block means, misses."""
    for study in _studies(titles):
        kept = {where: gallery.states(study.title, name, "DDPM") for where, name in PATHS.items()}
        if all(states is not None for states in kept.values()):
            return _draw_strips(path, study, kept)


def _draw_strips(path: Path, study: Study, kept: dict[str, np.ndarray]) -> None:
    problem = Problem.of(study)
    A, number = problem.A.to_dense(), len(next(iter(kept.values())))
    figure, grid = plt.subplots(2 * len(kept), number, figsize=(1.5 + number, 4 * len(kept) / 2))
    for (where, states), lines in zip(kept.items(), np.split(grid, len(kept)), strict=True):
        first = states[:, 0]
        missed = (first @ A.T - problem.k[0]) / A.sum(1)
        _show_line(lines[0], f"{where} the subspace", first, problem.split.side, "gray", (0, 1))
        _show_line(
            lines[1], "A x - k", missed[:, problem.A.index], problem.split.side, "RdBu", (-1, 1)
        )
        for axes, miss in zip(lines[1], missed, strict=True):
            axes.set_title(f"{np.abs(miss).max():.0e}", fontsize=7)
    _save(figure, path)


def _show_line(
    line: np.ndarray, name: str, images: np.ndarray, side: int, colours: str, bounds: tuple
) -> None:
    """Images in a row of panels, named at the left."""
    axes: Axes
    for axes, image in zip(line, images, strict=True):
        axes.imshow(image.reshape(side, side), cmap=colours, vmin=bounds[0], vmax=bounds[1])
        axes.set_xticks([])
        axes.set_yticks([])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)


def _studies(titles: list[str]) -> list[Study]:
    """Those with these titles."""
    known = {study.title: study for study in (*SHORT_STUDIES, *STUDIES)}
    return [known[title] for title in titles]


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
