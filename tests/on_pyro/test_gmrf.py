"""Gaussian Markov random fields given A x = k, held to dense laws and to SciPy."""

import copy
import pickle

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import sparse, stats
from torch.distributions import biject_to, kl_divergence

from constrained_core import ConstraintError, ParameterError, SparseMatrix
from pyro_constrained import (
    ConstrainedGMRF,
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    GroupSum,
)
from tests.chance import assert_likely, of_moments
from tests.intrinsic_fields import INTRINSIC_FIELDS, SINGULAR
from tests.on_pyro.fields import DIFFERENCES, INTRINSIC, N, assert_same, times

RNG = np.random.default_rng(5)
PROPER_ROOT = sparse.csr_array(sparse.vstack([DIFFERENCES, 0.6 * sparse.eye_array(N)]))
PROPER = sparse.csr_array(PROPER_ROOT.T @ PROPER_ROOT)
FIELDS = {"intrinsic": (INTRINSIC, DIFFERENCES), "proper": (PROPER, PROPER_ROOT)}
LOC = torch.tensor(RNG.standard_normal(N))
FACTOR = torch.linspace(-1, 1, 2 * N, dtype=torch.float64).cos().reshape(N, 2)

REDUNDANT = np.stack([np.ones(N), np.eye(N)[0] - np.eye(N)[4], 2 * np.ones(N)])
CONSTRAINTS = {
    "one sum": (np.ones(N), torch.tensor(0.7)),
    "sparse": (sparse.csr_array(REDUNDANT), torch.tensor([0.7, 0.1, 1.4])),
    "groups": (GroupSum([0] * 5 + [1] * 4, 2), torch.tensor([1.0, 2.0])),
    "dense": (RNG.standard_normal((3, N)), torch.tensor([1.0, 2.0, 3.0])),
    "learned": (torch.tensor(RNG.standard_normal((2, N)), requires_grad=True), torch.ones(2)),
}
QUANTITIES = {
    "mean": lambda law: law.mean,
    "variance": lambda law: law.variance,
    "covariance": lambda law: law.covariance,
    "log_prob": lambda law: law.log_prob(law.project(torch.linspace(-1, 1, N)).detach()),
    "entropy": lambda law: law.entropy(),
    "expected_l1": lambda law: law.expected_l1(torch.ones(N)),
    "expected_l2": lambda law: law.expected_l2(torch.ones(N)),
    "crps": lambda law: law.crps(torch.ones(N)),
}
each_field = pytest.mark.parametrize("field", FIELDS)
each_constraint = pytest.mark.parametrize("constraint", CONSTRAINTS)


def _field(field, constraint, tau, loc=LOC, k=None, has_root=True):
    """A law whose precision is learned by a factor."""
    (precision, root), (A, given) = FIELDS[field], CONSTRAINTS[constraint]
    return ConstrainedGMRF(
        loc,
        times(precision, tau),
        A,
        given if k is None else k,
        precision_root=times(root, tau.sqrt()) if has_root else None,
    )


def _dense(field, constraint, tau, loc=LOC, k=None):
    (precision, _), (A, given) = FIELDS[field], CONSTRAINTS[constraint]
    A = A.toarray() if sparse.issparse(A) else A
    precision = tau * torch.tensor(precision.toarray())
    return ConstrainedMultivariateNormal(
        loc, precision_matrix=precision, A=A, k=given if k is None else k
    )


def _leaves(constraint):
    A, _ = CONSTRAINTS[constraint]
    leaves = [torch.tensor(2.3, requires_grad=True), LOC.clone().requires_grad_()]
    return leaves, [A] if isinstance(A, torch.Tensor) else []


@pytest.mark.parametrize("quantity", QUANTITIES)
@each_constraint
@each_field
def test_values_and_derivatives_are_those_of_the_dense_law(field, constraint, quantity):
    results = []
    for make in (_field, _dense):
        (tau, loc), learned = _leaves(constraint)
        # Off the subspace a density has no meaning: how it goes on there, with A, is free.
        leaves = [tau, loc] if quantity == "log_prob" else [tau, loc, *learned]
        value = QUANTITIES[quantity](make(field, constraint, tau, loc))
        weights = torch.linspace(0.5, 1.0, value.numel()).reshape(value.shape)
        slopes = torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)
        slopes = [torch.zeros(()) if one is None else one for one in slopes]
        results.append((value.detach(), *slopes))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other.expand_as(one), rtol=1e-8, atol=1e-8)


