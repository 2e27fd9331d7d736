"""The network tutorial runs, on simulated traffic too, and its parts are right."""

import importlib

import numpy as np
import pytest

from tutorials import network
from tutorials.network import NUM_FLOWS, ROUTING, Estimate, Hour, Settings, gravity, least_squares


@pytest.fixture
def hour(tmp_path, monkeypatch) -> Hour:
    monkeypatch.setattr(network, "DATA_FILE", "absent.npz")
    return network.load_hours(Settings().shortened())[0]


class PyroStory:
    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.module = importlib.import_module("tutorials.pyro.02_network_tomography")

    def in_float32(self):
        self.torch.set_default_dtype(self.torch.float32)

    def as_array(self, values):
        return self.torch.as_tensor(values)


class NumPyroStory:
    def __init__(self):
        self.jax = pytest.importorskip("jax")
        self.module = importlib.import_module("tutorials.numpyro.02_network_tomography")

    def in_float32(self):
        self.jax.config.update("jax_enable_x64", False)

    def as_array(self, values):
        return self.jax.numpy.asarray(values)


each_story = pytest.mark.parametrize("story_class", [PyroStory, NumPyroStory])
pytestmark = pytest.mark.rank_promotion("allow")


def test_simulated_loads_are_those_of_the_flows(hour):
    np.testing.assert_allclose(hour.loads, hour.flows @ ROUTING.T)
    assert hour.k.sum(-1).mean() > 0


def test_packets_vary_as_poisson_counts_do(rng):
    """Of 5,000 loads the ratio of variance to mean has a standard error of 0.7%."""
    flows = 700.0 * rng.poisson(4.0, size=(5000, NUM_FLOWS))
    hour = Hour.scaled(0, flows @ ROUTING.T, flows, packets=1e6)
    assert hour.packet == pytest.approx(700.0, rel=0.05)


def test_rivals_fit_the_links(hour):
    np.testing.assert_allclose(gravity(hour.k) @ ROUTING.T, hour.k, atol=1e-9)
    fits = np.array([least_squares(k) for k in hour.k])
    assert fits.min() >= 0
    np.testing.assert_allclose(fits @ ROUTING.T, hour.k, atol=1e-4)


def test_whole_loads_can_be_carried(rng):
    flows = rng.exponential(size=(500, NUM_FLOWS)) * (rng.uniform(size=NUM_FLOWS) < 0.5)
    loads = flows @ ROUTING.T
    for ends in network.sent_and_received(network.whole_loads(loads)):
        assert ends.min() >= 0
    assert np.abs(network.whole_loads(loads) - loads).max() < 3


def test_whole_packets_stay_as_they_are(rng):
    loads = rng.poisson(2.0, size=(100, NUM_FLOWS)) @ ROUTING.T
    np.testing.assert_array_equal(network.whole_loads(1.0 * loads), loads)


def test_intervals_of_known_laws():
    certain, even = np.eye(4)[2], np.full(4, 0.25)
    estimate = Estimate.of(np.array([certain, even]))
    np.testing.assert_allclose(estimate.mean, [2.0, 1.5])
    np.testing.assert_array_equal(estimate.low, [2, 0])
    np.testing.assert_array_equal(estimate.high, [2, 3])


@each_story
def test_gravity_is_the_mean_of_the_exact_law(story_class, hour):
    """With rates a_i b_j the law of the table is hypergeometric, its mean row x column / total."""
    story = story_class()
    rates = story.as_array(gravity(hour.loads.mean(0) / hour.packet) + 0.0)[None]
    found = np.asarray(story.module.flow_probabilities(rates, hour))
    np.testing.assert_allclose(Estimate.of(found).mean, gravity(hour.k), atol=1e-9)


@each_story
def test_short_mode_in_single_precision(story_class, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "DATA_FILE", "absent.npz")
    story, picture = story_class(), tmp_path / "network.png"
    story.in_float32()
    (result,) = story.module.main(["--short", "--picture", str(picture)])
    assert set(result.estimates) == {"least squares", "gravity", "SVI", "NUTS", "rates known*"}
    for name, probabilities in result.probabilities.items():
        np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-4, err_msg=name)
        means = Estimate.of(probabilities).mean
        np.testing.assert_allclose(means @ ROUTING.T, result.hour.k, atol=1e-3, err_msg=name)
    assert picture.stat().st_size > 10_000


def test_the_day_that_was_measured(tmp_path, monkeypatch, rng):
    flows = rng.uniform(1e4, 1e5, size=(287, NUM_FLOWS))
    np.savez(tmp_path / network.DATA_FILE, od_flows=flows, link_loads=flows @ ROUTING.T)
    monkeypatch.setenv("CONSTRAINED_DATA", str(tmp_path))
    hours = network.load_hours(Settings())
    assert [hour.number for hour in hours] == list(Settings().hours)
    np.testing.assert_array_equal(hours[0].flows, flows[120:132])
