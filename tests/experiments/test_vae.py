"""Image VAEs: densities, bounds and losses against SciPy and quadrature, and a short run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from experiments.images.data import load
from experiments.vae import beginnings
from experiments.vae.__main__ import main
from experiments.vae.comparison import METHODS, plain_of
from experiments.vae.laws import CompletedNormal, ProjectedNormal, half_log_volume
from experiments.vae.likelihood import (
    Densities,
    densities_at_codes,
    likelihoods,
    log_event,
    log_mean_exp,
)
from experiments.vae.methods import Scaling
from experiments.vae.ours import SPREAD
from experiments.vae.scoring import pictures
from experiments.vae.settings import Settings
from experiments.vae.training import FIT, FIT_SPREAD, batches, fit, loss_of, run_stage
from tests.chance import assert_likely, of_means

pytestmark = pytest.mark.rank_promotion("allow")  # nets work on batches

SETTINGS = replace(
    Settings().shortened(), code=1, top_code=1, encoder_draws=64, prior_draws=32, hidden=6
)
SIDE, BLOCK, IMAGES = 4, 2, 3
OBEYING = [name for name, make in METHODS.items() if make(SIDE, BLOCK, SETTINGS).obeys_law]
SCALING = Scaling(jnp.full(4, 2.0), jnp.full(4, 0.5))


def method_of(name):
    return METHODS[name](SIDE, BLOCK, SETTINGS)


def started(method):
    """Nets whose encoder and decoder are far from constant."""
    parameters = method.start(jax.random.key(1), jnp.full(SIDE**2, 0.5))
    return jax.tree.map(lambda leaf: 1.5 * leaf, parameters)


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.uniform(size=(IMAGES, SIDE**2)))


def told_at(method, parameters, z, known):
    """What the decoder says for the same code of all images, and its law."""
    told = method.decode(parameters, jnp.broadcast_to(z, (IMAGES, 1)), known)
    return told, method.law(told, known)


def normal_on_subspace(point, move, law):
    """SciPy's density of ``move @ u + shift`` for independent normal u, at a point of it."""
    loc, scale, shift = law
    covariance = move @ np.diag(scale**2) @ move.T
    return multivariate_normal(move @ loc + shift, covariance, allow_singular=True).logpdf(point)


def test_projected_density(x, rng):
    method = method_of("projection layer")
    A, k = method.A.to_dense(), method.read(x, SCALING).k
    loc, scale = rng.normal(size=x.shape), rng.uniform(0.1, 2, size=x.shape)
    law = ProjectedNormal(jnp.asarray(loc), jnp.asarray(scale), method.A, k)
    inverse = np.linalg.pinv(A)
    along = np.eye(SIDE**2) - inverse @ A
    for i in range(IMAGES):
        expected = normal_on_subspace(x[i], along, (loc[i], scale[i], inverse @ k[i]))
        np.testing.assert_allclose(law.log_prob(x)[i], expected, rtol=1e-9)
        np.testing.assert_allclose(law.mean[i], along @ loc[i] + inverse @ k[i], atol=1e-12)


def test_completed_density(x, rng):
    method = method_of("constrained layer")
    A, k = method.A.to_dense(), method.read(x, SCALING).k
    loc, scale = rng.normal(size=x.shape), rng.uniform(0.1, 2, size=x.shape)
    law = CompletedNormal(jnp.asarray(loc), jnp.asarray(scale), method.A, k)
    assert sorted(law.dependent) == [5, 6, 9, 10]  # the four around the middle
    move, shift = np.eye(SIDE**2), np.zeros((IMAGES, SIDE**2))
    for pixel, group in zip(law.dependent, method.A.index[law.dependent], strict=True):
        move[pixel] = np.eye(SIDE**2)[pixel] - A[group]
        shift[:, pixel] = k[:, group]
    for i in range(IMAGES):
        expected = normal_on_subspace(x[i], move, (loc[i], scale[i], shift[i]))
        np.testing.assert_allclose(law.log_prob(x)[i], expected, rtol=1e-9)
        np.testing.assert_allclose(law.mean[i], move @ loc[i] + shift[i], atol=1e-12)


