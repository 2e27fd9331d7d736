"""``torch.jit.trace``, through which Pyro compiles potentials: other values, the same function.

A trace forgets ``no_grad``, and what Python looked at is a constant of it.
"""

import warnings

import numpy as np
import pytest
import torch
from scipy import sparse

from constrained_core import SparseMatrix
from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
)
from tests.on_pyro.models import tensor

# As Pyro has it: what validation looks at is constant.
pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")

ROWS = tensor([[1.0, 0.5, -1.0, 0.0], [0.0, 1.0, -1.0, 2.0]])
TURN = tensor([[0.0, 1.0, 0.5, -1.0], [1.0, 0.0, 0.0, 0.5]])
LOC, SCALE = tensor([0.1, -0.2, 0.3, 0.0]), tensor([1.0, 0.5, 2.0, 1.5])
WEIGHTS = tensor([1.0, -2.0, 0.5, 3.0])
NOISE = tensor([0.3, -0.7, 1.1, 0.4, -0.2])
POINT = tensor([0.4, 0.1, -0.3, 0.8])

LAWS = {
    "diagonal": lambda scale, A, k: ConstrainedNormal(LOC, scale, A, k),
    "number": lambda scale, A, k: ConstrainedNormal(LOC, scale[..., 0], A, k),
    "dense": lambda scale, A, k: ConstrainedMultivariateNormal(
        LOC, torch.outer(scale, scale) + scale.diag_embed(), A, k
    ),
    "precision": lambda scale, A, k: ConstrainedMultivariateNormal(
        LOC, A=A, k=k, precision_matrix=torch.outer(scale, scale) + scale.diag_embed()
    ),
    "low rank": lambda scale, A, k: ConstrainedLowRankMultivariateNormal(
        LOC, scale[:, None], scale, A, k
    ),
    "student": lambda scale, A, k: ConstrainedMultivariateStudentT(5.0, LOC, A=A, k=k, scale=scale),
}
MATRICES = {
    "fixed": lambda t: ROWS,
    "moving": lambda t: ROWS + t * TURN,
    "moving row": lambda t: ROWS[0] + t * TURN[0],
    "redundant": lambda t: torch.cat([ROWS + t * TURN, (ROWS + t * TURN).sum(0, keepdim=True)]),
}


def figures(name, matrix):
    """Density, entropy, evidence and a draw as functions of a number that moves all parameters."""

    def of(t):
        A = MATRICES[matrix](t)
        law = LAWS[name](SCALE * (0.3 * t).exp(), A, A @ POINT * (1 + t))
        conditional = law._conditional
        draw = conditional.draw(NOISE[: conditional.noise_size])
        density = law.log_prob(law.project(POINT))
        return torch.stack([density, law.entropy(), law.constraint_log_prob(), draw @ WEIGHTS])

    return of


@pytest.mark.parametrize("is_learned", [False, True])
@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        *((name, matrix) for name in LAWS for matrix in ("fixed", "moving")),
        ("dense", "moving row"),
        ("diagonal", "redundant"),
    ],
)
def test_a_traced_law_is_the_law(name, matrix, is_learned):
    function = figures(name, matrix)
    traced = torch.jit.trace(function, tensor(0.2).requires_grad_(is_learned), check_trace=False)
    for place, runs in ((-0.6, 3), (1.3, 1)):
        for _ in range(runs):  # the first runs are those of the profiler
            values, slopes = [], []
            for one in (traced, function):
                t = tensor(place).requires_grad_()
                value = one(t)
                slopes.append(
                    torch.stack([torch.autograd.grad(v, t, retain_graph=True)[0] for v in value])
                )
                values.append(value.detach())
        # Float64 of well conditioned laws: another order of the same sums.
        torch.testing.assert_close(*values, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


TABLE, TOTALS = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 2]]), torch.tensor([2, 1])
SPARSE_ROWS = SparseMatrix.of(sparse.csr_array(ROWS.numpy()))
PRECISION = SparseMatrix.of(
    sparse.csr_array(np.diag([2.0, 3, 3, 2]) - np.eye(4, k=1) - np.eye(4, k=-1))
)
ON_THE_HOST = {
    "diagonal": lambda t: ConstrainedNormal(
        LOC, SCALE * (t * WEIGHTS / 3).exp(), SPARSE_ROWS, ROWS @ POINT
    ),
    "low rank": lambda t: ConstrainedLowRankMultivariateNormal(
        LOC, t * SCALE[:, None], SCALE, SPARSE_ROWS, ROWS @ POINT * (1 + t)
    ),
    "learned rows": lambda t: ConstrainedNormal(
        LOC,
        SCALE,
        SPARSE_ROWS.with_values(tensor(SPARSE_ROWS.values) * (1 + t / 2)),
        (1 + t / 2) * (ROWS @ POINT),
    ),
    "field": lambda t: ConstrainedGMRF(
        LOC, PRECISION.with_values(tensor(PRECISION.values) * t.exp()), SPARSE_ROWS, ROWS @ POINT
    ),
}


