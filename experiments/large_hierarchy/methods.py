"""What reconciles a hierarchy: laws of ours under three covariances, and published programs."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from bayesreconpy.reconc_gaussian import reconc_gaussian
from hierarchicalforecast.methods import MinTrace, MinTraceSparse
from scipy import sparse
from torch import Tensor

from constrained_core import SparseMatrix
from experiments.large_hierarchy.problem import Problem
from pyro_constrained import (
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedNormal,
)

NUM_DRAWS, NUM_FACTORS, CORRELATION = 100, 10, 0.5

Law = ConstrainedNormal | ConstrainedLowRankMultivariateNormal | ConstrainedGMRF


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method found.

    Attributes:
        mean: ``(nodes,)`` reconciled.
        seconds: how long each part took, by name.
        residual: the largest miss of a sum, relative to the size of its terms.
    """

    mean: np.ndarray
    seconds: dict[str, float]
    residual: float


Method = Callable[[Problem], Answer]


def diagonal(problem: Problem) -> Law:
    """Independent errors of every node."""
    loc, scale, A, k = _given(problem)
    return ConstrainedNormal(loc, scale, A, k)


def low_rank(problem: Problem) -> Law:
    """Independent errors, and factors that all nodes share in part."""
    loc, scale, A, k = _given(problem)
    rng = np.random.default_rng(1)
    loads = torch.as_tensor(rng.normal(size=(len(scale), NUM_FACTORS)) / NUM_FACTORS)
    return ConstrainedLowRankMultivariateNormal(loc, scale[:, None] * loads, scale**2, A, k)


def blocks(problem: Problem) -> Law:
    """Errors of one item in all stores are correlated, others are not."""
    loc, _, A, k = _given(problem)
    num_sums = problem.hierarchy.S.shape[0]
    _, sizes = np.unique(problem.item, return_counts=True)
    # The inverse of (1 - c) I + c 11', size by size; the series of an item are side by side.
    parts = [
        (np.eye(size) - CORRELATION / (1 + (size - 1) * CORRELATION)) / (1 - CORRELATION)
        for size in sizes
    ]
    correlation = sparse.block_diag([sparse.eye_array(num_sums), *parts])
    weight = sparse.diags_array(1 / problem.scale)
    precision = sparse.csr_array(weight @ correlation @ weight)
    return ConstrainedGMRF(loc, precision, A, k)


def _given(problem: Problem) -> tuple[Tensor, Tensor, SparseMatrix, Tensor]:
    loc, scale, k = (
        torch.as_tensor(array) for array in (problem.mean, problem.scale, problem.hierarchy.k)
    )
    return loc.requires_grad_(), scale, problem.hierarchy.A, k


def ours(build: Callable[[Problem], Law]) -> Method:
    """A law asked for all that it knows."""

    def method(problem: Problem) -> Answer:
        clock = _Clock()
        law = build(problem)
        clock.stop("build")
        mean = law.mean
        clock.stop("mean")
        draws = law.sample((NUM_DRAWS,))
        clock.stop("draws")
        density = law.log_prob(torch.as_tensor(problem.truth))
        clock.stop("density")
        assert law.variance.min() >= 0
        clock.stop("variances")
        (gradient,) = torch.autograd.grad(density, law.loc)
        assert gradient.isfinite().all()
        clock.stop("gradient")
        return Answer(mean.detach().numpy(), clock.seconds, _residual(problem, draws[0].numpy()))

    return method


def published(reconcile: Callable[[Problem], np.ndarray]) -> Method:
    """A program that finds the reconciled means of the bottom."""

    def method(problem: Problem) -> Answer:
        clock = _Clock()
        mean = reconcile(problem)
        clock.stop("mean")
        return Answer(mean, clock.seconds, _residual(problem, mean))

    return method


def _residual(problem: Problem, value: np.ndarray) -> float:
    """The largest miss of a sum, in more digits than it has."""
    rows = problem.hierarchy.A.to_scipy()
    terms = rows.data.astype(np.longdouble) * value[rows.indices]
    miss, size = (np.add.reduceat(part, rows.indptr[:-1]) for part in (terms, np.abs(terms)))
    return float((np.abs(miss) / size).max())


def mint(problem: Problem) -> np.ndarray:
    """MinT with structural scaling (hierarchicalforecast, dense)."""
    S = problem.full_S.toarray()
    return MinTrace("wls_struct").fit_predict(S=S, y_hat=problem.mean[:, None])["mean"][:, 0]


def mint_sparse(problem: Problem) -> np.ndarray:
    """The same by an iterative solver (hierarchicalforecast, sparse)."""
    S = sparse.csr_matrix(problem.full_S)
    found = MinTraceSparse("wls_struct").fit_predict(S=S, y_hat=problem.mean[:, None])
    return found["mean"][:, 0]


def bayes(problem: Problem) -> np.ndarray:
    """Conditioning of the bottom on the sums (bayesreconpy, dense)."""
    S = problem.hierarchy.S.toarray()
    found = reconc_gaussian(S, list(problem.mean), np.diag(problem.scale**2))
    return problem.hierarchy.with_sums(np.asarray(found["bottom_reconciled_mean"]))


class _Clock:
    """Seconds between stops."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


OURS = "ours, diagonal"
METHODS: dict[str, Method] = {
    OURS: ours(diagonal),
    "ours, low rank and diagonal": ours(low_rank),
    "ours, blocks": ours(blocks),
    "hierarchicalforecast, MinT": published(mint),
    "hierarchicalforecast, sparse MinT": published(mint_sparse),
    "bayesreconpy, Gaussian": published(bayes),
}
DENSE = ("hierarchicalforecast, MinT", "bayesreconpy, Gaussian")
"""Methods whose matrices of the whole hierarchy would take 10 GB and more."""