@pytest.mark.parametrize(
    ("plain", "ours"),
    [("plain", "ours, likelihood"), ("low rank, plain", "low rank, ours, likelihood")],
)
def test_conditioned_afterwards_is_ours_for_one_code(plain, ours, x):
    plain, ours = method_of(plain), method_of(ours)
    parameters, known = started(plain), plain.read(x, SCALING)
    told, law = told_at(plain, parameters, 0.3, known)
    event = plain.law_log_prob(told, known) + half_log_volume(plain.A)
    conditioned = law.log_prob(x) - event
    np.testing.assert_allclose(conditioned, ours.law(told, known).log_prob(x), rtol=1e-9)
    A = plain.A.to_dense()
    covariance = np.asarray(getattr(law, "covariance_matrix", None))
    if covariance.ndim == 0:
        covariance = np.stack([np.diag(v) for v in law.variance])
    for i in range(IMAGES):
        at_k = multivariate_normal(A @ law.mean[i], A @ covariance[i] @ A.T).logpdf(known.k[i])
        np.testing.assert_allclose(event[i] - half_log_volume(plain.A), at_k, rtol=1e-9)
    np.testing.assert_allclose(half_log_volume(plain.A), 0.5 * np.linalg.slogdet(A @ A.T)[1])


GRID = np.linspace(-9, 9, 361)


def by_quadrature(method, parameters, known, x):
    """``(images,)`` log p(x | k shown) and log p(A x = k | k shown), over a grid of codes."""
    log_step = np.log(GRID[1] - GRID[0])
    if not method.has_ladder:
        prior = np.broadcast_to(norm.logpdf(GRID)[:, None], (len(GRID), IMAGES)) + log_step
    else:
        values = jax.vmap(lambda top: below(method, parameters, top, known))(jnp.asarray(GRID))
        loc, scale = np.asarray(values[0])[..., 0], np.asarray(values[1])[..., 0]
        joint = norm.logpdf(GRID)[:, None, None] + norm.logpdf(
            GRID[:, None], loc[:, None], scale[:, None]
        )
        prior = logsumexp(joint, axis=0) + 2 * log_step

    def at(z):
        told, law = told_at(method, parameters, z, known)
        return law.log_prob(x), method.law_log_prob(told, known)

    image, event = map(np.asarray, jax.lax.map(at, jnp.asarray(GRID)))
    return logsumexp(prior + image, axis=0), logsumexp(prior + event, axis=0)


def below(method, parameters, top, known):
    return method.codes.below(parameters, jnp.broadcast_to(top, (IMAGES, 1)), known.shown)


@pytest.mark.parametrize("name", ["plain", "ours, likelihood", "ladder, plain"])
def test_likelihoods_against_quadrature(name, x):
    """Averages over codes have the right mean, so that their ratio to quadrature has mean 1."""
    method = method_of(name)
    parameters, known = started(method), method.read(x, SCALING)
    image, event = by_quadrature(method, parameters, known, x)

    @jax.jit
    def estimate(key):
        seen, unseen = (
            densities_at_codes(method, parameters, x, known, source, jax.random.split(key, 16))
            for source in (True, False)
        )
        return log_mean_exp(seen.prior - seen.encoder + seen.image), log_event(seen, unseen)

    images, events = jax.lax.map(estimate, jax.random.split(jax.random.key(3), 500))
    assert_likely(of_means(np.exp(images - image), 1.0))
    if not method.obeys_law:
        assert_likely(of_means(np.exp(events - event), 1.0))
        image = image - event - half_log_volume(method.A)
    settings = replace(SETTINGS, encoder_draws=2000, prior_draws=2000)
    method = replace(method, settings=settings)
    found = likelihoods(method, parameters, x, SCALING, jax.random.key(0))
    np.testing.assert_allclose(found.log_likelihood, image, atol=0.5)
    assert (found.elbo < found.log_likelihood).all()


def test_mixture_of_equal_halves_by_hand():
    halves = [-1, -2, 0, 3], [-2, -1, 0, 1]  # prior, encoder, image, event
    one, other = (Densities(*np.array(half, float)[:, None, None]) for half in halves)
    weights = np.exp(-1) / np.mean(np.exp([-1, -2])), np.exp(-2) / np.mean(np.exp([-1, -2]))
    expected = np.log((np.exp(3) * weights[0] + np.exp(1) * weights[1]) / 2)
    np.testing.assert_allclose(log_event(one, other), expected)


