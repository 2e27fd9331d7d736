"""Sparse A, held to the dense law of the same A."""

import copy
import pickle

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import sparse
from torch.distributions import biject_to, kl_divergence

from constrained_core import ConstraintError, InfeasibleConstraintError, SparseMatrix
from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    ConstrainedPoisson,
    constrain,
)
from pyro_constrained.kernels.linear import saddle

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

N = 10
RNG = np.random.default_rng(3)
# Two independent rows, one variable alone in a row, one row that depends on others, one empty row.
DENSE = RNG.standard_normal((5, N)) * (RNG.random((5, N)) < 0.5)
DENSE[2] = np.eye(N)[3] * 2
DENSE[3] = DENSE[0] - 2 * DENSE[1]
DENSE[4] = 0
INDEPENDENT = DENSE[:2] + 0.0
POINT = RNG.standard_normal(N)
POINT[3] = 0.0
K = torch.tensor(DENSE @ POINT)
LOC = torch.tensor(RNG.standard_normal(N))
SCALE = torch.tensor(np.exp(RNG.standard_normal(N)))
FACTOR = torch.tensor(RNG.standard_normal((N, 2)))

LAWS = {
    "diagonal": lambda loc, scale, A, k: ConstrainedNormal(loc, scale, A, k),
    "uniform": lambda loc, scale, A, k: ConstrainedNormal(loc, scale[..., :1], A, k),
    "low rank": lambda loc, scale, A, k: ConstrainedLowRankMultivariateNormal(
        loc, FACTOR.to(loc), scale**2, A, k
    ),
    "student": lambda loc, scale, A, k: ConstrainedMultivariateStudentT(
        5.0, loc, A=A, k=k, scale=scale
    ),
}
QUANTITIES = {
    "mean": lambda law: law.mean,
    "variance": lambda law: law.variance,
    "covariance": lambda law: law.covariance,
    "log_prob": lambda law: law.log_prob(_point_of(law)),
    "constraint_log_prob": lambda law: law.constraint_log_prob(),
    "entropy": lambda law: law.entropy(),
    "projection": lambda law: law.project(torch.ones(N)),
    "residual": lambda law: law.residual(torch.ones(N)),
    "expected_l2": lambda law: law.expected_l2(torch.ones(N)),
}
each_law = pytest.mark.parametrize("name", LAWS)


def _point_of(law):
    """On the subspace, but for what no parameter reaches."""
    return law.project(torch.linspace(-1, 1, N)).detach()


def _as_leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def _slopes(value, leaves):
    weights = torch.linspace(0.5, 1.0, value.numel()).reshape(value.shape)
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)
    pairs = zip(found, leaves, strict=True)
    return [torch.zeros_like(leaf) if one is None else one for one, leaf in pairs]


def _assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("quantity", QUANTITIES)
@each_law
def test_values_and_derivatives_are_those_of_the_dense_law(name, quantity):
    results = []
    for A in (sparse.csr_array(DENSE), DENSE):
        leaves = _as_leaves(LOC, SCALE)
        value = QUANTITIES[quantity](LAWS[name](*leaves, A, K))
        results.append((value.detach(), *_slopes(value, leaves)))
    for one, other in zip(*results, strict=True):
        _assert_same(one, other)


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", ["diagonal", "low rank"])
def test_learned_and_batched_values_have_the_dense_derivatives(name, quantity, shape):
    pattern = SparseMatrix.of(sparse.csr_array(INDEPENDENT))
    spread = 0.1 * torch.randn((*shape, len(pattern.row)))
    values = torch.tensor(pattern.values) + spread
    k, scale = torch.randn(3, 2), torch.rand(3, N) + 0.5
    results = []
    for is_sparse in (True, False):
        (leaf,) = _as_leaves(values)
        A = pattern.with_values(leaf) if is_sparse else _filled(pattern, leaf)
        value = QUANTITIES[quantity](LAWS[name](LOC, scale, A, k))
        results.append((value.detach(), *_slopes(value, [leaf])))
    for one, other in zip(*results, strict=True):
        _assert_same(one, other)