@pytest.mark.parametrize("name", ON_THE_HOST)
def test_what_is_factored_on_the_host_is_no_constant(name):
    def function(t):
        law = ON_THE_HOST[name](t)
        own = law.log_prob(law.project(POINT)), law.constraint_log_prob(), law.entropy()
        return torch.stack([*own, law.variance.sum()])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(function, tensor(0.2), check_trace=False)
    for place in (0.2, -0.6, 1.3):
        t = tensor(place).requires_grad_()
        found, expected = (
            (one(t), *torch.autograd.grad(one(t).sum(), t)) for one in (traced, function)
        )
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


DISCRETE = {
    "poisson": lambda rate, A, k: ConstrainedPoisson(rate, A, k),
    "bernoulli": lambda rate, A, k: ConstrainedBernoulli(logits=rate - 1, A=A, k=k),
}


@pytest.mark.parametrize("is_table", [False, True])
@pytest.mark.parametrize("name", DISCRETE)
def test_a_traced_discrete_law_is_the_law(name, is_table):
    A, k = (TABLE, TOTALS) if is_table else (torch.ones(4), torch.tensor(2))
    point = tensor([1, 1, 0, 0]) if not is_table else tensor([1, 0, 1, 0])

    def function(t):
        law = DISCRETE[name](SCALE * (t * WEIGHTS).exp(), A, k)
        return law.log_prob(point) + law.constraint_log_prob()

    traced = torch.jit.trace(function, tensor(0.2), check_trace=False)
    for place in (0.2, -0.3):
        slopes = []
        for one in (traced, function):
            t = tensor(place).requires_grad_()
            slopes.append(torch.stack([*torch.autograd.grad(one(t), t), one(t).detach()]))
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


CROSSED, MARGINS = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]]), np.array([5, 6, 4])
CELLS = tensor([4.0, 1.0, 0.0, 6.0])
SPECIAL = {
    "product": (
        lambda p: ConstrainedPoisson(p, CROSSED, MARGINS),
        tensor([1.0, 1.0, 1.0, 1.0]),
        CELLS,
    ),
    "zero rate": (
        lambda p: ConstrainedPoisson(p, CROSSED, MARGINS),
        tensor([0.0, 1.0, 1.0, 1.0]),
        tensor([2.0, 3.0, 2.0, 4.0]),
    ),
    "certain": (
        lambda p: ConstrainedBernoulli(probs=p, A=CROSSED, k=np.array([1, 1, 1])),
        tensor([0.0, 0.5, 1.0, 0.5]),
        tensor([1.0, 0.0, 0.0, 1.0]),
    ),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_an_example_with_values_that_a_plan_would_leave_out(name):
    """Rates of product form, as where log odds start at 0, and probabilities of exactly 0 and 1 are
    those of the example: the program runs again with others."""
    make, example, x = SPECIAL[name]
    other = tensor([0.7, 0.2, 0.4, 0.6])
    for ask in (lambda law: law.log_prob(x), lambda law: law.constraint_log_prob()):
        traced = torch.jit.trace(lambda p, ask=ask: ask(make(p)), (example,), check_trace=False)
        for values in (example, other):
            torch.testing.assert_close(traced(values), ask(make(values)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["A", "k", "index"])
def test_what_is_planned_is_no_input(name):
    """A program would answer for the A or k of its example for good."""
    ask = {
        "A": lambda A: ConstrainedPoisson(SCALE, A, torch.tensor(2)).constraint_log_prob(),
        "k": lambda k: ConstrainedBernoulli(logits=LOC, A=torch.ones(4), k=k).mean,
        "index": lambda i: ConstrainedNormal(LOC, SCALE, GroupSum(i, 2), torch.ones(2)).mean,
    }[name]
    example = {"A": torch.ones(4), "k": torch.tensor(2), "index": torch.tensor([0, 0, 1, 1])}[name]
    with pytest.raises(ConstraintError, match=r"torch\.jit\.trace"):
        torch.jit.trace(ask, (example,), check_trace=False)


def test_draws_keep_no_gradient():
    def function(t):
        return ConstrainedNormal(LOC * t, SCALE, ROWS, ROWS @ POINT).sample() @ WEIGHTS

    traced = torch.jit.trace(function, tensor(0.2).requires_grad_(), check_trace=False)
    t = tensor(0.4).requires_grad_()
    assert not traced(t).requires_grad or torch.autograd.grad(traced(t), t)[0] == 0


def test_what_a_trace_leaves_behind_serves_a_compiled_step():
    """Sizes are tensors in a trace; what is kept of A there has numbers."""
    matrix = tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 0.0, 5.0]])  # unseen by other tests

    def variance(loc, scale):
        return ConstrainedMultivariateNormal(loc, A=matrix, k=side, scale_tril=scale).variance

    side, given = tensor([1.0, 2.0]), (LOC, SCALE.diag_embed())
    torch.jit.trace(variance, given, check_trace=False)
    compiled = torch.compile(variance, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given), variance(*given))
