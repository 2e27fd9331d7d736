"""A lower bound on log p(x | A x = k), in nats on the subspace, from closed-form divergences.

On the subspace every state obeys the law, every reverse kernel is a normal law given A x = k, and
the variational bound of Ho et al. (2020) holds as it stands with these laws in it:

    log p(x_0 | k) >= E[log p(x_0 | x_1)] - sum_t E[KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))]
                      - KL(q(x_T | x_0) || p(x_T)).

Where noise goes into all directions and only the reverse kernels are conditioned, the sums A x_t
are drawn from their law given k, which the forward process has too. This part of both processes
cancels, and what is left of each divergence is that of the kernels given the same sums A x_{t-1}.
"""

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from experiments.diffusion.network import Model
from pyro_constrained import ConstrainedNormal

__all__ = ["best_variances", "log_bound"]


@torch.no_grad()
def best_variances(model: Model, images: Tensor) -> Tensor:
    """``(T + 1,)`` of the kernels from t to t - 1 along the law that make the bound largest.

    The variance given x_0 and the mean squared error of the kernel's mean, over the images and the
    n - m dimensions (Bao et al. 2022, *Analytic-DPM*, work it out from the score).

    Args:
        images: ``(images, n)``, not those that the bound is for.
    """
    process, schedule = model.process, model.process.schedule
    k, (m, n) = process.sums(images), process.A.shape
    variances = [images.new_zeros(())]
    for t in range(1, schedule.levels + 1):
        state = process.noised(images, process.white(k), t, k)
        missed = process.along_law(model.image(state, k, t) - images)
        error = missed.square().sum(-1).mean() / (n - m)
        variances.append(schedule.step_scale(t, t - 1) ** 2 + schedule.weight[t] ** 2 * error)
    return torch.stack(variances)


@torch.no_grad()
def log_bound(model: Model, images: Tensor, variances: Tensor) -> Tensor:
    """``(images,)`` the bound; of each expectation over x_t, one draw, of each sum, all terms.

    Args:
        images: ``(images, n)``.
        variances: ``(T + 1,)``, see ``best_variances``.
    """
    process, schedule = model.process, model.process.schedule
    k, T = process.sums(images), schedule.levels
    last = process.noised(images, torch.zeros_like(images), T, k)
    start = process.centre(k).expand_as(images)
    bound = -_divergence(model, last, schedule.noise[T], start, schedule.noise.new_ones(()))
    for t in range(1, T + 1):
        state = process.noised(images, process.white(k), t, k)
        seen, true = model.predict(state, k, t), model.explain(state, images, k, t)
        mean, true_mean = (model.step_mean(part, k, t, t - 1, 1.0) for part in (seen, true))
        scale = variances[t].sqrt()
        if t > 1:
            true_scale = schedule.step_scale(t, t - 1)
            bound = bound - _divergence(model, true_mean, true_scale, mean, scale)
        else:
            exact = process.sums(images.double())
            bound = bound + _law(model, mean, scale, exact).log_prob(images.double())
    return bound


def _divergence(
    model: Model, true_mean: Tensor, true_scale: Tensor, mean: Tensor, scale: Tensor
) -> Tensor:
    """``(images,)`` of the two normal laws given the sums of the first's mean."""
    sums = model.process.sums(true_mean.double())
    true, own = _law(model, true_mean, true_scale, sums), _law(model, mean, scale, sums)
    return kl_divergence(true, own)


def _law(model: Model, mean: Tensor, scale: Tensor, sums: Tensor) -> ConstrainedNormal:
    """In double precision: divergences of nearly equal laws are small differences."""
    return ConstrainedNormal(
        mean.double(), scale.double(), model.process.A, sums, validate_args=False
    )
