"""One network for all methods: a variational autoencoder that is told the sums."""

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import softplus

from experiments.counts.photons import Detector

__all__ = ["VAE", "prior"]


def layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, outputs),
    )


def prior(code_size: int) -> TorchDistribution:
    """N(0, 1) of a code ``(code_size,)``."""
    return Normal(torch.zeros(code_size), 1.0).to_event(1)


class VAE(nn.Module):
    """Code z ~ N(0, 1), counts x ~ law of ``decode(z, k)``, encoder q(z | x, k).

    Args:
        detector: which sums are told.
        exposure: photons of a white pixel; inputs are divided by it.
        code_size, hidden: sizes.
        is_scaled: whether rates are the net's times the mean of the group by its sum.
    """

    def __init__(
        self,
        detector: Detector,
        exposure: float,
        code_size: int,
        hidden: int,
        is_scaled: bool = True,
    ) -> None:
        super().__init__()
        self.is_scaled = is_scaled
        self.detector, self.exposure, self.code_size = detector, exposure, code_size
        num_sums, num_pixels = detector.A.shape
        self.sizes: Tensor
        self.register_buffer("sizes", torch.as_tensor(detector.A.sizes.astype(float)).float())
        self.encoder = layers(num_pixels + num_sums, hidden, 2 * code_size)
        self.decoder = layers(code_size + num_sums, hidden, num_pixels)

    def encode(self, x: Tensor, k: Tensor) -> TorchDistribution:
        """q(z | x, k) of ``(*batch, n)`` counts and their ``(*batch, m)`` sums."""
        loc, raw_scale = self.encoder(torch.cat([x / self.exposure, self._told(k)], -1)).chunk(
            2, -1
        )
        return Normal(loc, softplus(raw_scale) + 1e-3).to_event(1)

    def decode(self, z: Tensor, k: Tensor) -> Tensor:
        """``(*draws, *batch, n)`` rates: e^net, times the mean of the group by its sum if scaled.

        Scaled, the unconstrained decoder, too, starts with rates whose sums are nearly k.
        """
        told = self._told(k).expand(z.shape[:-1] + k.shape[-1:])
        rate = self.decoder(torch.cat([z, told], -1)).exp()
        if not self.is_scaled:
            return rate
        return rate * self.detector.own_sum((k + 0.5) / self.sizes)  # not 0 in empty groups

    def _told(self, k: Tensor) -> Tensor:
        """Mean brightness of each group."""
        return k / (self.sizes * self.exposure)