@each_constraint
@each_field
def test_density_is_that_of_scipy(field, constraint):
    law = _field(field, constraint, torch.tensor(2.3))
    x = law.sample((3,)).numpy()
    mean, covariance = law.mean.detach().numpy(), law.covariance.detach().numpy()
    expected = stats.multivariate_normal(mean, covariance, allow_singular=True).logpdf(x)
    assert_same(law.log_prob(torch.tensor(x)).detach(), torch.tensor(expected))


@each_constraint
def test_density_of_the_constraint(constraint):
    results = []
    for make in (_field, _dense):
        tau, k = torch.tensor(2.3, requires_grad=True), CONSTRAINTS[constraint][1].clone()
        leaves = [tau, k.requires_grad_()]
        value = make("proper", constraint, tau, k=k).constraint_log_prob()
        results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for one, other in zip(*results, strict=True):
        assert_same(one, other)
    x = torch.ones(N)
    one, other = (make("proper", constraint, torch.tensor(2.3)) for make in (_field, _dense))
    assert_same(one.base_dist.log_prob(x), other.base_dist.log_prob(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("has_root", [True, False])
@each_constraint
@each_field
def test_draws(field, constraint, has_root, dtype):
    (precision, root), (A, k) = FIELDS[field], CONSTRAINTS[constraint]
    A = A.detach() if isinstance(A, torch.Tensor) else A
    law = ConstrainedGMRF(
        LOC.to(dtype),
        times(precision, torch.ones((), dtype=dtype)),
        A,
        k.to(dtype),
        precision_root=times(root, torch.ones((), dtype=dtype)) if has_root else None,
    )
    draws = law.sample((500,))
    assert draws.dtype == law.mean.dtype == law.variance.dtype == law.entropy().dtype == dtype
    rows = {"one sum": np.ones((1, N)), "groups": getattr(A, "to_dense", lambda: None)()}
    matrix = rows.get(constraint, A)
    matrix = matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
    exact, sides = draws.double().numpy(), np.atleast_1d(law.k.double().numpy())
    size = np.abs(exact) @ np.abs(matrix).T + np.abs(sides)
    gap = np.abs(exact @ matrix.astype(np.float32 if dtype == torch.float32 else float).T - sides)
    assert (gap <= 4 * torch.finfo(dtype).eps * size).all()
    if dtype == torch.float64:
        assert_likely(of_moments(exact, law.mean.numpy(), law.covariance.numpy()))


def test_pathwise_gradients_are_exact():
    def second_moment(tau):
        law = _field("intrinsic", "sparse", tau)
        noise = torch.linspace(-2, 2, law._conditional.noise_size).cos()
        return (law._conditional.from_base(noise) ** 2).sum()

    tau = torch.tensor(1.3, requires_grad=True)
    assert torch.autograd.gradcheck(second_moment, tau)


def test_a_learned_row_of_zeros_constrains_nothing():
    for shape in ((N,), (1, N)):
        row = torch.zeros(shape, requires_grad=True)
        law = ConstrainedGMRF(LOC, PROPER, row, torch.zeros(shape[:-1]))
        assert_same(law.covariance, torch.linalg.inv(torch.tensor(PROPER.toarray())))
    ranks = torch.stack([torch.zeros(1, N), torch.ones(1, N)])
    with pytest.raises(ConstraintError, match=r"one rank.*got ranks \[0, 1\]"):
        ConstrainedGMRF(LOC, PROPER, ranks, torch.zeros(1))


def test_noise_of_a_value_gives_the_value():
    for field in FIELDS:
        law = _field(field, "sparse", torch.tensor(1.3))._conditional
        value = law.draw(torch.randn(4, law.noise_size))
        assert_same(law.from_base(law.to_base(value)), value)
        assert law.base_size == law.noise_size


@each_field
def test_divergences(field):
    for constraint in ("one sum", "sparse", "groups"):
        A, k = CONSTRAINTS[constraint]
        tau, wide = torch.tensor(1.3, requires_grad=True), torch.tensor(0.4)
        p, q = (make(field, constraint, tau) for make in (_field, _dense))
        other = _field("proper", constraint, wide, LOC + 1)
        dense_other = _dense("proper", constraint, wide, LOC + 1)
        independent = ConstrainedNormal(LOC, 0.7, A, k)
        for one, another in ((p, other), (p, dense_other), (other, p), (dense_other, p)):
            first = q if one is p else dense_other
            second = q if another is p else dense_other
            assert_same(kl_divergence(one, another), kl_divergence(first, second))
        assert_same(kl_divergence(p, independent), kl_divergence(q, independent))
        assert_same(kl_divergence(independent, p), kl_divergence(independent, q))
        low_rank = ConstrainedLowRankMultivariateNormal(LOC, FACTOR, 0.5 * torch.ones(N), A, k)
        assert_same(kl_divergence(p, low_rank), kl_divergence(q, low_rank))
        assert_same(kl_divergence(low_rank, p), kl_divergence(low_rank, q))
        (slope,) = torch.autograd.grad(kl_divergence(p, other), tau)
        (expected,) = torch.autograd.grad(kl_divergence(q, dense_other), tau)
        assert_same(slope, expected)


def test_batches():
    tau = torch.rand(4, 1) + 0.5
    k = torch.randn(3, 1)
    law = _field("intrinsic", "one sum", tau, k=k)
    dense = ConstrainedMultivariateNormal(
        LOC, precision_matrix=tau[..., None] * torch.tensor(INTRINSIC.toarray()), A=np.ones(N), k=k
    )
    assert law.batch_shape == (3, 4) and law.rsample((2,)).shape == (2, 3, 4, N)
    x = dense.sample((2,))
    assert_same(law.log_prob(x), dense.log_prob(x))
    assert_same(law.variance, dense.variance)
    wide = law.expand((2, 3, 4))
    assert wide.precision_matrix.shape == (2, 3, 4, N, N)
    assert wide.sample().shape == (2, 3, 4, N)
    shapes = ConstrainedGMRF.infer_shapes(
        loc=(), precision_matrix=(4, N, N), precision_root=(12, N), A=(N,), k=(3, 1)
    )
    assert shapes == ((3, 4), (N,))


def test_small_and_degenerate_fields():
    one = ConstrainedGMRF(
        torch.zeros(1), sparse.csr_array([[4.0]]), np.zeros((0, 1)), torch.zeros(0)
    )
    x = torch.tensor([0.3])
    assert_same(one.log_prob(x), dist.Normal(0.0, 0.5).log_prob(x[0]))
    point = ConstrainedGMRF(torch.zeros(1), sparse.csr_array((1, 1)), np.ones(1), torch.tensor(2.0))
    assert point.sample().item() == 2 and point.variance.item() == 0 and point.entropy() == 0
    free = ConstrainedGMRF(LOC, PROPER, np.zeros((0, N)), torch.zeros(0))
    assert_same(free.variance, torch.tensor(np.diagonal(np.linalg.inv(PROPER.toarray())).copy()))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda law: pickle.loads(pickle.dumps(law))])
