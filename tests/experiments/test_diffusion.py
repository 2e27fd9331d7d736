"""Diffusion with block sums given: laws, losses, bounds and samplers against other ways of working
them out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn
from torch.distributions import kl_divergence

from experiments.diffusion.__main__ import main
from experiments.diffusion.bound import best_variances, log_bound
from experiments.diffusion.methods import LINES, REFERENCE, SAMPLING_ONLY, SUBSPACE, Given, lines_of
from experiments.diffusion.network import Denoiser, Model
from experiments.diffusion.problem import HALF_RANGE, from_scaled, nats_of_pixels, scaled
from experiments.diffusion.processes import OnSubspace, Process
from experiments.diffusion.report import results_table
from experiments.diffusion.samplers import renoised_steps, reversed_steps
from experiments.diffusion.schedule import Schedule
from experiments.diffusion.settings import Settings
from experiments.diffusion.training import kernel_loss, perturbed_loss, random_levels
from experiments.images.laws import block_sums
from experiments.images.quality import frechet_distance
from pyro_constrained import ConstrainedMultivariateNormal, ConstrainedNormal
from pyro_constrained.transforms import LinearEqualityTransform
from tests.chance import assert_likely, of_means, of_moments

SETTINGS = Settings(levels=40, most_noise=0.4, hidden=8)
A = block_sums(4, 2)
DENSE = torch.as_tensor(A.to_dense())
N, M = 16, 4
PROCESSES = [Process, OnSubspace]


class ExactImage(nn.Module):
    """A network that makes E[x_0 | x_t, A x_0 = k] of x_0 ~ N(loc, covariance) given A x_0 = k."""

    def __init__(self, process, loc, covariance):
        super().__init__()
        self.process, self.loc = process, loc
        self.gain = covariance @ DENSE.T @ torch.linalg.inv(DENSE @ covariance @ DENSE.T)
        self.covariance = covariance - self.gain @ DENSE @ covariance

    def forward(self, state, means, t):
        t, k, process = int(t[0, 0]), means * self.process.sizes, self.process
        mean = self.loc + (k - self.loc @ DENSE.T) @ self.gain.T
        allowed = process.directed(torch.eye(N))  # covariance of the noise
        signal, noise = process.schedule.signal[t], process.schedule.noise[t]
        spread = signal**2 * self.covariance + noise**2 * allowed
        centre = process.centre(k)
        gap = state - centre - signal * (mean - centre)
        inverse = torch.linalg.pinv(spread, rtol=1e-10, hermitian=True)
        image = mean - centre + signal * gap @ inverse @ self.covariance
        skip = process.schedule.skip[t]
        return (image - skip * (state - centre) / signal) / (1 - skip)


def gaussian_world(process_class, covariance, settings=SETTINGS):
    """A model that knows the law of its images, and that law as a function of k."""
    process = process_class(Schedule(settings), A)
    loc = torch.linspace(-1, 1, N)
    model = Model(ExactImage(process, loc, covariance), process)
    return model, lambda k: ConstrainedMultivariateNormal(loc, covariance, A, k)


@pytest.fixture
def covariance(rng):
    root = torch.as_tensor(rng.normal(size=(N, N)))
    return 0.1 * torch.eye(N) + 0.05 * root @ root.T


@pytest.fixture
def untrained():
    return {kind: Model(Denoiser(N, M, 8, 40), kind(Schedule(SETTINGS), A)) for kind in PROCESSES}


# --- The forward process --------------------------------------------------------------------------


def test_forward_kernels_are_conditional_laws_of_the_chain():
    """Rates run once more, the joint of (x_s, x_t) given x_0 conditioned in NumPy."""
    schedule = Schedule(SETTINGS)
    kept = np.cumprod(1 - np.linspace(1e-4, 0.4, 40))
    np.testing.assert_allclose(schedule.signal[1:] ** 2, kept)
    for t, s in [(1, 0), (2, 1), (40, 39), (30, 10)]:
        kept_t, kept_s = (np.append(1.0, kept)[i] for i in (t, s))
        across = np.sqrt(kept_t / kept_s) * (1 - kept_s)
        gain = across / (1 - kept_t)
        np.testing.assert_allclose(
            schedule.step_scale(t, s) ** 2, (1 - kept_s) - gain * across, atol=1e-14
        )
        model = Model(nn.Identity(), Process(schedule, A))
        image, state, k = torch.randn(3, N), torch.randn(3, N), torch.zeros(3, M)
        mean = model.step_mean(model.explain(state, image, k, t), k, t, s, 1.0)
        oracle = np.sqrt(kept_s) * image + gain * (state - np.sqrt(kept_t) * image)
        np.testing.assert_allclose(mean, oracle, atol=1e-12)


def test_steps_cover_all_levels():
    schedule = Schedule(SETTINGS)
    assert schedule.steps(40) == [(t, t - 1) for t in range(40, 0, -1)]
    few = schedule.steps(10)
    assert few[0][0] == 40 and few[-1][1] == 0 and len(few) == 10


def test_states_on_the_subspace_are_an_ordinary_diffusion_of_its_coordinates():
    process, k = OnSubspace(Schedule(SETTINGS), A), torch.randn(5, M)
    place = LinearEqualityTransform(A, k)
    u, e = torch.randn(5, N - M), torch.randn(5, N - M)
    noise = LinearEqualityTransform(A, torch.zeros(M))(e)
    t = torch.randint(1, 41, (5, 1))
    signal, amount = process.schedule.signal[t], process.schedule.noise[t]
    state = process.noised(place(u), noise, t, k)
    np.testing.assert_allclose(state, place(signal * u + amount * e), atol=1e-12)
    np.testing.assert_allclose(process.sums(state), k, atol=1e-12)


def test_noise_on_the_subspace_is_that_of_the_law():
    process = OnSubspace(Schedule(SETTINGS), A)
    law = ConstrainedNormal(torch.zeros(N), 1.0, A, torch.zeros(M))
    draws = process.white(torch.zeros(4000, M))
    assert_likely(of_moments(draws.numpy(), law.mean.numpy(), law.covariance.numpy()))


# --- What networks learn from ---------------------------------------------------------------------


def gradient_of(model, loss):
    torch.manual_seed(1)
    model.net.zero_grad()
    loss().backward()
    return torch.cat([weight.grad.ravel() for weight in model.net.parameters()])


def test_expected_loss_is_the_error_of_the_image_along_the_law(untrained):
    model, images = untrained[Process], torch.randn(32, N)
    process, k = model.process, model.process.sums(images)

    def error_along_law():
        t = random_levels(model, images)
        missed = model.image(process.noised(images, process.white(k), t, k), k, t) - images
        return process.along_law(missed).square().mean()

    def loss():
        return kernel_loss(model, images, k, "pathwise", expected=True, weighted=False)

    oracle = gradient_of(model, error_along_law)
    np.testing.assert_allclose(gradient_of(model, loss), oracle, atol=1e-9)


def test_weighted_loss_is_the_divergence_of_the_bound(untrained):
    """Twice the mean divergence per pixel of the laws given the sums, up to a constant."""
    model, images = untrained[Process], torch.randn(32, N)
    process, schedule, k = model.process, model.process.schedule, model.process.sums(images)

    def divergence():
        t = random_levels(model, images).clamp(min=2)
        state = process.noised(images, process.white(k), t, k)
        parts = model.explain(state, images, k, t), model.predict(state, k, t)
        means = [model.step_mean(part, k, t, t - 1, 1.0) for part in parts]
        scale, sums = schedule.step_scale(t, t - 1), process.sums(means[0])
        laws = [ConstrainedNormal(mean, scale, A, sums) for mean in means]
        return 2 * kl_divergence(*laws).mean() / N

    def loss():
        return kernel_loss(model, images, k, "pathwise", expected=True, weighted=True)

    torch.manual_seed(1)
    assert random_levels(model, images).min() > 1  # or the first level would differ
    oracle = gradient_of(model, divergence)
    np.testing.assert_allclose(gradient_of(model, loss), oracle, atol=1e-8 * oracle.abs().max())


def test_both_estimators_give_the_same_gradient_where_scales_are_given(untrained):
    model, images = untrained[Process], torch.randn(32, N)
    k = model.process.sums(images)
    one, other = (
        gradient_of(
            model, lambda e=name: kernel_loss(model, images, k, e, expected=False, weighted=True)
        )
        for name in ("pathwise", "marginal_expectation")
    )
    np.testing.assert_allclose(one, other, atol=1e-12 * one.abs().max())


def test_draws_give_the_gradient_of_the_expected_loss_on_average(untrained):
    model, images = untrained[Process], torch.randn(64, N)
    k = model.process.sums(images)
    direction, differences = None, []
    for seed in range(100):
        pair = []
        for expected in (False, True):
            model.net.zero_grad()
            torch.manual_seed(seed)
            kernel_loss(model, images, k, "pathwise", expected=expected, weighted=True).backward()
            pair.append(torch.cat([weight.grad.ravel() for weight in model.net.parameters()]))
        direction = pair[1] if direction is None else direction
        differences.append((pair[0] - pair[1]) @ direction)
    assert_likely(of_means(torch.stack(differences), 0.0))


def test_perturbations_leave_the_law_at_right_angles(untrained, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "experiments.diffusion.training.image_loss", lambda model, images, k: seen.append(images)
    )
    model, images = untrained[Process], torch.randn(3000, N)
    perturbed_loss(model, images, model.process.sums(images), spread=0.3)
    moved = seen[0] - images
    np.testing.assert_allclose(model.process.along_law(moved), 0, atol=1e-12)
    coordinates = model.process.sums(moved) / 2  # rows of A have length 2
    assert_likely(of_moments(coordinates.numpy(), np.zeros(M), 0.09 * np.eye(M)))


# --- The bound ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROCESSES)
def test_bound_is_tight_where_reverse_kernels_are_normal(kind):
    """White Gaussian images and the exact noise: the chain's reversal is what the bound assumes."""
    model, law = gaussian_world(kind, 0.3 * torch.eye(N))
    k = torch.randn(2000, M)
    variances = best_variances(model, law(torch.randn(3000, M)).sample())
    images = law(k).sample()
    gap = law(k).log_prob(images) - log_bound(model, images, variances)
    assert_likely(of_means(gap, 0.0))


