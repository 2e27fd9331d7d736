"""How fast the forward process forgets an image."""

from itertools import pairwise

import torch
from torch import Tensor

from experiments.diffusion.settings import Settings

Level = Tensor | int
"""t: one number, or ``(images, 1)``, one for each image."""


class Schedule:
    """x_t = c + signal_t (x_0 - c) + noise_t e, with signal_t^2 + noise_t^2 = 1, signal_0 = 1.

    Here e is white noise, of all directions or of those within a subspace, and c a centre. The
    formulas are those of Ho, Jain and Abbeel (2020), *Denoising diffusion probabilistic models*,
    with signal_t^2 for their product of alphas.

    Attributes:
        signal, noise: ``(T + 1,)``.
        skip: ``(T + 1,)`` share of (x_t - c) / signal_t in a predicted image: g^2 over g^2 plus the
            variance of its noise, for images that are white noise of deviation g below some scale.
        weight: ``(T + 1,)`` of the predicted image in the mean of the kernel from t to t - 1; it
            stands at t, 0 at t = 0.
    """

    def __init__(self, settings: Settings) -> None:
        rates = torch.linspace(
            settings.least_noise, settings.most_noise, settings.levels, dtype=torch.float64
        )
        start = torch.zeros(1, dtype=torch.float64)
        self._rates = torch.cat([start, rates])
        self._kept = (1 - self._rates).cumprod(0)  # in double precision: 1 - kept is small at first
        dtype = torch.get_default_dtype()
        self.signal = self._kept.sqrt().to(dtype)
        self.noise = (1 - self._kept).sqrt().to(dtype)
        grain = settings.grain**2
        self.skip = (grain / (grain + 1 / self._kept - 1)).to(dtype)
        weight = self._kept[:-1].sqrt() * rates / (1 - self._kept[1:])
        self.weight = torch.cat([start, weight]).to(dtype)

    @property
    def levels(self) -> int:
        """T."""
        return len(self.signal) - 1

    def steps(self, number: int) -> list[tuple[int, int]]:
        """Pairs of levels (t, s), s < t, from T down to 0 in so many steps."""
        return list(pairwise(torch.linspace(self.levels, 0, number + 1).round().int().tolist()))

    def step_scale(self, t: Level, s: Level) -> Tensor:
        """Standard deviation of x_s given x_t and x_0, in each direction that noise has."""
        kept_t, kept_s = self._kept[t], self._kept[s]
        variance = (1 - kept_s) / (1 - kept_t) * (1 - kept_t / kept_s)
        return variance.sqrt().to(self.signal.dtype)
