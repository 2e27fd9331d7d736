"""Sparse laws and fields give the same numbers in both backends, and those of the dense laws."""

import numpy as np
import pytest
from scipy import sparse

from constrained_core import SparseMatrix, fields
from tests.adapters import BACKENDS, assert_close

pytestmark = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs both frameworks")

# A street map: what flows into a crossing flows out; one balance follows from the others.
ENDS = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (0, 3), (1, 4), (2, 5)])
FLOW = np.random.default_rng(0).normal(size=9)
LOC, SCALE = np.linspace(-1.0, 1.0, 9), np.linspace(0.5, 2.0, 9)
FACTOR = np.random.default_rng(1).normal(size=(9, 2))
BALANCE = sparse.csr_array(
    (np.tile([-1.0, 1.0], 9), (ENDS.ravel(), np.repeat(np.arange(9), 2))), shape=(6, 9)
)
LATTICE = fields.lattice((3, 3))
WALK = fields.random_walk(9, order=2)
PROPER = sparse.csr_array(LATTICE.precision.to_scipy() + 0.3 * sparse.eye_array(9))
QUANTITIES = ("mean", "variance", "covariance", "entropy")


def normal(backend, A):
    k = backend.array(BALANCE @ FLOW)
    return backend.library.ConstrainedNormal(backend.array(LOC), backend.array(SCALE), A, k)


def low_rank(backend, A):
    k, parameters = backend.array(BALANCE @ FLOW), map(backend.array, (LOC, FACTOR, SCALE))
    return backend.library.ConstrainedLowRankMultivariateNormal(*parameters, A, k)


def field(precision, A, k, root=None):
    def build(backend, _):
        loc = backend.array(LOC)
        return backend.library.ConstrainedGMRF(loc, precision, A, k, precision_root=root)

    return build


LAWS = {
    "normal": normal,
    "low rank": low_rank,
    "proper field": field(PROPER, BALANCE, BALANCE @ FLOW),
    "lattice": field(LATTICE.precision, LATTICE.A, LATTICE.k, LATTICE.root),
    "random walk": field(WALK.precision, WALK.A, WALK.k, WALK.root),
}
each_law = pytest.mark.parametrize("name", LAWS)


def point(name):
    """A point of the subspace."""
    if name == "lattice":
        return FLOW - FLOW.mean()
    if name == "random walk":
        A = WALK.A.to_dense()
        return FLOW - A.T @ np.linalg.solve(A @ A.T, A @ FLOW)
    return FLOW


@each_law
def test_values(name):
    torch, jax = (LAWS[name](backend, BALANCE) for backend in BACKENDS)
    for quantity in QUANTITIES:
        values = [b.value(law, quantity) for b, law in zip(BACKENDS, (torch, jax), strict=True)]
        assert_close(*values, 1e-12)
    x = point(name)
    densities = [b.log_prob(law, x) for b, law in zip(BACKENDS, (torch, jax), strict=True)]
    assert np.isfinite(densities[0]).all()
    assert_close(*densities, 1e-12)


@each_law
def test_reparametrised_draws(name):
    noise = np.random.default_rng(2)
    fixed = noise.normal(size=100)
    draws = [
        backend.numpy(
            backend.from_base(LAWS[name](backend, BALANCE), lambda shape: fixed[: shape[-1]])
        )
        for backend in BACKENDS
    ]
    if name != "proper field":  # whose noise no root of its own ties to x
        assert_close(*draws, 1e-12)
    else:
        np.testing.assert_allclose([BALANCE @ x for x in draws], [BALANCE @ FLOW] * 2, atol=1e-12)


@pytest.mark.parametrize("name", ["normal", "low rank"])
def test_values_are_those_of_the_dense_law(name):
    for backend in BACKENDS:
        thin, dense = (LAWS[name](backend, A) for A in (BALANCE, BALANCE.toarray()))
        for quantity in (*QUANTITIES, "constraint_log_prob"):
            assert_close(backend.value(thin, quantity), backend.value(dense, quantity), 1e-12)
        assert_close(backend.log_prob(thin, FLOW), backend.log_prob(dense, FLOW), 1e-12)


def test_gradients_of_the_values_of_a_matrix():
    entries = SparseMatrix.of(BALANCE[:5])  # of independent rows
    k = BALANCE[:5] @ FLOW

    def density(backend):
        def evaluate(at):
            A = entries.with_values(at["values"])
            law = backend.library.ConstrainedNormal(at["loc"], at["scale"], A, backend.array(k))
            return law.constraint_log_prob() + law.entropy() + law.variance.sum()

        return evaluate

    at = {"values": np.asarray(entries.values), "loc": LOC, "scale": SCALE}
    torch, jax = (backend.gradients(density(backend), at) for backend in BACKENDS)
    for name in at:
        assert_close(torch[name], jax[name], 1e-11)


def test_gradients_of_a_precision():
    Q = SparseMatrix.of(PROPER)
    x = FLOW - FLOW.mean()

    def density(backend):
        def evaluate(at):
            precision = Q.with_values(at["values"])
            law = backend.library.ConstrainedGMRF(at["loc"], precision, np.ones(9), 0.0)
            return law.log_prob(backend.array(x))

        return evaluate

    at = {"values": np.asarray(Q.values), "loc": LOC}
    torch, jax = (backend.gradients(density(backend), at) for backend in BACKENDS)
    for name in at:
        assert_close(torch[name], jax[name], 1e-11)


def test_divergence_of_independent_variables_from_a_field():
    """Against dense algebra in coordinates of the subspace."""
    basis = np.linalg.svd(BALANCE.toarray())[2][5:].T
    found = []
    for backend in BACKENDS:
        p, q = (LAWS[name](backend, BALANCE) for name in ("normal", "proper field"))
        found.append(backend.numpy(backend.kl(p, q)))
    one, other = (basis.T @ S @ basis for S in (np.diag(SCALE**-2), PROPER.toarray()))
    gap = backend.value(p, "mean") - backend.value(q, "mean")
    distance = gap @ PROPER @ gap
    trace = np.trace(np.linalg.solve(one, other))
    log_ratio = np.linalg.slogdet(one)[1] - np.linalg.slogdet(other)[1]
    expected = 0.5 * (trace + distance - len(one) + log_ratio)
    assert_close(found[0], expected, 1e-11)
    assert_close(found[1], expected, 1e-11)