@pytest.mark.parametrize("kind", PROCESSES)
def test_bound_is_a_bound(kind, covariance):
    """Fewer and coarser levels leave more below the true density of anisotropic images."""
    gaps = []
    k = torch.randn(500, M)
    for levels, most_noise in ((4, 0.95), (40, 0.4)):
        settings = replace(SETTINGS, levels=levels, least_noise=0.02, most_noise=most_noise)
        model, law = gaussian_world(kind, covariance, settings)
        images = law(k).sample()
        variances = best_variances(model, law(k).sample())
        gap = law(k).log_prob(images) - log_bound(model, images, variances)
        gaps.append((gap.mean(), gap.std() / 500**0.5))
    (coarse, error), (fine, fine_error) = gaps
    assert coarse > 5 * error and fine > -5 * fine_error and coarse - fine > 5 * error


def test_bound_falls_with_other_variances():
    model, law = gaussian_world(OnSubspace, 0.3 * torch.eye(N))
    images = law(torch.randn(500, M)).sample()
    best = best_variances(model, law(torch.randn(3000, M)).sample())

    def bound(variances):
        torch.manual_seed(2)  # the same states
        return log_bound(model, images, variances).mean()

    assert bound(best) > bound(1.3 * best) and bound(best) > bound(best / 1.3)