@pytest.mark.parametrize("name", ["plain", "ladder, ours, likelihood"])
def test_training_maximises_the_bound(name, x):
    """NumPyro's loss and the bound that is reported, both without their noise, agree."""
    method = method_of(name)
    parameters = started(method)
    keys = jax.random.split(jax.random.key(0), 2000)
    losses = jax.lax.map(lambda key: loss_of(method, FIT, parameters, key, x, SCALING), keys)
    known = method.read(x, SCALING)
    seen = densities_at_codes(method, parameters, x, known, True, keys)
    bounds = (seen.prior - seen.encoder + seen.image).mean(-1)
    assert_likely(of_means(np.asarray(bounds + losses), 0.0))


def test_expected_loss_is_that_of_many_draws(x):
    method = method_of("ours, expected loss")
    known = method.read(x, SCALING)
    told, _ = told_at(method, started(method), 0.3, known)
    draws = method.learned(told, known).sample(jax.random.key(0), (20_000,))
    errors = np.square(np.asarray(draws) - np.asarray(x)).sum(-1)
    assert_likely(of_means(errors, np.asarray(method.error(told, known, x))))


@pytest.mark.parametrize("name", OBEYING)
def test_images_obey_the_law(name, x):
    method = method_of(name)
    made = pictures(method, started(method), x, SCALING, jax.random.key(0))
    for images in (made.drawn, made.rebuilt):
        np.testing.assert_allclose(images @ method.A.to_dense().T, made.k, atol=1e-12)


def test_a_spread_is_fitted_around_the_same_mean():
    split = load("digits", num_test=20)
    method = METHODS["ours, expected loss"](8, 4, replace(SETTINGS, spread_steps=3))
    before = method.start(jax.random.key(0), jnp.full(64, 0.3))
    after = run_stage(method, FIT_SPREAD, before, split, 0)
    for name, (weight, _) in after["decoder"]["heads"].items():
        same = np.array_equal(weight, before["decoder"]["heads"][name][0])
        assert same == (name != SPREAD)
    x, scaling = jnp.asarray(split.test), Scaling(jnp.full(4, 5.0), jnp.ones(4))
    made = [pictures(method, nets, x, scaling, jax.random.key(0)) for nets in (before, after)]
    np.testing.assert_allclose(made[0].rebuilt, made[1].rebuilt, atol=1e-12)
    assert not np.allclose(made[0].drawn, made[1].drawn)


def test_a_joint_start_learns_as_the_plain_vae_first():
    split = load("digits", num_test=20)

    def learned(name, joint_steps):
        settings = replace(SETTINGS, steps=200, joint_steps=joint_steps)
        return jax.tree.leaves(fit(METHODS[name](8, 4, settings), split, 0))

    def are_same(one, other):
        return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))

    start = "ours, joint start"
    all_steps, half, none = (learned(start, steps) for steps in (200, 100, 0))
    assert are_same(all_steps, learned("plain", 200))
    assert are_same(none, learned("ours, likelihood", 0))
    assert not are_same(half, all_steps) and not are_same(half, none)


def test_batches_are_noised_images():
    split = load("digits")
    parts = list(batches(split, 0, 150, 8))
    assert [part.shape for part in parts] == [(100, 8, 64), (50, 8, 64)]
    levels = np.floor(parts[0] * split.levels).reshape(-1, 64)
    assert all((split.train == image).all(-1).any() for image in levels[:20])
    assert np.array_equal(parts[1], list(batches(split, 0, 150, 8))[1])


def test_families():
    assert {plain_of(name) for name in METHODS} == {"plain", "low rank, plain", "ladder, plain"}


def test_short_run_goes_on_where_it_was(tmp_path):
    torch.set_default_dtype(torch.float32)  # of the critic; put back by the strict setting
    command = ["--short", "--folder", str(tmp_path), "--only", "marginal"]
    first, again = main(command), main(command)
    assert list(first["method"]) == ["ours, marginal expectation"]
    assert first.equals(again)  # seconds included
    assert first["violation"].max() < 1e-4
    assert (tmp_path / "vae.png").stat().st_size > 10_000
    assert "Hausdorff" in (tmp_path / "vae.md").read_text()


def test_beginnings_in_short(tmp_path):
    torch.set_default_dtype(torch.float32)  # of the critic; put back by the strict setting
    command = ["--short", "--folder", str(tmp_path), "--only", "moved"]
    first, again = beginnings.main(command), beginnings.main(command)
    assert list(first["method"]) == 2 * ["plain, moved", "ours, moved"]
    assert first.equals(again)
    assert first["gap"].max() < 1e-4  # the mean obeys before it is conditioned
    assert "vae.md" in (tmp_path / "vae_beginnings.md").read_text()
