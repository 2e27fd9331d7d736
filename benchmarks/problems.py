"""The problems that both backends are measured on, as NumPy arrays."""

from typing import NamedTuple

import numpy as np

__all__ = [
    "BATCH",
    "DENSE_SIZES",
    "DIAGONAL_SIZES",
    "NUM_ITEMS",
    "POISSON_SIZES",
    "SUBSET_SIZE",
    "Dense",
    "Diagonal",
    "Head",
    "dense",
    "diagonal",
    "head",
    "knapsack",
    "rates",
    "rows",
    "scattered",
    "subset_logits",
]

DENSE_SIZES = (10, 100, 1000, 4000)
DIAGONAL_SIZES = (10**3, 10**4, 10**5, 10**6)
NUM_ITEMS, SUBSET_SIZE, BATCH = 1000, 100, 64
POISSON_SIZES = ((100, 1000), (1000, 1000), (10**4, 10**4))
"""Categories and total; NumPyro's Multinomial would need 40 GB for ten times the last."""


class Dense(NamedTuple):
    loc: np.ndarray
    covariance: np.ndarray


class Diagonal(NamedTuple):
    loc: np.ndarray
    scale: np.ndarray
    index: np.ndarray
    num_groups: int


class Head(NamedTuple):
    """What a network predicts for a batch, under one constraint."""

    loc: np.ndarray
    scale: np.ndarray
    A: np.ndarray
    k: np.ndarray
    x: np.ndarray


def dense(n: int) -> Dense:
    """A well conditioned dense covariance, exactly symmetric."""
    rng = np.random.default_rng(n)
    factor = rng.normal(size=(n, min(n, 50))) / 7
    covariance = factor @ factor.T + np.eye(n)
    return Dense(rng.normal(size=n), (covariance + covariance.T) / 2)


def diagonal(n: int) -> Diagonal:
    """Scales between 1/2 and 3/2; ragged groups of 10 variables on average."""
    rng = np.random.default_rng(n)
    num_groups = n // 10
    index = np.concatenate([np.arange(num_groups), rng.integers(0, num_groups, n - num_groups)])
    return Diagonal(rng.normal(size=n), rng.uniform(0.5, 1.5, n), np.sort(index), num_groups)


def scattered(n: int) -> Diagonal:
    """As ``diagonal``, with the members of groups all over the vector."""
    problem = diagonal(n)
    return problem._replace(index=np.random.default_rng(n).permutation(problem.index))


def head(batch: int = 512, n: int = 200, m: int = 40) -> Head:
    """A batch of predictions with scales of its own for each, and values that obey the law."""
    rng = np.random.default_rng(0)
    A, x = rng.normal(size=(m, n)), rng.normal(size=(batch, n))
    loc, scale = rng.normal(size=(batch, n)), np.logaddexp(0, rng.normal(size=(batch, n)))
    return Head(loc, scale + 0.01, A, x @ A.T, x)


def rows(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """m random rows and a right-hand side that is no surprise."""
    rng = np.random.default_rng(m * n)
    A = rng.normal(size=(m, n))
    return A, A @ rng.normal(size=n)


def subset_logits() -> np.ndarray:
    """Logits ``(batch, items)`` of an exactly-k Bernoulli."""
    return np.random.default_rng(0).normal(size=(BATCH, NUM_ITEMS))


def rates(n: int) -> np.ndarray:
    """Poisson rates that differ by a factor of ten or so."""
    return np.exp(np.random.default_rng(n).normal(size=n))


def knapsack(n: int, largest: int) -> tuple[np.ndarray, int]:
    """One row of weights 1, ..., largest, and half of their sum: no closed form."""
    weights = np.random.default_rng(n).integers(1, largest + 1, n)
    weights[0] = 1
    return weights, int(weights.sum()) // 2
