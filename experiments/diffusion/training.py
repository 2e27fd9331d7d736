"""What each network learns from: batches of noised images."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.diffusion.network import Denoiser, Model
from experiments.diffusion.problem import Problem
from experiments.diffusion.processes import OnSubspace, Process
from experiments.diffusion.schedule import Schedule
from experiments.diffusion.settings import Settings
from pyro_constrained import ConstrainedNormal

Loss = Callable[[Model, Tensor, Tensor], Tensor]
"""From a model, images ``(batch, n)`` and their sums ``(batch, m)`` to a number."""


def image_loss(model: Model, images: Tensor, k: Tensor) -> Tensor:
    """Mean squared error of the predicted image, all levels alike."""
    t = random_levels(model, images)
    state = model.process.noised(images, model.process.white(k), t, k)
    return (model.image(state, k, t) - images).square().mean()


def random_levels(model: Model, images: Tensor) -> Tensor:
    """``(images, 1)`` t between 1 and T."""
    return torch.randint(1, model.process.schedule.levels + 1, (len(images), 1))


def perturbed_loss(model: Model, images: Tensor, k: Tensor, spread: float) -> Tensor:
    """The same on images that are moved off the law at random, along its normal directions.

    Keegan and Ruthotto (2026), *Manifold-aware perturbations for constrained generative modeling*
    (arXiv 2601.23151): their law then has a density in R^n.
    """
    white = model.process.white(k)
    return image_loss(model, images + spread * (white - model.process.along_law(white)), k)


def kernel_loss(
    model: Model, images: Tensor, k: Tensor, estimator: str, *, expected: bool, weighted: bool
) -> Tensor:
    """Squared distance of the constrained reverse kernel from the forward process's own.

    x_{t-1} is drawn given x_t and x_0, the reverse Gaussian conditioned on the sums A x_{t-1}; what
    counts is the distance of its draw (or, expected, of all its draws) to the mean of the forward
    process's kernel given the same sums.

    Args:
        estimator: of the gradient through the draw.
        expected: in closed form, without a draw.
        weighted: in units of the kernel's own variance, as in the bound; else such that it is the
            error of the predicted image along the law, for which a draw has too much noise.
    """
    process, schedule = model.process, model.process.schedule
    t = random_levels(model, images)
    state = process.noised(images, process.white(k), t, k)
    seen, true = model.predict(state, k, t), model.explain(state, images, k, t)
    mean, true_mean = (model.step_mean(part, k, t, t - 1, 1.0) for part in (seen, true))
    scale = schedule.step_scale(t, t - 1)
    sums = process.sums(true_mean + scale * process.white(k))
    scale = torch.where(t > 1, scale, schedule.noise[1])  # x_0 is given there: any width will do
    law = ConstrainedNormal(
        mean, scale, process.A, sums, gradient_estimator=estimator, validate_args=False
    )
    target = process.onto_law(true_mean, sums)
    error = law.expected_l2(target) if expected else (law.rsample() - target).square()
    unit = scale if weighted else schedule.weight[t]
    return (error / unit**2).mean()


through = partial(kernel_loss, estimator="pathwise")

TRAININGS: dict[str, tuple[type[Process], Callable[[Settings], Loss]]] = {
    "plain": (Process, lambda settings: image_loss),
    "subspace": (OnSubspace, lambda settings: image_loss),
    "perturbed": (Process, lambda settings: partial(perturbed_loss, spread=settings.normal_noise)),
    "expected": (Process, lambda settings: partial(through, expected=True, weighted=False)),
    "expected, weighted": (
        Process,
        lambda settings: partial(through, expected=True, weighted=True),
    ),
    "draw": (Process, lambda settings: partial(through, expected=False, weighted=True)),
}
"""The forward process of each network and what it minimises."""


def train(
    name: str, problem: Problem, settings: Settings, steps: int, advance: Callable[[], None]
) -> Model:
    """The network that some of the methods share, by Adam, whose rate falls to 0 along a cosine."""
    make_process, make_loss = TRAININGS[name]
    loss, (m, n) = make_loss(settings), problem.A.shape
    process = make_process(Schedule(settings), problem.A)
    model = Model(Denoiser(n, m, settings.hidden, settings.levels), process)
    optimiser = torch.optim.Adam(model.net.parameters(), settings.learning_rate, fused=True)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        images = problem.batch(torch.randint(problem.num_train, (settings.batch_size,)))
        value = loss(model, images, process.sums(images))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        fall.step()
        advance()
    if not value.isfinite():
        raise FloatingPointError(f"expected a finite loss, got {value.item()}")
    return model