def test_a_law_is_copied(copied):
    law = _field("intrinsic", "sparse", torch.tensor(1.3))
    value = law.sample()
    again = copied(law)
    assert_same(again.log_prob(value), law.log_prob(value))
    assert "precision_matrix: (9, 9)" in repr(again)


def test_two_islands_and_one_sum_leave_one_direction_free():
    islands = sparse.csr_array(sparse.block_diag([INTRINSIC, INTRINSIC]))
    with pytest.raises(ParameterError, match="leaves 1 direction free"):
        ConstrainedGMRF(0.0, islands, np.ones(2 * N), 0.0)
    ConstrainedGMRF(0.0, islands, GroupSum([0] * N + [1] * N, 2), torch.zeros(2)).entropy()


def test_errors():
    ones, zero = np.ones(N), torch.tensor(0.0)
    asymmetric = INTRINSIC.copy()
    asymmetric[0, 1] = 3.0
    wrong = {
        "expected a sparse matrix": INTRINSIC.toarray(),
        "both triangles": sparse.csr_array(sparse.tril(INTRINSIC)),
        "expected 9 columns": sparse.eye_array(4).tocsr(),
        "a symmetric matrix": asymmetric,
        "negative along": -INTRINSIC,
        "finite values": INTRINSIC * np.nan,
    }
    for message, precision in wrong.items():
        with pytest.raises(ConstraintError, match=message):
            ConstrainedGMRF(LOC, precision, ones, zero, validate_args=True)
    with pytest.raises(ParameterError, match="D'D = precision_matrix"):
        ConstrainedGMRF(
            LOC, INTRINSIC, ones, zero, precision_root=2 * DIFFERENCES, validate_args=True
        )
    law = _field("intrinsic", "one sum", torch.tensor(1.0, requires_grad=True), has_root=False)
    with pytest.raises(ParameterError, match="positive definite, as the law without"):
        law.constraint_log_prob()
    with pytest.raises(ParameterError, match="positive definite, as the law without"):
        _ = law.base_dist
    with pytest.raises(NotImplementedError, match="precision_root"):
        law.rsample().sum().backward()
    with pytest.raises(ParameterError, match="precision_root"):
        law._conditional.to_base(law.mean)