def test_bound_of_pixels_is_in_their_units():
    law = ConstrainedNormal(torch.zeros(N), 1.0, A, torch.zeros(M))
    pixels_law = ConstrainedNormal(torch.zeros(N) + 0.5, HALF_RANGE, A, torch.full((M,), 2.0))
    image = law.sample()
    found = nats_of_pixels(law.log_prob(image).item(), N - M)
    expected = pixels_law.log_prob(torch.as_tensor(from_scaled(image)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(scaled(from_scaled(image)), image, atol=1e-14)


# --- Reverse processes ----------------------------------------------------------------------------


def test_draws_on_the_subspace_have_the_law(covariance):
    """With the variances of the bound, which are those of the exact reverse kernels."""
    model, law = gaussian_world(OnSubspace, 0.3 * torch.eye(N))
    k = torch.randn(1, M)
    variances = best_variances(model, law(k).sample((4000,))[:, 0])
    *_, images = reversed_steps(model, k.expand(4000, M), 40, 1.0, variances=variances)
    oracle = law(k[0])
    assert_likely(of_moments(images.numpy(), oracle.mean.numpy(), oracle.covariance.numpy()))


@pytest.mark.parametrize("t", [2, 20, 40])
def test_projecting_the_image_conditions_on_sums_drawn_from_their_law(t, untrained):
    """Mean and covariance of x_{t-1}: sums from N(., .) given k, then our law given these sums."""
    model = untrained[Process]
    process, schedule = model.process, model.process.schedule
    k, state = torch.randn(1, M), torch.randn(1, N)
    seen = model.predict(state, k, t)
    on_law = model.explain(state, process.onto_law(seen.image, k), k, t)
    found = model.step_mean(on_law, k, t, t - 1, 1.0)
    scale = schedule.step_scale(t, t - 1)
    kept_t, kept_s = schedule.signal[t] ** 2, schedule.signal[t - 1] ** 2
    gain = (kept_t / kept_s).sqrt() * (1 - kept_s) / (1 - kept_t)
    sums = kept_s.sqrt() * k + gain * (state @ DENSE.T - kept_t.sqrt() * k)
    law = ConstrainedNormal(model.step_mean(seen, k, t, t - 1, 1.0), scale, A, sums)
    np.testing.assert_allclose(found.detach(), law.mean.detach(), atol=1e-10)
    lift = DENSE.T / 4
    whole = law.covariance[0] + lift @ (scale**2 * DENSE @ DENSE.T) @ lift.T
    np.testing.assert_allclose(whole, scale**2 * torch.eye(N), atol=1e-12)


def test_projecting_the_state_conditions_on_the_mean_of_the_sums(untrained):
    process = untrained[Process].process
    mean, scale, k = torch.randn(1, N), torch.tensor(0.3), torch.randn(1, M)
    draws = process.onto_law(mean + scale * torch.randn(4000, N), k)
    law = ConstrainedNormal(mean[0], scale, A, k[0])
    assert_likely(of_moments(draws.numpy(), law.mean.numpy(), law.covariance.numpy()))


def test_interpolation_against_numpy(covariance):
    """Noise that is never replaced leaves nothing to chance."""
    model, _ = gaussian_world(Process, covariance)
    k = torch.randn(2, M)
    first, *_, last = renoised_steps(model, k, 8, rounds=2, lifetime=1000)
    signal, amount = (
        part.numpy() for part in (model.process.schedule.signal, model.process.schedule.noise)
    )
    dense, x = DENSE.numpy(), first.numpy()
    for t, s in model.process.schedule.steps(8):
        for level in (t, s):
            level_of = torch.full((2, 1), t)
            image = model.image(torch.as_tensor(x), k, level_of).numpy()
            image = image - (image @ dense.T - k.numpy()) @ dense / 4
            x = signal[level] * image + amount[level] * first.numpy()
    np.testing.assert_allclose(last, x, atol=1e-9)


@pytest.mark.parametrize(("rounds", "lifetime", "low", "high"), [(2, 1, 0.2, 0.7), (1, 5, 1.5, 4)])
def test_published_renoising_misses_the_spread_of_gaussian_images(rounds, lifetime, low, high):
    """With an exact network: new noise each time narrows the law, noise that is kept widens it."""
    model, law = gaussian_world(Process, 0.3 * torch.eye(N), Settings(hidden=8))
    k = torch.randn(1, M)
    *_, images = renoised_steps(model, k.expand(2000, M), 200 // rounds, rounds, lifetime)
    ratio = torch.cov(images.T).trace() / law(k[0]).covariance.trace()
    assert low < ratio < high


def test_frechet_distance_against_scipy(rng):
    one, other = rng.normal(size=(50, 5)), rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) + 0.3
    first, second = np.cov(one.T), np.cov(other.T)
    gap = one.mean(0) - other.mean(0)
    expected = gap @ gap + np.trace(first + second - 2 * sqrtm(first @ second).real)
    np.testing.assert_allclose(frechet_distance(one, other), expected, rtol=1e-9)


# --- The experiment -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LINES if name[0] != "plain"])
def test_images_obey_the_law(name, untrained):
    line = LINES[name]
    model = untrained[OnSubspace if line.training == "subspace" else Process]
    settings = replace(SETTINGS, fewer_levels=10)
    k = torch.randn(3, M)
    states = list(line.draw(Given(model, k, settings, torch.full((41,), 0.01))))
    scale = max(state.abs().max().item() for state in states)
    np.testing.assert_allclose(states[-1] @ DENSE.T, k, atol=1e-13 * (1 + scale))
    if line.training == "subspace":
        for state in states:
            np.testing.assert_allclose(state @ DENSE.T, k, atol=1e-11 * (1 + scale))


def test_lines_by_method_and_training():
    few, rest = lines_of("", through=False), lines_of("", through=True)
    assert {line.training for line in few.values()} == {"plain", "perturbed", "subspace"}
    assert {**few, **rest} == LINES and len(few) + len(rest) == len(LINES)
    assert {name for name, _ in lines_of("on the subspace", through=False)} == {SUBSPACE}


def test_short_run_goes_on_where_it_was(tmp_path):
    torch.set_default_dtype(torch.float32)
    arguments = ["--short", "--folder", str(tmp_path)]
    part = main([*arguments, "--only", "at sampling only"])
    assert set(part["method"]) == {SAMPLING_ONLY}
    whole = main(arguments)
    kept = whole[whole["method"] == SAMPLING_ONLY]
    np.testing.assert_array_equal(kept["seconds"], part["seconds"])  # not run again
    assert len(whole) == 1 + len(LINES) and np.isfinite(whole["fid"]).all()
    obeying = ~whole["method"].isin(["plain", REFERENCE[0]])
    assert whole.loc[obeying, "violation"].max() < 1e-4
    for ending in (".png", "_images.png", "_paths.png"):
        assert (tmp_path / f"diffusion{ending}").stat().st_size > 5_000
    assert "Frechet" in (tmp_path / "diffusion.md").read_text()
    assert list(results_table(whole, Settings().shortened())["runs"]) == [1] * len(whole)
