"""Models with a Gaussian Markov random field whose precision is learned, by NUTS and SVI."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from scipy import sparse, stats

from pyro_constrained import ConstrainedGMRF, ConstrainedMultivariateNormal, auto_reparam
from tests.chance import assert_likely, of_moments
from tests.on_pyro.fields import DIFFERENCES, INTRINSIC, N, assert_same, times

# A Besag field under Poisson counts, with a learned precision.

COUNTS = torch.tensor([3.0, 1, 4, 1, 5, 9, 2, 6, 5])
ZERO_SUM = sparse.csr_array(np.ones((1, N)))


def _disease_map(make=None):
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.0))
    if make is None:
        law = ConstrainedGMRF(
            torch.zeros(N),
            times(INTRINSIC, tau),
            ZERO_SUM,
            torch.zeros(1),
            precision_root=times(DIFFERENCES, tau.sqrt()),
        )
    else:
        law = make(tau)
    field = pyro.sample("field", law)
    pyro.sample("counts", dist.Poisson(torch.exp(1 + field)).to_event(1), obs=COUNTS)


def _dense_field(tau):
    precision = tau * torch.tensor(INTRINSIC.toarray())
    return ConstrainedMultivariateNormal(
        torch.zeros(N), precision_matrix=precision, A=ZERO_SUM.toarray(), k=torch.zeros(1)
    )


def test_the_joint_density_of_a_disease_map_is_the_dense_one():
    value = _dense_field(torch.tensor(1.0)).sample()
    results = []
    for make in (None, _dense_field):
        tau, field = torch.tensor(0.8, requires_grad=True), value.clone().requires_grad_()
        model = pyro.condition(_disease_map, {"tau": tau, "field": field})
        log_joint = pyro.poutine.trace(model).get_trace(make).log_prob_sum()
        log_joint.backward()
        results.append((log_joint.detach(), tau.grad, field.grad - field.grad.mean()))
    for one, other in zip(*results, strict=True):
        assert_same(one, other)


def _moments_of_log_tau():
    """Of log tau and the first of two nodes, by quadrature."""
    grid_t, grid_u = np.linspace(-4, 4, 161), np.linspace(-5, 5, 401)
    t, u = np.meshgrid(grid_t, grid_u, indexing="ij")
    tau = np.exp(t)
    # x = (u, -u), Q = tau [[1, -1], [-1, 1]]: a normal law of d = 2 u of precision tau.
    log_weight = stats.gamma(2).logpdf(tau) + t + stats.norm(0, tau**-0.5).logpdf(2 * u)
    for sign, count in ((1, 7), (-1, 2)):
        log_weight = log_weight + stats.poisson(np.exp(1 + sign * u)).logpmf(count)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    both = np.stack([t, u])
    mean = (both * weight).sum((1, 2))
    centred = both - mean[:, None, None]
    return mean, np.einsum("itu,jtu,tu->ij", centred, centred, weight)


def _two_nodes():
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.0))
    difference = sparse.csr_array(np.array([[1.0, -1.0]]))
    law = ConstrainedGMRF(
        torch.zeros(2),
        times(sparse.csr_array(difference.T @ difference), tau),
        sparse.csr_array(np.ones((1, 2))),
        torch.zeros(1),
        precision_root=times(difference, tau.sqrt()),
    )
    field = pyro.sample("field", law)
    counts = torch.tensor([7.0, 2.0])
    pyro.sample("counts", dist.Poisson(torch.exp(1 + field)).to_event(1), obs=counts)


@pytest.mark.parametrize("is_reparametrised", [pytest.param(False, marks=pytest.mark.slow), True])
def test_nuts_with_a_learned_precision(is_reparametrised):
    model = _two_nodes
    if is_reparametrised:
        model = pyro.poutine.reparam(model, config=auto_reparam)
    kernel = NUTS(model, jit_compile=True, ignore_jit_warnings=True)
    mcmc = MCMC(kernel, num_samples=90, warmup_steps=60, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()
    tau = draws["tau"].numpy()
    if is_reparametrised:
        first = draws["field_base"][:, 0].numpy() / np.sqrt(tau) / 2
    else:
        first = draws["field"][:, 0].numpy()
    chain = np.stack([np.log(tau), first], -1)
    assert_likely(of_moments(chain, *_moments_of_log_tau(), is_chain=True))


@pytest.mark.parametrize("is_reparametrised", [False, True])
def test_svi_with_a_learned_precision(is_reparametrised):
    model = _disease_map
    if is_reparametrised:
        model = pyro.poutine.reparam(model, config=auto_reparam)
    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step() for _ in range(20)]
    assert np.isfinite(losses).all()
    if not is_reparametrised:
        field = guide()["field"]
        assert field.shape == (N,) and abs(field.sum().item()) < 1e-12