def _filled(pattern, values):
    index = torch.tensor(pattern.row * N + pattern.column)
    flat = torch.zeros((*values.shape[:-1], 2 * N)).index_copy(-1, index, values)
    return flat.unflatten(-1, (2, N))


@each_law
def test_draws_obey_the_constraint_to_the_last_bits(name):
    for dtype in (torch.float64, torch.float32):
        parameters = [one.to(dtype) for one in (LOC, SCALE)]
        law = LAWS[name](*parameters, sparse.csr_array(DENSE), K.to(dtype))
        _assert_residual(law, law.sample((20,)), DENSE)
        assert law.sample().dtype == law.mean.dtype == law.variance.dtype == dtype
        assert (law.sample((20,))[..., 3] == 0).all()


def _assert_residual(law, draws, A):
    draws, k = draws.double().numpy(), law.k.double().numpy()
    size = np.abs(draws) @ np.abs(A).T + np.abs(k)
    gap = np.abs(draws @ A.T - k)
    assert (gap <= 4 * torch.finfo(law.loc.dtype).eps * size).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_badly_scaled_rows_and_variables(dtype):
    """Incidences of a network, every row of which is minus the sum of all others."""
    nodes, n = 12, 30
    ends = np.concatenate([[(i, i - 1) for i in range(1, nodes)], RNG.integers(0, nodes, (19, 2))])
    ends[:, 1] = np.where(ends[:, 0] == ends[:, 1], (ends[:, 0] + 1) % nodes, ends[:, 1])
    A = np.zeros((nodes, n))
    A[ends[:, 0], np.arange(n)], A[ends[:, 1], np.arange(n)] = 1, -1
    scale = torch.tensor(10.0 ** RNG.uniform(-3, 3, n), dtype=dtype)
    law = ConstrainedNormal(0.0, scale, sparse.csr_array(A), torch.zeros(nodes, dtype=dtype))
    assert law.rank == nodes - 1
    _assert_residual(law, law.sample((20,)), A)
    tilted = A * 10.0 ** RNG.uniform(-6, 6, (nodes, 1))
    law = ConstrainedNormal(
        0.0, torch.ones(n, dtype=dtype), sparse.csr_array(tilted), torch.zeros(nodes, dtype=dtype)
    )
    _assert_residual(law, law.sample((20,)), tilted)


@pytest.mark.parametrize("A", [np.zeros((0, N)), np.eye(N) + np.eye(N, k=1), np.zeros((2, N))])
def test_no_row_and_as_many_rows_as_variables(A):
    k = torch.tensor(A @ POINT)
    one, other = (ConstrainedNormal(LOC, SCALE, matrix, k) for matrix in (sparse.csr_array(A), A))
    x = one.sample((2,))
    _assert_same(one.log_prob(x), other.log_prob(x))
    for quantity in ("mean", "variance", "entropy", "constraint_log_prob"):
        _assert_same(QUANTITIES[quantity](one), QUANTITIES[quantity](other))


def test_one_variable():
    law = ConstrainedNormal(0.0, torch.ones(1), sparse.csr_array([[2.0]]), torch.tensor([3.0]))
    assert law.sample().item() == 1.5 and law.variance.item() == 0 and law.entropy() == 0


def test_every_kind_of_sparse_matrix():
    A = torch.tensor(INDEPENDENT)
    k = torch.zeros(2)
    expected = ConstrainedNormal(LOC, SCALE, A, k).mean
    matrix = SparseMatrix.of(sparse.csr_array(INDEPENDENT))
    kinds = [A.to_sparse(), A.to_sparse_csr(), sparse.coo_matrix(INDEPENDENT)]
    kinds += [
        sparse.lil_array(INDEPENDENT),
        matrix,
        matrix.with_values(torch.tensor(matrix.values)),
    ]
    for kind in kinds:
        law = ConstrainedNormal(LOC, SCALE, kind, k)
        assert isinstance(law.A, SparseMatrix) and law.A.shape == (2, N)
        _assert_same(law.mean, expected)


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_gradients_reach_a_sparse_tensor(layout):
    A = getattr(torch.tensor(INDEPENDENT), layout)().requires_grad_()
    dense = torch.tensor(INDEPENDENT).requires_grad_()
    (slope,) = torch.autograd.grad(ConstrainedNormal(LOC, SCALE, A, torch.zeros(2)).entropy(), A)
    (expected,) = torch.autograd.grad(
        ConstrainedNormal(LOC, SCALE, dense, torch.zeros(2)).entropy(), dense
    )
    _assert_same(slope.to_dense(), torch.where(dense != 0, expected, 0.0))


