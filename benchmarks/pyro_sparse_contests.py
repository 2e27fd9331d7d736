"""PyTorch: sparse laws against dense ones, and against a factorisation of the precision alone."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import sparse_problems as problems
from benchmarks.timing import Contest, Step
from constrained_core import SparseMatrix
from pyro_constrained import ConstrainedGMRF, ConstrainedNormal

__all__ = ["contests", "field_steps"]


def _network() -> tuple[Step, Step]:
    """Build, draw, score and differentiate, with a sparse A and with the same A dense."""
    A = problems.network()
    size = A.shape[1]
    generator = torch.Generator().manual_seed(0)
    loc, scale = (
        torch.rand(size, dtype=torch.float64, generator=generator).add_(0.5).requires_grad_()
        for _ in range(2)
    )
    k = torch.as_tensor(A @ torch.randn(size, dtype=torch.float64, generator=generator).numpy())

    def step(matrix: object) -> None:
        law = ConstrainedNormal(loc, scale * next(growth), matrix, k)
        draw = law.rsample()
        (law.log_prob(draw.detach()) + draw.sum()).backward()
        loc.grad = scale.grad = None

    growth = problems.growth()
    return partial(step, A), partial(step, torch.as_tensor(A.toarray()))


def _field(
    problem: problems.SparseField, use: Callable[[ConstrainedGMRF, Tensor, Tensor], None]
) -> tuple[Step, Step]:
    growth = problems.growth()
    Q = SparseMatrix.of(problem.Q)
    values, x = (torch.as_tensor(array) for array in (Q.values, problem.x))

    def ours() -> None:
        learned = (values * next(growth)).requires_grad_()
        use(ConstrainedGMRF(0.0, Q.with_values(learned), problem.A, problem.k), x, learned)

    return ours, lambda: problems.factor_precision(problem.Q * next(growth))


def _density(law: ConstrainedGMRF, x: Tensor, _: Tensor) -> None:
    with torch.no_grad():
        law.log_prob(x)


def _gradient(law: ConstrainedGMRF, x: Tensor, values: Tensor) -> None:
    torch.autograd.grad(law.log_prob(x), values)


def _draw(law: ConstrainedGMRF, *_: Tensor) -> None:
    law.sample()


def field_steps(problem: problems.SparseField, name: str) -> tuple[Step, Step]:
    """Density or gradient of a field, and a factorisation of its precision."""
    return _field(problem, _density if name == "density" else _gradient)


def contests() -> Iterator[Contest]:
    """All lines of the table."""
    yield Contest("Normal, sparse", "1805 x 2583", "the same law, dense A", _network, 0.1)
    bare, field, square = "SuperLU of Q alone", "16000 nodes, 400 sums", "300 x 300, one sum"
    space_time = problems.space_time
    for name, use, limit in (("density", _density, 2200), ("and gradient", _gradient, 6400)):
        make = partial(lambda use: _field(space_time(), use), use)
        yield Contest("GMRF", f"{field}: {name}", bare, make, limit_ms=limit)
    for name, use in (("density", _density), ("draw", _draw)):
        make = partial(lambda use: _field(problems.lattice(), use), use)
        yield Contest("GMRF", f"{square}: {name}", bare, make, 2.0)
