"""The same network for all methods, and what it predicts."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.diffusion.processes import Process
from experiments.diffusion.schedule import Level

NUM_WAVES = 16
"""Sines, and as many cosines, that tell the network the level."""


class Denoiser(nn.Module):
    """A perceptron of three layers: the image in a state, from state, block means and level.

    Args:
        n: pixels.
        m: blocks.
        levels: T.
    """

    def __init__(self, n: int, m: int, hidden: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.layers = nn.Sequential(
            nn.Linear(n + m + 2 * NUM_WAVES, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, n),
        )

    def forward(self, state: Tensor, means: Tensor, t: Tensor) -> Tensor:
        """``(images, n)`` from ``(images, n)``, ``(images, m)`` and ``(images, 1)``."""
        frequency = torch.logspace(0, 3, NUM_WAVES, dtype=state.dtype)
        angle = 0.5 * math.pi * frequency * t / self.levels
        return self.layers(torch.cat([state, means, angle.sin(), angle.cos()], -1))


class Prediction(NamedTuple):
    """What a state is taken to be made of.

    Attributes:
        image: ``(images, n)`` x_0.
        noise: ``(images, n)`` e, such that both together give the state.
    """

    image: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Model:
    """A network and the forward process it undoes."""

    net: nn.Module
    process: Process

    def image(self, state: Tensor, k: Tensor, t: Level) -> Tensor:
        """``(images, n)`` the predicted image; on the subspace, if noise stays there.

        Where there is little noise in the state, most of the image is the state itself (Karras et
        al. 2022, *Elucidating the design space of diffusion-based generative models*).
        """
        schedule, centre = self.process.schedule, self.process.centre(k)
        level = torch.as_tensor(t).expand(len(state), 1)
        found = self.process.directed(self.net(state, k / self.process.sizes, level))
        seen = (state - centre) / schedule.signal[t]
        return centre + schedule.skip[t] * seen + (1 - schedule.skip[t]) * found

    def predict(self, state: Tensor, k: Tensor, t: Level) -> Prediction:
        """Image and noise that make up the state x_t."""
        return self.explain(state, self.image(state, k, t), k, t)

    def explain(self, state: Tensor, image: Tensor, k: Tensor, t: Level) -> Prediction:
        """The noise that, with this image, gives the state."""
        schedule, centre = self.process.schedule, self.process.centre(k)
        noise = (state - centre - schedule.signal[t] * (image - centre)) / schedule.noise[t]
        return Prediction(image, noise)

    def step_mean(self, seen: Prediction, k: Tensor, t: Level, s: Level, share: float) -> Tensor:
        """Mean of x_s given x_t, of which ``seen`` is what it is made of.

        The noise of x_s is part old, part new; ``share`` is what the new part has of the standard
        deviation that it has given x_0: 1 makes the forward process's own kernels (DDPM), 0 none
        (DDIM; Song, Meng and Ermon 2021, *Denoising diffusion implicit models*).
        """
        schedule, centre = self.process.schedule, self.process.centre(k)
        new = share * schedule.step_scale(t, s)
        old = (schedule.noise[s] ** 2 - new**2).clamp(min=0).sqrt()
        return centre + schedule.signal[s] * (seen.image - centre) + old * seen.noise
