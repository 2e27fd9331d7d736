"""Photon counts: masses, sums, roundings and gradients against SciPy, quadrature, enumeration."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import multinomial, norm, poisson

from constrained_core import GroupSum
from experiments.counts import __main__ as command
from experiments.counts.comparison import METHODS, REAL
from experiments.counts.laws import Constrained, Free, Rescaled, Rounded, largest_remainder
from experiments.counts.network import VAE
from experiments.counts.photons import Detector, expose
from experiments.counts.reader import marginal, score_function, straight_through
from experiments.counts.report import results_table
from experiments.counts.scoring import draw, log_likelihood, log_mass_of_sums, log_terms
from experiments.counts.settings import Settings
from experiments.counts.training import TRAININGS, Workplace, negative_elbo
from experiments.images.data import load
from tests.chance import assert_likely, of_means, two_sided

K = torch.tensor([3.0, 2.0]).double()
DRAWS = 2000
LAWS = [Free, Rescaled, Constrained]
FIBER = torch.tensor([[a, 3.0 - a, b, 2.0 - b] for a, b in product(range(4), range(3))]).double()
"""All counts of four pixels in two groups whose sums are K."""

NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
NODE_WEIGHTS = NODE_WEIGHTS / NODE_WEIGHTS.sum()


@pytest.fixture
def detector():
    return Detector(GroupSum([0, 0, 1, 1], num_groups=2))


@pytest.fixture
def vae(detector):
    torch.manual_seed(3)
    vae = VAE(detector, exposure=2.0, code_size=1, hidden=6).double()
    with torch.no_grad():  # so that codes matter, and the encoder is not the prior
        for net in (vae.encoder, vae.decoder):
            net[-1].weight.mul_(3.0)
    return vae


@pytest.fixture
def single_precision():
    """As the experiment runs, and as the critic judges."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def place(detector):
    settings = Settings(num_scored=12, encoder_draws=DRAWS, prior_draws=DRAWS)
    return Workplace(None, detector, None, settings)


def node_rates(vae):
    """``(nodes, 4)`` rates at the nodes of a quadrature over the prior."""
    with torch.no_grad():
        return vae.decode(torch.as_tensor(NODES)[:, None], K).numpy()


def conditional_masses(vae, law):
    """``(12,)`` P(x | A x = K) of all x, by quadrature over codes and SciPy."""
    rates = node_rates(vae)
    if law is Free:
        masses = poisson.pmf(FIBER.numpy()[:, None], rates).prod(-1) @ NODE_WEIGHTS
        sums = rates.reshape(-1, 2, 2).sum(-1)
        return masses / (poisson.pmf(K.numpy(), sums).prod(-1) @ NODE_WEIGHTS)
    return multinomial_masses(rates) @ NODE_WEIGHTS


def multinomial_masses(rates):
    """``(12, nodes)`` P(x | A x = K) for known rates."""
    shares = rates.reshape(-1, 2, 2) / rates.reshape(-1, 2, 2).sum(-1, keepdims=True)
    return np.array(
        [
            multinomial.pmf(x[:2], 3, shares[:, 0]) * multinomial.pmf(x[2:], 2, shares[:, 1])
            for x in FIBER.numpy()
        ]
    )


def test_sums_and_scaling(detector, rng):
    rate = torch.as_tensor(rng.gamma(1.0, size=(5, 4)))
    np.testing.assert_allclose(detector.sums(rate), rate @ torch.tensor(detector.A.to_dense()).T)
    scaled = detector.rescaled(rate, K)
    np.testing.assert_allclose(detector.sums(scaled), K.expand(5, 2), rtol=1e-14)
    np.testing.assert_allclose(scaled[:, 0] / scaled[:, 1], rate[:, 0] / rate[:, 1])
    assert detector.own_sum(K).tolist() == [3, 3, 2, 2]


def test_blocks_of_an_image():
    x = torch.arange(64.0)
    expected = x.reshape(2, 4, 2, 4).sum((1, 3)).ravel()
    np.testing.assert_array_equal(Detector.named("4 x 4 blocks", 8).sums(x), expected)
    np.testing.assert_array_equal(Detector.named("total", 8).sums(x), [x.sum()])


def test_counts_are_poisson():
    """Totals of images, and of their squares against variance plus squared mean."""
    photons = expose(load("digits"), 15.0)
    rate = photons.test_rate.double().numpy()
    counts = photons.test.double().numpy()
    assert (rate > 0).all() and (counts == counts.round()).all() and len(counts) == 397
    assert_likely(two_sided((counts - rate).sum() / np.sqrt(rate.sum())))
    excess = (counts - rate) ** 2 - counts  # of mean 0 and variance 2 rate^2 + rate
    assert_likely(two_sided(excess.sum() / np.sqrt((2 * rate**2 + rate).sum())))


