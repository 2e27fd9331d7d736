"""Fields that are made inside of a step that ``torch.compile`` takes whole."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.distributions import kl_divergence

from constrained_core import SparseMatrix
from pyro_constrained import ConstrainedGMRF
from tests.on_pyro.fields import DIFFERENCES, INTRINSIC, N, assert_same
from tests.on_pyro.test_gmrf import CONSTRAINTS, LOC, PROPER

POINT = torch.linspace(-1, 1, N, dtype=torch.float64)
PLANNED = [name for name in CONSTRAINTS if name != "learned"]


def _tensors(matrix):
    entries = SparseMatrix.of(matrix)
    return entries.with_values(torch.tensor(entries.values))


def _compiled(step, backend="aot_eager"):
    torch._dynamo.reset()
    return torch.compile(step, fullgraph=True, backend=backend)


@pytest.mark.parametrize("constraint", PLANNED)
def test_a_step_with_a_learned_precision_is_one_graph(constraint):
    (A, k), precision, root = CONSTRAINTS[constraint], _tensors(INTRINSIC), _tensors(DIFFERENCES)
    noise = torch.linspace(1, 2, root.shape[0], dtype=torch.float64)

    def step(loc, tau):
        law = ConstrainedGMRF(
            loc,
            precision.with_values(tau * precision.values),
            A,
            k,
            precision_root=root.with_values(tau.sqrt() * root.values),
        )
        draw = law._conditional.draw(noise)
        divergence = kl_divergence(law, ConstrainedGMRF(0.0 * loc, PROPER, A, k))
        score = law.log_prob(law.project(POINT)) + law.variance[1] + law.covariance[0, 1]
        return score + (draw**3).sum(), law.entropy() + divergence

    compiled = _compiled(step)
    for tau in (0.7, 2.5):  # again with another value
        leaves = LOC.clone().requires_grad_(), torch.tensor(tau, requires_grad=True)
        found, expected = compiled(*leaves), step(*leaves)
        assert_same(found, expected)
        slopes, right = (torch.autograd.grad(sum(parts), leaves) for parts in (found, expected))
        assert_same(slopes, right)


@pytest.mark.parametrize(
    "kind",
    [sparse.csr_array, sparse.coo_array, SparseMatrix.of, _tensors],
    ids=["csr", "coo", "own", "tensors"],
)
def test_a_known_precision_is_read_once_and_never_stale(kind):
    precision = kind(PROPER.copy())
    A, k = CONSTRAINTS["sparse"]

    def step(loc):
        law = ConstrainedGMRF(loc, precision, A, k)
        return law.mean, law.covariance, law.constraint_log_prob(), law.crps(POINT)

    compiled = _compiled(step, "eager")
    assert_same(compiled(LOC), step(LOC))
    values = precision.values if isinstance(precision, SparseMatrix) else precision.data
    values[np.arange(len(values)) == 0] = 9.0
    if kind is _tensors:  # a tensor is an input of the step
        assert_same(compiled(LOC), step(LOC))
    else:
        assert all(part.isnan().any() for part in compiled(LOC))


def test_draws_without_a_root():
    A, k = CONSTRAINTS["groups"]
    precision = _tensors(PROPER)

    def draw(tau):
        law = ConstrainedGMRF(LOC, precision.with_values(tau * precision.values), A, k)
        return law._conditional.draw(noise)

    noise = torch.linspace(-1, 2, N + 2, dtype=torch.float64)
    compiled = _compiled(draw, "eager")
    assert_same(compiled(torch.tensor(1.3)), draw(torch.tensor(1.3)))
    with pytest.raises(NotImplementedError, match="give precision_root"):
        compiled(torch.tensor(1.3, requires_grad=True)).sum().backward()


def test_no_law_is_nan():
    """What cannot be refused while a graph runs."""
    A, k = CONSTRAINTS["one sum"]
    precision = _tensors(PROPER)

    def score(tau):
        law = ConstrainedGMRF(LOC, precision.with_values(tau * precision.values), A, k)
        return law.entropy()

    compiled = _compiled(score, "eager")
    assert compiled(torch.tensor(1.0)).isfinite()
    assert compiled(torch.tensor(-1.0)).isnan()
