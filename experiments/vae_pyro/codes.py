"""The codes of ``experiments.vae.codes`` in Pyro: one layer, or a ladder of two."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from experiments.perceptron import Parameters
from experiments.vae import codes
from experiments.vae.codes import SMALLEST_SCALE, heads
from experiments.vae_pyro.network import Net

__all__ = ["OneCode", "joined", "made_of", "positive"]


def positive(output: Tensor, start: float) -> Tensor:
    """A scale from an output of a net; ``start`` where that is zero."""
    return softplus(output + float(np.log(np.expm1(start))))


def joined(one: Tensor, shown: Tensor) -> Tensor:
    """What a net sees: something, and the law."""
    return torch.cat([one, shown], -1)


def scale_of(output: Tensor) -> Tensor:
    return positive(output, 1.0) + SMALLEST_SCALE


def unit(size: int, like: Tensor) -> dist.Distribution:
    return dist.Normal(like.new_zeros(size), 1.0).to_event(1)


class OneCode(nn.Module):
    """z ~ N(0, 1), and an encoder N(loc(x, k), scale(x, k)^2).

    Args:
        sizes: of the code and of the nets.
        pixels, sums: of an image.
    """

    def __init__(self, sizes: codes.OneCode, pixels: int, sums: int) -> None:
        super().__init__()
        self.size = sizes.size
        self.encoder = Net(pixels + sums, [sizes.hidden, sizes.hidden], heads(sizes.size))

    def generate(self, shown: Tensor) -> Tensor:
        """Draw from the prior."""
        return pyro.sample("z", unit(self.size, shown))

    def infer(self, x: Tensor, shown: Tensor) -> Tensor:
        """Draw given images."""
        told = self.encoder(joined(4 * x - 1, shown))
        return pyro.sample("z", dist.Normal(told["loc"], scale_of(told["scale"])).to_event(1))

    def to_jax(self) -> Parameters:
        return {name: net.to_jax() for name, net in self.named_children()}


class Ladder(OneCode):
    """z2 ~ N(0, 1), z1 ~ N(loc(z2, k), scale(z2, k)^2), of which the decoder sees z1."""

    def __init__(self, sizes: codes.Ladder, pixels: int, sums: int) -> None:
        super().__init__(sizes, pixels, sums)
        self.top = sizes.top
        self.up = Net(sizes.hidden, [sizes.hidden], heads(sizes.top))
        self.down = Net(sizes.top + sums, [sizes.hidden], heads(sizes.size))

    def generate(self, shown: Tensor) -> Tensor:
        top = pyro.sample("top", unit(self.top, shown))
        return pyro.sample("z", dist.Normal(*self.below(top, shown)).to_event(1))

    def infer(self, x: Tensor, shown: Tensor) -> Tensor:
        lower = self.encoder.hidden(joined(4 * x - 1, shown))
        seen, upper = self.encoder.from_features(lower), self.up(lower)
        law_of_top = dist.Normal(upper["loc"], scale_of(upper["scale"])).to_event(1)
        loc, scale = self.below(pyro.sample("top", law_of_top), shown)
        prior, told = scale**-2, scale_of(seen["scale"]) ** -2
        both = prior + told
        mean = (prior * loc + told * seen["loc"]) / both
        return pyro.sample("z", dist.Normal(mean, both**-0.5).to_event(1))

    def below(self, top: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of z1 given z2."""
        found = self.down(joined(top, shown))
        return found["loc"], scale_of(found["scale"])


def made_of(sizes: codes.OneCode, pixels: int, sums: int) -> OneCode:
    """The codes of a method of ``experiments.vae``."""
    if isinstance(sizes, codes.Ladder):
        return Ladder(sizes, pixels, sums)
    return OneCode(sizes, pixels, sums)
