"""Free coordinates of a support by elimination, and programs that walk in them or in noise."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from scipy import sparse
from torch.distributions import biject_to

from constrained_core import ConstraintError, SparseMatrix
from pyro_constrained import ConstrainedNormal, GroupSum, LinearEqualityTransform, auto_reparam
from tests.chance import assert_likely, of_moments
from tests.on_pyro.test_sparse import DENSE, INDEPENDENT, LOC, SCALE, K, N

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")

GROUPS = GroupSum([0, 0, 2, 2, 2, 3, 3, 1, 1, 1], 5, weights=[1, 2, 1, 1, -3, 1, 1, 0, 1, 0.5])
CONSTRAINTS = {
    "sparse": (sparse.csr_array(DENSE), K),
    "dense": (DENSE, K),
    "row": (DENSE[0], torch.tensor(1.0)),
    "ones": (np.ones(N), torch.tensor(2.0)),
    "groups": (GROUPS, torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0])),
    "narrow": (np.vander(np.linspace(0, 1, N), 5).T, torch.ones(5)),
    "learned sparse": (
        SparseMatrix.of(sparse.csr_array(INDEPENDENT)).with_values(
            torch.tensor(INDEPENDENT[INDEPENDENT != 0], requires_grad=True)
        ),
        torch.ones(2),
    ),
    "learned": (torch.tensor(INDEPENDENT, requires_grad=True), torch.ones(2)),
    "learned row": (torch.tensor(DENSE[0], requires_grad=True), torch.tensor(1.0)),
    "no row": (sparse.csr_array((0, N)), torch.zeros(0)),
    "a point": (sparse.eye_array(N).tocsr(), torch.ones(N)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_elimination(name, dtype):
    A, k = CONSTRAINTS[name]
    transform = LinearEqualityTransform(A, k, "elimination")
    bound = transform.codomain.bind(torch.zeros((), dtype=dtype))
    u = torch.randn(bound.free_size, dtype=dtype)
    x = transform(u)
    assert torch.equal(transform.inv(x), u) and x.dtype == dtype
    gap = transform.codomain.bind(x.double()).residual(x.double()).abs()
    assert (gap <= 4 * torch.finfo(dtype).eps * bound._size(x)).all()
    jacobian = torch.func.jacrev(transform)(u).double()
    log_det = 0.5 * torch.linalg.slogdet(jacobian.mT @ jacobian)[1]
    tolerance = 1e3 * torch.finfo(dtype).eps
    constant = transform.log_abs_det_jacobian(u, x).double()
    torch.testing.assert_close(log_det, constant, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(torch.func.vmap(transform)(u[None])[0], x)


def test_a_batch_of_matrices_is_eliminated():
    A = torch.randn(3, 2, N)
    transform = LinearEqualityTransform(A, torch.ones(2), "elimination")
    u = torch.randn(3, N - 2)
    x = transform(u)
    assert torch.equal(transform.inv(x), u)
    torch.testing.assert_close((A @ x[..., None])[..., 0], torch.ones(3, 2))


def test_elimination_is_differentiable_in_k():
    A = sparse.csr_array(INDEPENDENT)
    k = torch.ones(2, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: LinearEqualityTransform(A, k)(torch.ones(N - 2)), k)


def test_which_basis():
    A = sparse.csr_array(INDEPENDENT)
    assert LinearEqualityTransform(A, torch.zeros(2)).basis == "elimination"
    assert LinearEqualityTransform(INDEPENDENT, torch.zeros(2)).basis == "isometry"
    assert (
        biject_to(ConstrainedNormal(LOC, SCALE, A, torch.zeros(2)).support).basis == "elimination"
    )
    with pytest.raises(ConstraintError, match="elimination"):
        LinearEqualityTransform(A, torch.zeros(2), "isometry")
    with pytest.raises(ConstraintError, match="basis"):
        LinearEqualityTransform(A, torch.zeros(2), "qr")
    matrix = SparseMatrix.of(A)
    batch = matrix.with_values(torch.tensor(matrix.values).expand(3, -1))
    with pytest.raises(ConstraintError, match="reparam"):
        LinearEqualityTransform(batch, torch.zeros(2))(torch.zeros(N - 2))


# Programs


def _model(A):
    law = ConstrainedNormal(LOC, SCALE, A, K)
    x = pyro.sample("x", law)
    pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=torch.ones(N))


def _posterior_moments():
    """Of the dense law: a product of normal densities is one."""
    precision = SCALE**-2 + 1
    law = ConstrainedNormal((LOC / SCALE**2 + 1) / precision, precision**-0.5, DENSE, K)
    return law.mean.numpy(), law.covariance.numpy()


@pytest.mark.parametrize("is_reparametrised", [pytest.param(False, marks=pytest.mark.slow), True])
def test_nuts_finds_the_posterior(is_reparametrised):
    model = _model
    if is_reparametrised:
        model = pyro.poutine.reparam(model, config=auto_reparam)
    kernel = NUTS(model, jit_compile=True, ignore_jit_warnings=True)
    mcmc = MCMC(kernel, num_samples=90, warmup_steps=50, disable_progbar=True)
    mcmc.run(sparse.csr_array(DENSE))
    draws = mcmc.get_samples()
    if is_reparametrised:
        base = draws["x_base"]
        law = ConstrainedNormal(LOC, SCALE, sparse.csr_array(DENSE), K)
        x = law._conditional.from_base(base)
    else:
        x = draws["x"]
    assert_likely(of_moments(x.numpy(), *_posterior_moments(), is_chain=True))


def test_svi_runs_with_learned_values():
    matrix = SparseMatrix.of(sparse.csr_array(INDEPENDENT))

    def model():
        values = pyro.param("values", torch.tensor(matrix.values))
        law = ConstrainedNormal(LOC, SCALE, matrix.with_values(values), K[:2])
        x = pyro.sample("x", law)
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=torch.ones(N))

    model = pyro.poutine.reparam(model, config=auto_reparam)
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step() for _ in range(5)]
    assert np.isfinite(losses).all()
    assert not np.allclose(pyro.param("values").detach().numpy(), matrix.values)