def test_laws_that_hold_dense_matrices_take_the_dense_form():
    A = sparse.csr_array(INDEPENDENT)
    law = ConstrainedMultivariateNormal(LOC, torch.eye(N), A, torch.zeros(2))
    _assert_same(law.mean, ConstrainedNormal(LOC, 1.0, A, torch.zeros(2)).mean)
    student = ConstrainedMultivariateStudentT(5.0, LOC, torch.eye(N), A, torch.zeros(2))
    _assert_same(student.mean, law.mean)
    counts = sparse.csr_array(np.array([[1, 1, 0], [0, 1, 1]]))
    sparse_law = ConstrainedPoisson(torch.ones(3), counts, torch.tensor([2, 3]))
    dense_law = ConstrainedPoisson(torch.ones(3), counts.toarray(), torch.tensor([2, 3]))
    _assert_same(sparse_law.mean, dense_law.mean)
    values = SparseMatrix.of(A)
    (leaf,) = _as_leaves(torch.tensor(values.values))
    learned = ConstrainedMultivariateNormal(
        LOC, torch.eye(N), values.with_values(leaf), torch.zeros(2)
    )
    learned.entropy().backward()
    assert leaf.grad.shape == leaf.shape


def test_divergences():
    A = sparse.csr_array(DENSE)
    laws = [[LAWS[name](LOC, SCALE, A, K) for name in ("diagonal", "low rank")] for A in (A, DENSE)]
    wide = [LAWS["diagonal"](LOC + 1, SCALE + 1, A, K) for A in (A, DENSE)]
    for sparse_law, dense_law in zip(*laws, strict=True):
        _assert_same(kl_divergence(sparse_law, wide[0]), kl_divergence(dense_law, wide[1]))
        _assert_same(kl_divergence(wide[0], sparse_law), kl_divergence(wide[1], dense_law))
        _assert_same(kl_divergence(wide[0], dense_law), kl_divergence(wide[1], dense_law))
    with pytest.raises(ConstraintError, match="same subspace"):
        kl_divergence(wide[0], LAWS["diagonal"](LOC, SCALE, sparse.csr_array(INDEPENDENT), K[:2]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda law: pickle.loads(pickle.dumps(law))])
def test_a_law_is_copied(copied):
    law = ConstrainedNormal(LOC, SCALE, sparse.csr_array(DENSE), K)
    value = law.sample()
    again = copied(law)
    _assert_same(again.log_prob(value), law.log_prob(value))
    _assert_same(again.variance, law.variance)
    transform = biject_to(again.support)
    _assert_same(transform(transform.inv(value)), value)


def test_expansion_repr_and_constrain():
    law = constrain(dist.Normal(LOC, SCALE).to_event(1), sparse.csr_array(DENSE), K)
    assert "A: (5, 10)" in repr(law) and "entries" in repr(law.A)
    wide = law.expand((4, 2))
    assert wide.sample((3,)).shape == (3, 4, 2, N)
    assert wide.log_prob(wide.sample()).shape == (4, 2)
    assert wide.variance.shape == (4, 2, N)