@pytest.mark.parametrize("law", LAWS)
def test_given_the_code_all_laws_are_multinomial_on_the_fiber(law, detector, rng):
    rate = torch.as_tensor(rng.gamma(1.0, size=4))
    law = law(detector)
    found = law.given(rate, K).log_prob(FIBER) - law.log_mass_of_sums(rate, K)
    np.testing.assert_allclose(found.exp(), multinomial_masses(rate.numpy())[:, 0], rtol=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_masses_on_the_fiber_sum_to_one_and_estimates_agree_with_quadrature(
    law, detector, vae, place
):
    expected = conditional_masses(vae, law)
    np.testing.assert_allclose(expected.sum(), 1.0, rtol=1e-10)
    torch.manual_seed(0)
    x, k, law = FIBER, K.expand(12, 2), law(detector)
    with torch.no_grad():
        terms = log_terms(law, vae, x, k, DRAWS)
        sums = log_mass_of_sums(law, vae, k, DRAWS)
        torch.manual_seed(0)
        figures = log_likelihood(law, vae, x, place)
    of_sums = (sums.logsumexp(0) - np.log(DRAWS)).numpy()
    # By the delta method: p(x) of the draws over the exact P(A x = k), whose estimates are sharper.
    batches = terms.exp().numpy().reshape(50, 40, 12).mean(1)
    exact_sums = np.exp(of_sums) if isinstance(law, Constrained) else sums_by_quadrature(law, vae)
    assert_likely(of_means(batches, expected * exact_sums))
    sum_batches = sums.exp().numpy().reshape(50, 40, 12).mean(1)
    assert_likely(of_means(sum_batches, np.broadcast_to(exact_sums, 12)))
    log_masses = (terms.logsumexp(0) - np.log(DRAWS)).numpy() - of_sums
    np.testing.assert_allclose(figures["log_likelihood"], log_masses.mean(), rtol=1e-12)
    np.testing.assert_allclose(figures["elbo"], (terms.mean(0).numpy() - of_sums).mean())
    assert 0 < figures["effective"] <= 1 + 1e-12 and figures["elbo"] < figures["log_likelihood"]


def sums_by_quadrature(law, vae):
    """P(A x = K) of a law of independent Poissons."""
    rates = node_rates(vae)
    if isinstance(law, Rescaled):
        return poisson.pmf(K.numpy(), K.numpy()).prod()
    return poisson.pmf(K.numpy(), rates.reshape(-1, 2, 2).sum(-1)).prod(-1) @ NODE_WEIGHTS


@pytest.mark.parametrize("law", LAWS)
def test_training_bound_against_quadrature(law, detector, vae):
    """The loss of a draw of the code has the mean that nodes of the encoder's law give."""
    x, k, law = FIBER[5:6], K[None], law(detector)
    with torch.no_grad():
        q = vae.encode(x, k)
        loc, scale = q.base_dist.loc.numpy()[0], q.base_dist.scale.numpy()[0]
        z = torch.as_tensor(loc + scale * NODES)[:, None]
        log_mass = law.given(vae.decode(z, k), k).log_prob(x).numpy()
        divergence = norm.logpdf(z.numpy()[:, 0], loc, scale) - norm.logpdf(z.numpy()[:, 0])
        expected = (divergence - log_mass) @ NODE_WEIGHTS
        torch.manual_seed(1)
        z = q.sample((20_000,))
        losses = negative_elbo(law.given(vae.decode(z, k), k), q, z, x)
    assert_likely(of_means(losses.numpy().reshape(200, 100).mean(1), expected))


def test_a_layer_that_rescales_rates_learns_what_ours_learns(detector, vae, place):
    x, gradients = FIBER, []
    for training in (TRAININGS["ours"], type(TRAININGS["ours"])(Rescaled)):
        torch.manual_seed(2)
        vae.zero_grad()
        training.loss(vae, x, torch.zeros(12, dtype=int), place).mean().backward()
        gradients.append(np.concatenate([p.grad.numpy().ravel() for p in vae.parameters()]))
    np.testing.assert_allclose(*gradients, atol=1e-13)
    assert np.abs(gradients[0]).max() > 0.01


def test_soft_penalty_adds_photons_missed(detector, vae, place):
    x, losses = FIBER, []
    for name in ("soft penalty", "unconstrained"):
        torch.manual_seed(2)
        losses.append(TRAININGS[name].loss(vae, x, None, place))
    torch.manual_seed(2)
    k = detector.sums(x)
    missed = (detector.sums(vae.decode(vae.encode(x, k).rsample(), k)) - k).abs().sum(-1)
    difference = (losses[0] - losses[1]).detach()
    np.testing.assert_allclose(difference, place.settings.penalty_weight * missed.detach())


def test_largest_remainder_against_a_loop(rng):
    index = np.array([1, 0, 0, 1, 1, 0, 2])
    A = GroupSum(index, num_groups=3)
    k = rng.integers(0, 9, size=(50, 3)).astype(float)
    share = rng.gamma(0.5, size=(50, 7))
    value = share * (k / (share @ A.to_dense().T))[:, index]
    found = largest_remainder(*map(torch.as_tensor, (value, k)), A).numpy()
    for row, sums, whole in zip(value, k, found, strict=True):
        expected = np.floor(row + 1e-12)
        for group in range(3):
            members = np.flatnonzero(index == group)
            missing = int(sums[group] - expected[members].sum())
            order = np.argsort(-(row - expected)[members], kind="stable")
            expected[members[order[:missing]]] += 1
        np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(found @ A.to_dense().T, k)


@pytest.mark.parametrize("law", [Constrained, Rounded])
@torch.no_grad()
def test_draws_are_whole_and_have_the_sums(law, single_precision):
    photons, detector = expose(load("digits"), 1.0), Detector.named("4 x 4 blocks", 8)
    x = photons.test[:50].clone()
    x[0] = 0.0  # a dark image: no photon in any block
    k = detector.sums(x)
    for drawn in draw(law(detector), VAE(detector, 1.0, 2, 8), x, k):
        assert (drawn >= 0).all() and (drawn == drawn.round()).all()
        np.testing.assert_array_equal(detector.sums(drawn), k)


def squared_loss(x):
    """Of counts ``(*batch, 4)``; not linear, and mixing pixels of both groups."""
    return (x @ x.new_tensor([1.0, -0.5, 0.3, 2.0]) - 1.5) ** 2


def gradients_of(estimator, law, loss, rate):
    """``(4,)`` gradient of the sum of losses of ``(batch, 4)`` equal rates, each row its own."""
    rate = rate.detach().requires_grad_()
    estimator(law.given(rate, K.expand(len(rate), 2)), rate, loss).sum().backward()
    return rate.grad.numpy()


def test_score_function_against_enumeration(detector, rng):
    """The mean of many rows is the derivative of the sum over the fiber."""
    rate = torch.as_tensor(rng.gamma(2.0, size=4)).requires_grad_()
    log_mass = Constrained(detector).given(rate, K).log_prob(FIBER)
    (log_mass.exp() @ squared_loss(FIBER)).backward()
    torch.manual_seed(0)
    found = gradients_of(
        score_function, Constrained(detector), squared_loss, rate.detach().expand(20_000, 4)
    )
    assert_likely(of_means(found.reshape(200, 100, 4).mean(1), rate.grad.numpy()))


def test_marginal_expectation_of_a_linear_loss_is_exact(detector, rng):
    rate, weights = (
        torch.as_tensor(rng.gamma(2.0, size=(1, 4))),
        torch.as_tensor(rng.normal(size=4)),
    )
    shares = rate.reshape(2, 2) / rate.reshape(2, 2).sum(-1, keepdim=True)
    mean_weight = (shares * weights.reshape(2, 2)).sum(-1, keepdim=True)
    expected = (
        K[:, None] * (weights.reshape(2, 2) - mean_weight) / rate.reshape(2, 2).sum(-1)[:, None]
    )
    found = gradients_of(marginal, Constrained(detector), lambda x: x @ weights, rate)
    np.testing.assert_allclose(found.ravel(), expected.ravel(), rtol=1e-12)


def test_straight_through_takes_the_draw_for_the_rate(detector, rng):
    rate, weights = (
        torch.as_tensor(rng.gamma(2.0, size=(1, 4))),
        torch.as_tensor(rng.normal(size=4)),
    )
    found = gradients_of(straight_through, Free(detector), lambda x: x @ weights, rate)
    np.testing.assert_allclose(found.ravel(), weights)


def test_short_run_and_resuming(tmp_path, monkeypatch, single_precision):
    arguments = ["--short", "--folder", str(tmp_path)]
    frame = command.main(arguments)
    assert sorted(frame["method"]) == sorted([REAL, *METHODS])
    exact = frame[frame["method"].str.startswith("ours") | frame["method"].str.contains("rounded")]
    assert len(exact) == 5 and (exact["violation"] == 0).all()
    masses = frame.set_index("method")["log_likelihood"]
    assert masses.isna().sum() == 2  # real counts, and those that are rounded
    np.testing.assert_allclose(
        masses["rescaled afterwards"], masses["ours, put in afterwards"], rtol=1e-5
    )
    assert (tmp_path / "counts.png").stat().st_size > 10_000
    assert "processor time" in (tmp_path / "counts.md").read_text()
    table = results_table(frame, Settings(prior_draws=1000))
    assert list(table["method"]) == [REAL, *METHODS]
    assert table.set_index("method")["log-likelihood"]["ours"] == f"{masses['ours']:.2f}"
    assert set(results_table(frame, Settings(prior_draws=10))["log-likelihood"]) == {""}
    monkeypatch.setattr(command, "train", None)  # nothing is left to train
    assert len(command.main(arguments)) == len(frame)