def test_transformations():
    x = _field("intrinsic", "one sum", torch.tensor(1.0)).sample()

    def score(tau):
        return _field("intrinsic", "one sum", tau, has_root=False).log_prob(x)

    def dense_score(tau):
        return _dense("intrinsic", "one sum", tau).log_prob(x)

    tau = torch.tensor([0.5, 2.0])
    assert_same(torch.func.vmap(torch.func.grad(score))(tau), _each(torch.func.grad(dense_score)))
    assert_same(_each(torch.func.jacfwd(score)), _each(torch.func.grad(dense_score)))
    assert_same(_each(torch.func.hessian(score)), _each(torch.func.hessian(dense_score)))
    assert torch.func.vmap(score)(torch.tensor([1.0, -1.0])).isnan().tolist() == [False, True]


def _each(function):
    return torch.stack([function(torch.tensor(tau)) for tau in (0.5, 2.0)])


def test_coordinates_of_the_support():
    for constraint in ("one sum", "sparse"):
        law = _field("intrinsic", constraint, torch.tensor(1.3))
        transform = biject_to(law.support)
        value = law.sample()
        assert_same(transform(transform.inv(value)), value)
        assert transform.basis == ("elimination" if constraint == "sparse" else "isometry")


def test_a_draw_without_a_root_has_derivatives_in_a_learned_matrix():
    Q = sparse.diags_array([[-1.0] * 5, [2.5] * 6, [-1.0] * 5], offsets=[-1, 0, 1]).tocsr()
    rows = SparseMatrix.of(sparse.csr_array([[1.0] * 6, [0.0, 1, 0, 2, 0, 0]]))
    weight = torch.arange(6, dtype=torch.float64)

    def drawn(values):
        torch.manual_seed(0)
        zero = torch.zeros(6, dtype=torch.float64)
        law = ConstrainedGMRF(zero, Q, rows.with_values(values), torch.ones(2).double())
        return law.rsample() @ weight

    values = torch.tensor(rows.values, requires_grad=True)
    (found,) = torch.autograd.grad(drawn(values), values)
    steps = 1e-6 * torch.eye(len(values), dtype=torch.float64)
    with torch.no_grad():
        differences = [(drawn(values + by) - drawn(values - by)).item() / 2e-6 for by in steps]
    np.testing.assert_allclose(found, differences, atol=1e-6)


@pytest.mark.parametrize("tau", [1.0, 0.3, 1e-4])
@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_of_an_intrinsic_field_without_a_root(name, tau, dtype):
    """Rounding, of tau Q in single precision above all, makes eigenvalues of zero negative."""
    field, dtype = INTRINSIC_FIELDS[name], getattr(torch, dtype)
    values = torch.tensor(field.precision.values, dtype=dtype) * tau
    k = torch.tensor(field.k, dtype=dtype)
    law = ConstrainedGMRF(
        torch.zeros((), dtype=dtype), field.precision.with_values(values), field.A, k
    )
    draws = law.sample((400,))
    assert law.support.check(draws).all()
    # The sum of squares is that of chi-squares of one degree each.
    white = (draws.double() @ dense_of(law) * draws.double()).sum(-1)
    size = law._constraint.free_size
    assert abs(white.mean() / size - 1) < 6 * (2 / (400 * size)) ** 0.5


def dense_of(law):
    pattern, values = law.precision_matrix.pattern, law.precision_matrix.values.double()
    dense = torch.zeros(pattern.shape, dtype=torch.float64)
    dense[torch.tensor(pattern.row), torch.tensor(pattern.column)] = values
    return dense