def test_errors():
    A = sparse.csr_array(DENSE)
    with pytest.raises(InfeasibleConstraintError, match="row"):
        ConstrainedNormal(LOC, SCALE, A, K + torch.eye(5)[3])
    with pytest.raises(ConstraintError, match="expected finite"):
        ConstrainedNormal(LOC, SCALE, A * np.nan, K)
    with pytest.raises(ConstraintError, match="real numbers"):
        ConstrainedNormal(LOC, SCALE, A * 1j, K)
    with pytest.raises(ConstraintError, match=r"k: expected shape \(\*batch, 5\)"):
        ConstrainedNormal(LOC, SCALE, A, K[:2])
    matrix = SparseMatrix.of(A)
    learned = matrix.with_values(torch.tensor(matrix.values, requires_grad=True))
    for scale in (SCALE, 1.0):
        with pytest.raises(
            torch.linalg.LinAlgError, match=r"independent rows .* rows \[3, 4\] follow"
        ):
            ConstrainedNormal(LOC, scale, learned, K)
    batch = matrix.with_values(torch.tensor(matrix.values) * torch.ones(2, 1))
    with pytest.raises(ConstraintError, match="some rows follow"):
        ConstrainedNormal(LOC, SCALE, batch, K)
    with pytest.raises(ConstraintError, match="shape"):
        ConstrainedNormal(LOC, SCALE, torch.zeros(2, 2, N).to_sparse(), K[:2])
    with pytest.raises(NotImplementedError, match="once"):
        torch.func.hessian(lambda s: ConstrainedNormal(LOC, s, A, K).variance.sum())(SCALE)


# torch.func


def test_transformations():
    matrix = SparseMatrix.of(sparse.csr_array(INDEPENDENT))
    values = torch.tensor(matrix.values) + 0.1 * torch.randn(3, len(matrix.row))
    k = torch.randn(3, 2)

    def score(values, k, is_sparse=True):
        A = matrix.with_values(values) if is_sparse else _filled(matrix, values)
        law = ConstrainedNormal(LOC, SCALE, A, k)
        return law.log_prob(law._conditional.from_base(torch.ones(N)))

    one_by_one = torch.stack([score(*pair) for pair in zip(values, k, strict=True)])
    _assert_same(torch.func.vmap(score)(values, k), one_by_one)
    slopes = torch.func.vmap(torch.func.grad(score))(values, k)
    for transform in (torch.func.grad, torch.func.jacfwd):
        expected = torch.stack(
            [
                transform(lambda v, k=k: score(v, k, False))(v)
                for v, k in zip(values, k, strict=True)
            ]
        )
        _assert_same(slopes, expected)
    for transform in (torch.func.hessian, lambda f: torch.func.jacrev(torch.func.jacrev(f))):
        entropies = [
            lambda scale, A=A: ConstrainedNormal(LOC, scale, A, K).entropy()
            for A in (sparse.csr_array(DENSE), DENSE)
        ]
        _assert_same(*(transform(one)(SCALE) for one in entropies))


def test_values_that_are_not_known_give_nan_where_there_is_no_law():
    matrix = SparseMatrix.of(sparse.csr_array(INDEPENDENT))
    values = torch.tensor(matrix.values) * torch.tensor([[1.0], [0.0]])

    def entropy(values):
        return ConstrainedNormal(LOC, SCALE, matrix.with_values(values), torch.zeros(2)).entropy()

    assert torch.func.vmap(entropy)(values).isnan().tolist() == [False, True]


def test_a_compiled_step_is_one_graph():
    A = sparse.csr_array(DENSE)

    def step(loc, scale):
        law = ConstrainedNormal(loc, scale, A, K)
        x = law._conditional.draw(torch.ones(N))
        return law.log_prob(x) + law.entropy() + law.variance.sum() + (x**2).sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for _ in range(2):  # again with other values
        leaves = _as_leaves(torch.randn(N), torch.rand(N) + 0.5)
        one, other = compiled(*leaves), step(*leaves)
        _assert_same(one, other)
        for slope, expected in zip(_slopes(one, leaves), _slopes(other, leaves), strict=True):
            _assert_same(slope, expected)


def _known(law, x):
    divergence = kl_divergence(law, law.expand(law.batch_shape))
    return torch.stack([law.project(x), law.mean, law.expected_l1(x)]) + divergence


def _moved(law, x):
    transform = biject_to(law.support)
    free = x[: N - int(law.rank)]
    there = transform(free)
    back = transform.inv(there) + transform.log_abs_det_jacobian(free, there)
    return torch.cat([there, back]) * law.log_prob(there)


ASKED = {"law": _known, "transform": _moved}


