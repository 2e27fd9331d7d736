"""Reverse processes. Each yields its states, from white noise to the images."""

from collections.abc import Iterator

import torch
from torch import Tensor

from experiments.diffusion.network import Model


@torch.no_grad()
def reversed_steps(
    model: Model,
    k: Tensor,
    steps: int,
    share: float,
    project: str = "never",
    variances: Tensor | None = None,
) -> Iterator[Tensor]:
    """DDPM (``share`` 1, ``steps`` = T) or DDIM (0).

    Args:
        model: its process says where new noise goes: on the subspace, draws are those of
            ``ConstrainedNormal``.
        k: ``(images, m)``.
        project: ``image``: the predicted image is moved to the law at each step, ``state``: the
            state is moved to A x = signal_t k; ``never``.
        variances: ``(T + 1,)`` of the kernels from t to t - 1, instead of those given x_0.

    With ``image`` the sums A x_t follow their own law given k exactly: they are a Gaussian process
    that starts at k, and the mean and variance of its step backwards are those given x_0. So this
    is at the same time the reverse Gaussian conditioned on sums that are drawn from that law (with
    equal variances, conditioning moves a draw to the nearest point). ``state`` is the reverse
    Gaussian conditioned on sums at their mean.
    """
    process, schedule = model.process, model.process.schedule
    state = process.centre(k) + process.white(k)
    yield state
    for t, s in schedule.steps(steps):
        seen = model.predict(state, k, t)
        if project == "image":
            seen = model.explain(state, process.onto_law(seen.image, k), k, t)
        state = model.step_mean(seen, k, t, s, share)
        scale = share * schedule.step_scale(t, s) if variances is None else variances[t].sqrt()
        if scale > 0:
            state = process.kernel(state, scale.to(state.dtype), k).sample()
        else:
            state = process.settled(state, k)
        if project == "state":
            state = process.onto_law(state, schedule.signal[s] * k)
        yield state


@torch.no_grad()
def renoised_steps(
    model: Model, k: Tensor, steps: int, rounds: int, lifetime: int
) -> Iterator[Tensor]:
    """Predict the image, move it to the law, noise it again; some rounds on each level.

    With new noise each time (``lifetime`` 1) this is predict, project, renoise (Rochman-Sharabi and
    Louppe 2026, arXiv 2601.21033), with noise kept for longer it is extrapolate, correct,
    interpolate (Cheng et al. 2025, *Gradient-free generation for hard-constrained systems*), whose
    straight path of flow matching is here that of the diffusion.

    Args:
        lifetime: predictions after which noise is replaced.
    """
    process, schedule = model.process, model.process.schedule
    state, age = process.white(k), 0
    noise = state
    yield state
    for t, s in schedule.steps(steps):
        for level in [t] * (rounds - 1) + [s]:
            image = process.onto_law(model.predict(state, k, t).image, k)
            age += 1
            if age % lifetime == 0:
                noise = process.white(k)
            state = schedule.signal[level] * image + schedule.noise[level] * noise
        yield state
