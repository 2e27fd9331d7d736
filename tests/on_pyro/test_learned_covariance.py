"""Covariances, scales and factors that are learned together with a constrained latent.

Their values cross those at which a null-space basis that is recomputed from the scaled rows would
change sign, so that x would jump while the noise is held fixed.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import pyro_constrained
from pyro_constrained import ConstrainedMultivariateNormal, auto_reparam
from tests.chance import assert_likely
from tests.learned import (
    CORRELATION,
    INTRINSIC,
    LAPLACIAN,
    PATHS,
    ROW,
    SIZE,
    TOTAL,
    Learned,
    correlated,
)
from tests.on_pyro.models import draws_of, fit, run_nuts, tensor


def reparametrised(model):
    return poutine.reparam(model, config=auto_reparam)


# Constants are made before a tracer sees them: it would warn of them.
ROW_OF_A, K, LOW, HIGH = map(tensor, (ROW, TOTAL, *CORRELATION.prior.support()))
GRAPH, ONES, MEAN, DEVIATION = map(tensor, (LAPLACIAN, np.ones(SIZE), 0.5, 1.0))
ZERO, DATA, PATH_DATA = map(tensor, (0.0, CORRELATION.data, INTRINSIC.data[0]))


def correlation():
    """Without a plate, of which PyTorch's tracer would warn."""
    r = pyro.sample("u", dist.Uniform(LOW, HIGH))
    law = ConstrainedMultivariateNormal(ZERO, correlated(r[..., None], torch.stack), ROW_OF_A, K)
    x = pyro.sample("x", law.expand([*r.shape, DATA.shape[0]]).to_event(1))
    pyro.sample("y", dist.Normal(x, CORRELATION.noise).to_event(2), obs=DATA)
    return x


def intrinsic_field():
    """Its precision is singular, and positive definite where the sum is zero."""
    log_tau = pyro.sample("u", dist.Normal(MEAN, DEVIATION))
    law = ConstrainedMultivariateNormal(
        ZERO, A=ONES, k=ZERO, precision_matrix=log_tau.exp() * GRAPH
    )
    x = pyro.sample("x", law)
    pyro.sample("y", dist.Normal(x, INTRINSIC.noise).to_event(1), obs=PATH_DATA)
    return x


def assert_nuts_finds_the_posterior(learned: Learned, model, draws: int) -> None:
    chain = run_nuts(model, draws, warmup=80)
    diverging = chain.diagnostics()["divergences"]["chain 0"]
    assert len(diverging) < 0.02 * draws, "more than chance: it is 1e-4 of the draws"
    found = chain.get_samples()
    x = found["x"] if "x" in found else Predictive(model, found)()["x"]
    u, x = found["u"].numpy(), x.reshape(draws, *learned.data.shape).numpy()
    assert_likely(learned.p_values(u, x))


def test_nuts_finds_a_correlation():
    """The event u < threshold too, on whose two sides the old chains were caught."""
    assert_nuts_finds_the_posterior(CORRELATION, reparametrised(correlation), draws=100)


@pytest.mark.slow
def test_nuts_finds_a_correlation_long():
    assert_nuts_finds_the_posterior(CORRELATION, reparametrised(correlation), draws=5000)


@pytest.mark.slow
@pytest.mark.parametrize("model", [intrinsic_field, reparametrised(intrinsic_field)])
def test_nuts_finds_the_precision_of_an_intrinsic_field(model):
    """With the reparametrisation and without: the subspace is fixed."""
    assert_nuts_finds_the_posterior(INTRINSIC, model, draws=5000)


@pytest.mark.parametrize(("kind", "miss"), [(AutoNormal, 1.1), (AutoMultivariateNormal, 0.75)])
def test_guides_find_a_correlation(kind, miss):
    """The bound is below the evidence: by 0.8 and 0.5 nats for the best guides of these kinds.
    Where x jumps at the threshold it is lower by twice as much, whatever the guide."""
    model = reparametrised(correlation)
    guide = kind(model)
    options = {"vectorize_particles": True, "max_plate_nesting": 0}
    fit(model, guide, steps=300, elbo=Trace_ELBO(num_particles=64, **options))
    bound = -Trace_ELBO(num_particles=20_000, **options).loss(model, guide)
    assert 0.0 < CORRELATION.log_evidence - bound < miss
    (u,) = draws_of(guide, "u")
    np.testing.assert_allclose(u.mean(), CORRELATION.mean, atol=0.3 * CORRELATION.deviation)


@pytest.mark.parametrize("name", PATHS)
def test_map_along_a_path(name):
    path = PATHS[name]

    def maps(t):
        parameters = {key: tensor(value) for key, value in path.parameters(t).items()}
        law = getattr(pyro_constrained, path.law)(ZERO, **parameters, A=path.A, k=tensor(path.k))
        model = reparametrised(lambda: pyro.sample("x", law))
        size = poutine.trace(model).get_trace().nodes["x_base"]["value"].shape[-1]
        noise = torch.cat([torch.zeros(1, size), torch.eye(size)])[:, None].expand(-1, len(t), -1)
        return poutine.condition(model, {"x_base": noise})().numpy()

    path.check(maps)