@pytest.mark.parametrize("name", ASKED)
def test_a_compiled_step_is_the_first_to_see_a_matrix(name):
    """What the host makes of A is made when a step is compiled."""
    new = DENSE * (2.0 + list(ASKED).index(name))
    A, k, x = sparse.csr_array(new), torch.tensor(new @ POINT), torch.linspace(-1.0, 1.0, N)

    def step(scale):
        return ASKED[name](ConstrainedNormal(LOC, scale, A, k), x)

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    for scale in (SCALE.clone(), 2 * SCALE.flip(0)):
        (leaf,) = leaves = _as_leaves(scale)
        one, other = compiled(leaf), step(leaf)
        _assert_same(one, other)
        _assert_same(_slopes(one, leaves), _slopes(other, leaves))


def _with_a_tensor(matrix):
    matrix = SparseMatrix.of(matrix)
    return matrix.with_values(torch.tensor(matrix.values))


@pytest.mark.parametrize(
    "kind",
    [sparse.csr_array, sparse.coo_array, sparse.csc_matrix, SparseMatrix.of, _with_a_tensor],
    ids=["csr", "coo", "csc", "own", "tensor"],
)
def test_a_compiled_step_is_never_stale(kind):
    """Entries that change in place give NaN: the plan is of those at compilation."""
    A = kind(sparse.csr_array(INDEPENDENT))
    k = torch.tensor(INDEPENDENT @ POINT)

    def step(scale):
        law = ConstrainedNormal(LOC, scale, A, k)
        return law.mean, law.variance, biject_to(law.support)(LOC[: N - 2]), law.entropy()

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    for one, other in zip(compiled(SCALE), step(SCALE), strict=True):
        _assert_same(one, other)
    entries = A.values if isinstance(A, SparseMatrix) else A.data
    entries[0] += 1.0
    assert all(one.isnan().any() for one in compiled(SCALE))


@pytest.mark.parametrize(
    "kind", [sparse.csr_array, SparseMatrix.of, _with_a_tensor], ids=["csr", "own", "tensor"]
)
def test_dense_laws_make_a_matrix_dense_inside_of_transformations(kind):
    A, k = kind(sparse.csr_array(INDEPENDENT)), torch.tensor(INDEPENDENT @ POINT)
    root = torch.eye(N, dtype=torch.float64) + FACTOR @ FACTOR.T / N
    tril, x = torch.linalg.cholesky(root), torch.tensor(POINT)

    def step(loc, A=A):
        normal = ConstrainedMultivariateNormal(loc, root, A, k)
        student = ConstrainedMultivariateStudentT(5.0, loc, tril, A, k)
        return normal.log_prob(x) + student.log_prob(x) + normal.mean[0]

    def by_dense(loc):
        return step(loc, INDEPENDENT)

    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
        _assert_same(transform(step)(LOC), transform(by_dense)(LOC))
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    _assert_same(compiled(LOC), by_dense(LOC))
    entries = A.values if isinstance(A, SparseMatrix) else A.data
    entries[0] += 1.0
    assert compiled(LOC).isnan()


def test_a_law_that_scores_many_values_solves_once(monkeypatch):
    """What the constraint says of loc does not depend on the value."""
    law = ConstrainedNormal(
        torch.zeros(4), torch.ones(4), sparse.csr_array(np.eye(2, 4)), [1.0, 2.0]
    )
    x, solved = law.mean, []
    solve = saddle.host_solve
    monkeypatch.setattr(saddle, "host_solve", lambda *given: solved.append(1) or solve(*given))
    assert len({float(law.log_prob(x)) for _ in range(3)}) == 1
    assert not solved


def test_a_learned_scale_beside_flows_that_are_not_measured():
    """Many values of it under torch.func, with gradients: those of the dense law."""
    is_measured = torch.arange(N) % 3 > 0

    def figures(t, matrix):
        scale = torch.where(is_measured, t.exp() * SCALE, 1e6)
        law = ConstrainedNormal(LOC, scale, matrix, INDEPENDENT @ POINT)
        return law.constraint_log_prob() + law.entropy()

    def run(matrix):
        score = torch.func.grad_and_value(lambda t: figures(t, matrix))
        return torch.func.vmap(score)(torch.linspace(-3.0, 3.0, 5, dtype=torch.float64))

    expected = run(INDEPENDENT)
    for found, value in zip(run(sparse.csr_array(INDEPENDENT)), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)
