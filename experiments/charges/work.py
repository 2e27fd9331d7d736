"""One training on one reshuffle: its members, and the scores of all methods that use them."""

import math
from functools import cache

import numpy as np
import torch

from experiments.charges.batches import Dataset
from experiments.charges.laws import Sums
from experiments.charges.merging import merge_atoms
from experiments.charges.methods import ELEMENT_MEAN, METHODS, Guess
from experiments.charges.scoring import Outcome, View, score, view
from experiments.charges.settings import Settings
from experiments.charges.sources import load_data
from experiments.charges.training import Split, train

__all__ = ["dataset_of", "element_mean", "outcomes"]

SMALLEST_SPREAD = 0.01
"""Of the charges of an element, in e, where the training part has hardly any of it."""


@cache
def _loaded(settings: Settings) -> tuple:
    crystals = load_data(settings)
    return crystals, merge_atoms(crystals, settings.bin_width)


@cache
def dataset_of(settings: Settings, reshuffle: int) -> tuple[Dataset, Split]:
    """The data, prepared with what the training part of a reshuffle says, and its parts."""
    crystals, classes = _loaded(settings)
    split = Split.shuffled(len(crystals), reshuffle)
    return Dataset(crystals, classes, split.training), split


def outcomes(name: str, reshuffle: int, settings: Settings) -> dict[str, Outcome]:
    """Train the members; scores of the methods that use this training.

    Member j of reshuffle r starts from the same weights and sees the same batches in all trainings.
    """
    torch.set_num_threads(1)
    if name == ELEMENT_MEAN:
        return element_mean(reshuffle, settings)
    dataset, split = dataset_of(settings, reshuffle)
    members = [
        train(name, dataset, split, settings, seed=1000 * reshuffle + member)
        for member in range(settings.members)
    ]
    cost = {
        "parameters": sum(weight.numel() for weight in members[0].network.parameters()),
        "steps": members[0].steps,
        "seconds": float(np.mean([member.seconds for member in members])),
    }
    views = [
        [view(member.network, dataset.whole(part)) for member in members]
        for part in (split.validation, split.test)
    ]
    return {
        line: {**score(method, *views), **cost}
        for line, method in METHODS.items()
        if method.training == name
    }


def element_mean(reshuffle: int, settings: Settings) -> dict[str, Outcome]:
    """Scores of the mean charge of each element, projected, with its standard deviation."""
    dataset, split = dataset_of(settings, reshuffle)
    views = [_view_of_elements(dataset, part) for part in (split.validation, split.test)]
    outcome = score(METHODS[ELEMENT_MEAN], *([each] for each in views))
    return {ELEMENT_MEAN: {**outcome, "parameters": 0, "steps": 0, "seconds": 0}}


def _view_of_elements(dataset: Dataset, part: np.ndarray) -> View:
    batch = dataset.whole(part)
    element = batch.element[batch.of_atom]
    spread = torch.from_numpy(dataset.charge_spread).clamp(min=SMALLEST_SPREAD)
    guess = Guess(
        loc=torch.from_numpy(dataset.usual_charge)[element],
        scale=spread[element],
        df=torch.tensor(math.inf),
        charge=batch.charge,
        sums=Sums(batch.neutral),
        last=batch.last,
        least_sure=batch.least_sure,
        within=spread[element],
        copies=batch.of_atom,
    )
    return View(guess, spread.log()[batch.element][:, None], batch.of_atom)
