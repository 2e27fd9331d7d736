"""Discrete laws in Pyro programs: ELBOs, enumeration, plates, prediction, reparametrisation."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    JitTrace_ELBO,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    config_enumerate,
    infer_discrete,
)
from pyro.infer.mcmc.util import initialize_model
from pyro.ops.integrator import potential_grad
from pyro.optim import Adam

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedNormal,
    ConstrainedPoisson,
    MarginalExpectationReparam,
    auto_reparam,
)
from tests.chance import assert_likely, of_counts, of_means
from tests.on_pyro.models import tensor

ONES = torch.ones(4, dtype=torch.float64)
PRIOR, WEIGHTS = tensor([0.5, -0.3, 0.2, 0.1]), tensor([1.0, -0.5, 2.0, 0.3])
START = tensor([0.2, 0.4, -0.6, 0.1])
DATA, NOISE = tensor(1.2), 0.8


def model():
    x = pyro.sample("x", ConstrainedBernoulli(logits=PRIOR, A=ONES, k=2))
    pyro.sample("y", dist.Normal(x @ WEIGHTS, NOISE), obs=DATA)


def guide(gradient_estimator="score_function"):
    logits = pyro.param("logits", START.clone())
    law = ConstrainedBernoulli(logits=logits, A=ONES, k=2, gradient_estimator=gradient_estimator)
    pyro.sample("x", law)


def points() -> torch.Tensor:
    return ConstrainedBernoulli(logits=PRIOR, A=ONES, k=2).enumerate_support()


def log_joint(x: torch.Tensor) -> torch.Tensor:
    prior = ConstrainedBernoulli(logits=PRIOR, A=ONES, k=2).log_prob(x)
    return prior + dist.Normal(x @ WEIGHTS, NOISE).log_prob(DATA)


def exact_loss_and_gradient(at: torch.Tensor = START) -> tuple[float, torch.Tensor]:
    logits = at.clone().requires_grad_()
    q = ConstrainedBernoulli(logits=logits, A=ONES, k=2)
    x = points()
    log_q = q.log_prob(x)
    loss = (log_q.exp() * (log_q - log_joint(x))).sum()
    return float(loss.detach()), torch.autograd.grad(loss, logits)[0]


def loss_and_gradient(elbo, model=model, guide=guide) -> tuple[float, torch.Tensor]:
    pyro.clear_param_store()
    loss = elbo.loss_and_grads(model, guide)
    return float(loss), pyro.param("logits").unconstrained().grad.clone()


def assert_unbiased(elbo, exact: tuple[float, torch.Tensor], repeats: int = 40, **programs) -> None:
    """Loss and gradient, in the mean over many estimates."""
    found = [loss_and_gradient(elbo, **programs) for _ in range(repeats)]
    losses, gradients = zip(*found, strict=True)
    p_values = of_means(losses, exact[0]), of_means(torch.stack(gradients), exact[1].numpy())
    assert_likely(*p_values)


@pytest.mark.parametrize("kind", [Trace_ELBO, TraceGraph_ELBO])
def test_reinforce_is_unbiased(kind):
    elbo = kind(num_particles=400, vectorize_particles=True, max_plate_nesting=0)
    assert_unbiased(elbo, exact_loss_and_gradient())


def test_enumeration_is_exact():
    """TraceEnum sums over the points of the fiber in the guide."""
    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    found = loss_and_gradient(elbo, guide=config_enumerate(guide))
    loss, gradient = exact_loss_and_gradient()
    assert found[0] == pytest.approx(loss, rel=1e-10)
    torch.testing.assert_close(found[1], gradient)


def test_enumeration_in_the_model_gives_the_evidence():
    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    found = elbo.loss(config_enumerate(model), lambda: None)
    assert found == pytest.approx(-float(log_joint(points()).logsumexp(0)), rel=1e-10)


def test_posterior_by_infer_discrete():
    """Pyro gathers values without event dimensions only: the place in the fiber is such a value."""
    law = ConstrainedBernoulli(logits=PRIOR, A=ONES, k=2)
    x = law.enumerate_support()

    def many():
        with pyro.plate("draws", 4000):
            place = pyro.sample("place", dist.Categorical(logits=law.log_prob(x)))
            pyro.sample("y", dist.Normal(x[place] @ WEIGHTS, NOISE), obs=DATA.expand(4000))
        return place

    drawn = infer_discrete(config_enumerate(many), first_available_dim=-2)()
    found = torch.bincount(drawn, minlength=len(x))
    assert_likely(of_counts(found, torch.softmax(log_joint(x), 0)))


def test_enumeration_inside_a_plate():
    """Three problems with counts of their own; enumerated and summed by hand."""
    rates = tensor([[1.0, 2.0, 0.5], [0.3, 0.7, 1.0], [2.0, 2.0, 1.0]])
    data = tensor([0.5, 1.0, -0.3])
    weights = tensor([1.0, -1.0, 0.5])

    @config_enumerate
    def counted():
        with pyro.plate("problems", 3):
            x = pyro.sample("x", ConstrainedPoisson(rates, torch.ones(3), 3))
            pyro.sample("y", dist.Normal(x @ weights, 1.0), obs=data)

    found = TraceEnum_ELBO(max_plate_nesting=1).loss(counted, lambda: None)
    law = ConstrainedPoisson(rates, torch.ones(3), 3)
    x = law.enumerate_support()
    joint = law.log_prob(x) + dist.Normal(x @ weights, 1.0).log_prob(data)
    assert found == pytest.approx(-float(joint.logsumexp(0).sum()), rel=1e-10)


def test_svi_finds_the_optimum():
    before = exact_loss_and_gradient(START)[0]
    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    svi = SVI(model, config_enumerate(guide), Adam({"lr": 0.1}), elbo)
    for _ in range(300):
        svi.step()
    after, gradient = exact_loss_and_gradient(pyro.param("logits").detach())
    assert after < before
    assert gradient.abs().max() < 1e-3


def test_jit_trace_elbo():
    """Compiled once, as the store of parameters is kept."""
    logits = pyro.param("logits", START.clone())
    elbo = JitTrace_ELBO(
        num_particles=400,
        vectorize_particles=True,
        max_plate_nesting=0,
        ignore_jit_warnings=True,
    )
    losses, gradients = [], []
    for _ in range(40):
        logits.grad = None
        losses.append(elbo.loss_and_grads(model, guide))
        gradients.append(logits.grad.clone())
    loss, gradient = exact_loss_and_gradient()
    assert_likely(of_means(losses, loss), of_means(torch.stack(gradients), gradient.numpy()))


def test_marginal_expectation_is_exact_where_the_joint_is_linear():
    """log p(x) - log q(x) is linear in x: every draw has the gradient of the divergence."""

    def prior():
        pyro.sample("x", ConstrainedBernoulli(logits=PRIOR, A=ONES, k=2))

    def divergence(logits):
        p = ConstrainedBernoulli(logits=PRIOR, A=ONES, k=2)
        q = ConstrainedBernoulli(logits=logits, A=ONES, k=2)
        return torch.distributions.kl_divergence(q, p)

    logits = START.clone().requires_grad_()
    loss = divergence(logits)
    (expected,) = torch.autograd.grad(loss, logits)
    q = poutine.reparam(guide, config={"x": MarginalExpectationReparam()})
    elbo = Trace_ELBO(num_particles=400, vectorize_particles=True, max_plate_nesting=0)
    assert_unbiased(elbo, (float(loss.detach()), expected), model=prior, guide=q)


def test_marginal_expectation_reparam():
    trace = poutine.trace(
        poutine.reparam(guide, config={"x": MarginalExpectationReparam()})
    ).get_trace()
    site = trace.nodes["x"]
    assert site["fn"].has_rsample
    assert site["value"].requires_grad
    assert site["value"].sum() == 2
    assert not site["is_observed"]
    logits = pyro.param("logits")
    (found,) = torch.autograd.grad(site["value"] @ WEIGHTS, logits, retain_graph=True)
    mean = ConstrainedBernoulli(logits=logits, A=ONES, k=2).mean @ WEIGHTS
    torch.testing.assert_close(found, torch.autograd.grad(mean, logits)[0])


def test_marginal_expectation_reparam_of_an_event():
    def independent():
        law = ConstrainedBernoulli(logits=START.expand(3, 4), A=ONES, k=2)
        return pyro.sample("x", law.to_event(1))

    with poutine.reparam(config={"x": MarginalExpectationReparam()}):
        trace = poutine.trace(independent).get_trace()
    assert trace.nodes["x"]["fn"].event_shape == (3, 4)
    assert trace.nodes["x"]["fn"].has_rsample


def test_marginal_expectation_reparam_refuses():
    normal = dist.Normal(torch.zeros(4), 1.0).to_event(1)
    for law, obs in ((normal, None), (ConstrainedBernoulli(0.5, ONES, 2), tensor([1, 1, 0, 0]))):
        reparam = poutine.reparam(config={"x": MarginalExpectationReparam()})
        with reparam, pytest.raises(ValueError, match="'x'"):
            pyro.sample("x", law, obs=obs)


def test_auto_reparam():
    """Normal sites become noise; a discrete one keeps the estimator that it asks for."""

    def mixed():
        pyro.sample("n", ConstrainedNormal(torch.zeros(4), 1.0, ONES, 1.0))
        guide("marginal_expectation")

    trace = poutine.trace(poutine.reparam(mixed, config=auto_reparam)).get_trace()
    assert "n_base" in trace.nodes
    assert trace.nodes["x"]["fn"].has_rsample
    plain = poutine.trace(poutine.reparam(guide, config=auto_reparam)).get_trace()
    assert not plain.nodes["x"]["fn"].has_rsample


def test_predictive():
    found = Predictive(model, guide=guide, num_samples=50)()
    assert found["x"].reshape(50, 4).sum(-1).eq(2).all()
    found = Predictive(model, guide=guide, num_samples=50, parallel=True)()
    assert found["x"].reshape(50, 4).sum(-1).eq(2).all()


def test_plate_with_a_mask():
    mask = torch.tensor([True, False, True])

    def masked():
        with pyro.plate("problems", 3), poutine.mask(mask=mask):
            return pyro.sample("x", ConstrainedBernoulli(logits=PRIOR, A=ONES, k=2))

    trace = poutine.trace(masked).get_trace()
    trace.compute_log_prob()
    log_prob = trace.nodes["x"]["log_prob"]
    assert log_prob.shape == (3,)
    assert log_prob[1] == 0
    assert (log_prob[mask] < 0).all()


def test_the_constraint_as_a_likelihood():
    """Rates learned from the event alone: its log probability is a factor of the model."""
    routing = tensor([[1, 1, 0], [0, 1, 1]])
    counts = tensor([[7, 9], [5, 8], [6, 10]])

    def observed():
        rate = pyro.param("rate", torch.ones(3), constraint=dist.constraints.positive)
        law = ConstrainedPoisson(rate, routing, counts)
        pyro.factor("links", law.constraint_log_prob().sum())

    svi = SVI(observed, lambda: None, Adam({"lr": 0.1}), Trace_ELBO())
    losses = [svi.step() for _ in range(150)]
    assert losses[-1] < losses[0]
    expected = routing @ pyro.param("rate").detach()
    torch.testing.assert_close(expected, counts.mean(0), rtol=0.05, atol=0.05)


def test_a_trace_is_pickled():
    trace = poutine.trace(model).get_trace()
    again = pickle.loads(pickle.dumps(trace.nodes["x"]["fn"]))
    assert again.log_prob(trace.nodes["x"]["value"]).isfinite()


ROUTES = torch.tensor([[1, 1, 0], [0, 1, 1]])
COUNTS = {
    "trellis": lambda rate: ConstrainedPoisson(rate, ROUTES, torch.tensor([4, 5])),
    "row": lambda rate: ConstrainedPoisson(rate, torch.ones(3), 8),
}


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("name", COUNTS)
def test_nuts_rejects_rates_without_a_law(name, validated):
    """Rates that underflow to zero leave no point, those that overflow make no law: the energy is
    infinite or NaN there, which is a rejected step, and nothing raises."""

    def wild():
        scale = pyro.sample("scale", dist.Normal(0.0, 500.0))
        law = COUNTS[name](torch.exp(scale) * tensor([1, 0.5, 2]))
        pyro.sample("x", law, obs=tensor([3, 1, 4]))

    with pyro.validation_enabled(validated):
        potential, _ = initialize_model(wild)[1:3]
        for scale, is_law in ((-800.0, False), (0.3, True), (800.0, False)):
            slope, energy = potential_grad(potential, {"scale": tensor(scale)})
            assert bool(energy < torch.inf) == is_law
            assert slope["scale"].isfinite() or not is_law
    kernel = NUTS(wild, step_size=200.0, adapt_step_size=False, max_tree_depth=3)
    mcmc = MCMC(kernel, 10, 0, disable_progbar=True, disable_validation=not validated)
    mcmc.run()
    rate = mcmc.get_samples()["scale"].exp()
    assert (rate > 0).all() and rate.isfinite().all()


def test_draws_without_a_point_are_a_rejected_step():
    law = COUNTS["trellis"](torch.zeros(3))
    assert law.log_prob(tensor([3, 1, 4])) == law.constraint_log_prob() == -torch.inf
    for estimator in ("score_function", "marginal_expectation"):
        with pytest.raises(torch.linalg.LinAlgError, match="positive probability"):
            law.with_estimator(estimator)()


def test_svi_with_infinite_logits():
    """Elements that are in or out for sure stay so; the others are learned, to the posterior."""
    A, k = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, 0, 1, 0, 2]]), torch.tensor([2, 1])
    prior = tensor([0.3, -0.2, torch.inf, 0.5, -torch.inf, 0.1])
    weights = tensor([1, -1, 2, 0.5, 0, 0.3])
    law = ConstrainedBernoulli(logits=prior, A=A, k=k)
    x = law.enumerate_support()
    joint = law.log_prob(x) + dist.Normal(x @ weights, 0.5).log_prob(tensor(2.2))
    free = torch.zeros(6).requires_grad_()
    optimiser = torch.optim.LBFGS([free], max_iter=30, line_search_fn="strong_wolfe")

    def guide_of(free):
        return ConstrainedBernoulli(logits=free.where(prior.isfinite(), prior), A=A, k=k)

    def loss():
        optimiser.zero_grad()
        q = guide_of(free)
        fit = dist.Normal(x @ weights, 0.5).log_prob(tensor(2.2))
        found = torch.distributions.kl_divergence(q, law) - q.log_prob(x).exp() @ fit
        found.backward()
        assert free.grad.isfinite().all()
        return found

    optimiser.step(loss)
    assert float(loss().detach()) == pytest.approx(-float(joint.logsumexp(0)), abs=1e-3)
    found = guide_of(free).log_prob(x).exp().detach()
    torch.testing.assert_close(found, joint.softmax(0), atol=0.02, rtol=0)
