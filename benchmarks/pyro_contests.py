"""PyTorch: build, draw, score and differentiate, against the unconstrained laws of Pyro."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from benchmarks import problems
from benchmarks.timing import Contest, Step
from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    GroupSum,
)

__all__ = ["contests"]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32)


def _step(build: Callable[..., dist.TorchDistribution], *parameters: np.ndarray) -> Step:
    """Build the law, draw, score another point, go backward to all parameters."""
    leaves = [_tensor(parameter).requires_grad_() for parameter in parameters]

    def step() -> None:
        law = build(*leaves)
        draw = law.rsample()
        (law.log_prob(draw.detach()) + draw.sum()).backward()
        for leaf in leaves:
            leaf.grad = None

    return step


def _dense(n: int, m: int) -> tuple[Step, Step]:
    problem = problems.dense(n)
    A, k = map(_tensor, problems.rows(m, n))
    ours = _step(lambda loc, cov: ConstrainedMultivariateNormal(loc, cov, A, k), *problem)
    return ours, _step(dist.MultivariateNormal, *problem)


def _dropped_coordinate(n: int) -> tuple[Step, Step]:
    """The zero-sum law against the same law written by hand on n - 1 coordinates."""
    problem = problems.dense(n)
    ones, zero = torch.ones(n), torch.tensor(0.0)

    def by_hand(loc: Tensor, cov: Tensor) -> dist.TorchDistribution:
        gain = cov.sum(-1) / cov.sum()
        mean = (loc - gain * loc.sum())[:-1]
        conditional = cov - torch.outer(gain, cov.sum(-1))
        return dist.MultivariateNormal(mean, conditional[:-1, :-1])

    ours = _step(lambda loc, cov: ConstrainedMultivariateNormal(loc, cov, ones, zero), *problem)
    return ours, _step(by_hand, *problem)


def _diagonal(n: int, m: int) -> tuple[Step, Step]:
    problem = problems.diagonal(n)
    if m == 1:
        A, k = torch.ones(n), torch.tensor(1.0)
    else:
        A, k = map(_tensor, problems.rows(m, n))
    ours = _step(lambda loc, scale: ConstrainedNormal(loc, scale, A, k), *problem[:2])
    return ours, _normal(problem)


def _normal(problem: problems.Diagonal) -> Step:
    return _step(lambda loc, scale: dist.Normal(loc, scale).to_event(1), *problem[:2])


def _head() -> tuple[Step, Step]:
    """Likelihood and gradient of a batch, against the formula written by hand."""
    loc, scale, A, k, x = map(_tensor, problems.head())
    leaves = loc.requires_grad_(), scale.requires_grad_()
    half_log_det = torch.linalg.slogdet(A @ A.mT)[1] / 2

    def by_hand() -> Tensor:
        root = torch.linalg.cholesky(torch.einsum("ij,bj,kj->bik", A, scale.square(), A))
        gap = torch.linalg.solve_triangular(root, (k - loc @ A.mT)[..., None], upper=False)
        free = dist.Normal(loc, scale).log_prob(x).sum(-1)
        size = len(A) / 2 * math.log(2 * math.pi)
        log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return free + gap.square().sum((-2, -1)) / 2 + log_det + size - half_log_det

    def step(log_prob: Callable[[], Tensor]) -> None:
        log_prob().sum().backward()
        for leaf in leaves:
            leaf.grad = None

    ours = partial(step, lambda: ConstrainedNormal(loc, scale, A, k).log_prob(x))
    return ours, partial(step, by_hand)


def _groups(n: int, make: Callable[[int], problems.Diagonal]) -> tuple[Step, Step]:
    problem = make(n)
    A, k = GroupSum(problem.index, problem.num_groups), torch.zeros(problem.num_groups)
    ours = _step(lambda loc, scale: ConstrainedNormal(loc, scale, A, k), *problem[:2])
    return ours, _normal(problem)


def _loop(n: int) -> tuple[Step, Step]:
    """Group sums against one law per group in a Python loop."""
    problem = problems.diagonal(n)
    ours, _ = _groups(n, problems.diagonal)
    bounds = np.flatnonzero(np.diff(problem.index, prepend=-1, append=problem.num_groups))
    members = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    zero = torch.tensor(0.0)
    leaves = [_tensor(parameter).requires_grad_() for parameter in problem[:2]]

    def step() -> None:
        loc, scale = leaves
        total = torch.zeros(())
        for part in members:
            ones = torch.ones(part.stop - part.start)
            law = ConstrainedNormal(loc[part], scale[part], ones, zero)
            draw = law.rsample()
            total = total + law.log_prob(draw.detach()) + draw.sum()
        total.backward()

    return ours, step


def _low_rank(n: int) -> tuple[Step, Step]:
    problem = problems.diagonal(n)
    factor = np.random.default_rng(0).normal(size=(n, 5))
    parameters = problem.loc, factor, problem.scale
    A, k = torch.ones(n), torch.tensor(1.0)
    ours = _step(
        lambda loc, w, d: ConstrainedLowRankMultivariateNormal(loc, w, d, A, k), *parameters
    )
    return ours, _step(dist.LowRankMultivariateNormal, *parameters)


def _student(n: int) -> tuple[Step, Step]:
    problem = problems.dense(n)
    tril = np.linalg.cholesky(problem.covariance)
    A, k = map(_tensor, problems.rows(min(10, n // 2), n))
    df = np.array(5.0)
    ours = _step(
        lambda df, loc, tril: ConstrainedMultivariateStudentT(df, loc, tril, A, k),
        df,
        problem.loc,
        tril,
    )
    return ours, _step(dist.MultivariateStudentT, df, problem.loc, tril)


def contests(largest_dense: int) -> Iterator[Contest]:
    """All lines of the table, with dense covariances up to a size."""
    for n in (size for size in problems.DENSE_SIZES if size <= largest_dense):
        for m in sorted({1, min(10, n // 2), n // 2}):
            few, half = (1.5 if n == 10 else 1.0), 2.5
            promise = half if m == n // 2 else few
            size = f"n = {n}, m = {m}"
            make = partial(_dense, n, m)
            yield Contest("MultivariateNormal", size, "MultivariateNormal", make, promise)
    for n in (100, 1000):
        make = partial(_dropped_coordinate, n)
        yield Contest("MultivariateNormal", f"n = {n}, sum", "drop one coordinate", make)
        yield Contest("StudentT", f"n = {n}, m = 10", "MultivariateStudentT", partial(_student, n))
    for n in problems.DIAGONAL_SIZES:
        promise = 1.5 if n >= 10**4 else None
        yield Contest("Normal", f"n = {n}, m = 1", "Normal", partial(_diagonal, n, 1), promise)
        yield Contest("Normal", f"n = {n}, m = 10", "Normal", partial(_diagonal, n, 10))
        promise = 2.0 if n == 10**6 else None
        size = f"n = {n}, {n // 10} groups"
        yield Contest("Normal", size, "Normal", partial(_groups, n, problems.diagonal), promise)
        make = partial(_groups, n, problems.scattered)
        yield Contest("Normal", f"{size}, scattered", "Normal", make, promise)
    size = "n = 200, m = 40, batch of 512, likelihood"
    yield Contest("Normal", size, "einsum and Cholesky", _head, 1.3)
    for n in (10**3, 10**5):
        size = f"n = {n}, q = 5, m = 1"
        yield Contest("LowRank", size, "LowRankMultivariateNormal", partial(_low_rank, n))
    yield Contest("Normal", "n = 10000, 1000 groups", "a loop over groups", partial(_loop, 10**4))
