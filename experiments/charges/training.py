"""Training of one network by one of the losses."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from experiments.charges.batches import Batch, Dataset
from experiments.charges.laws import Sums
from experiments.charges.methods import METHODS, TRAININGS, Guess, Method
from experiments.charges.network import ChargeNetwork
from experiments.charges.settings import Settings

__all__ = ["Split", "Trained", "guess_of", "make_network", "train"]


@dataclass(frozen=True, eq=False)
class Split:
    """Numbers of the crystals of each part."""

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @classmethod
    def shuffled(cls, num_crystals: int, seed: int) -> "Split":
        """70, 10 and 20%."""
        order = np.random.default_rng(seed).permutation(num_crystals)
        ends = (int(0.7 * num_crystals), int(0.8 * num_crystals))
        return cls(*np.split(order, ends))


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with the weights of its best validation, and what it took.

    Attributes:
        steps: optimiser steps, all of them.
        seconds: of processor time.
    """

    network: ChargeNetwork
    steps: int
    seconds: float


def guess_of(network: ChargeNetwork, batch: Batch) -> Guess:
    """What the network says, in float64, of every atom."""
    loc, scale = (each.double().index_select(0, batch.of_atom) for each in network(batch))
    return Guess(
        loc,
        scale,
        network.log_df.exp().double(),
        batch.charge,
        Sums(batch.neutral),
        batch.last,
        batch.least_sure,
        within=scale,
        copies=batch.of_atom,
    )


def make_network(dataset: Dataset, settings: Settings) -> ChargeNetwork:
    """A network with fresh weights."""
    usual_charge = torch.tensor(dataset.usual_charge, dtype=torch.float32)
    width, num_rounds = settings.width, settings.num_rounds
    return ChargeNetwork(usual_charge, dataset.num_features, width, num_rounds).float()


def train(name: str, dataset: Dataset, split: Split, settings: Settings, seed: int) -> Trained:
    """Train with the loss of that name; keep the weights of the least validation error.

    Weights are averaged over steps (exponentially); the averaged ones are validated and kept.
    """
    began = time.process_time()
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    network, loss_of = make_network(dataset, settings), TRAININGS[name]
    weights = _as_one_vector(network)
    average, best, least = weights.clone(), weights.clone(), math.inf
    num_steps = math.ceil(len(split.training) / settings.batch_size) * settings.epochs
    optimiser, schedule = _optimiser(weights, num_steps, settings)
    validation = dataset.whole(split.validation)
    for epoch in range(1, settings.epochs + 1):
        for batch in dataset.batches(order.permutation(split.training), settings.batch_size):
            optimiser.zero_grad(set_to_none=False)
            loss_of(guess_of(network, batch)).backward()
            torch.nn.utils.clip_grad_norm_(weights, settings.clip)
            optimiser.step()
            schedule.step()
            average.lerp_(weights, 1 - settings.averaging)
        if epoch % settings.validate_every == 0 or epoch == settings.epochs:
            with _holding(weights, average):
                error = _error(network, validation, METHODS[name])
            if error < least:
                least, best = error, average.clone()
    weights.copy_(best)
    return Trained(network, num_steps, time.process_time() - began)


@torch.no_grad()
def _as_one_vector(network: nn.Module) -> Tensor:
    """All weights as one vector that they are views of, and likewise their gradients: to update
    one vector takes a fraction of the time of many small tensors."""
    vector = nn.utils.parameters_to_vector(network.parameters()).clone()
    vector.grad = torch.zeros_like(vector)
    nn.utils.vector_to_parameters(vector, network.parameters())
    start = 0
    for each in network.parameters():
        each.grad = vector.grad[start : start + each.numel()].view_as(each)
        start += each.numel()
    return vector


def _optimiser(weights: Tensor, num_steps: int, settings: Settings) -> tuple[AdamW, LambdaLR]:
    """Adam with decoupled weight decay; the rate rises, then falls along half a cosine."""
    optimiser = AdamW(
        [weights],
        lr=settings.learning_rate,
        betas=(0.9, settings.second_moment),
        weight_decay=settings.weight_decay,
        fused=True,
    )
    rise = settings.warmup * num_steps

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / num_steps))

    return optimiser, LambdaLR(optimiser, factor)


@torch.no_grad()
def _error(network: ChargeNetwork, batch: Batch, method: Method) -> float:
    """Mean absolute error of the method's predictions."""
    guess = guess_of(network, batch)
    return float(guess.error(method.law(guess).mean))


@contextmanager
def _holding(weights: Tensor, values: Tensor) -> Iterator[None]:
    """Other values in the weights for a while."""
    kept = weights.clone()
    weights.copy_(values)
    yield
    weights.copy_(kept)
