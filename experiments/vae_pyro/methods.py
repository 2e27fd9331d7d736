"""Models and guide in Pyro: what differs between the methods is what is observed."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.nn.functional import softplus

from experiments.images.data import Split
from experiments.perceptron import Parameters
from experiments.vae.codes import SMALLEST_SCALE, heads
from experiments.vae.methods import Method
from experiments.vae.training import batches, scaling_of
from experiments.vae_pyro.network import Net
from pyro_constrained import ConstrainedNormal
from rivals.layers_torch import semantic_loss, squared_penalty


class VAE(nn.Module):
    """The plain VAE: independent normal pixels that see k but need not obey it.

    Args:
        method: of ``experiments.vae``, whose nets these are; it judges what is learned here.
        split: the images.
    """

    def __init__(self, method: Method, split: Split) -> None:
        super().__init__()
        self.method, self.settings, self.A = method, method.settings, method.A
        sums, pixels = self.A.shape
        size, hidden = self.settings.code, self.settings.hidden
        self.encoder = Net(pixels + sums, hidden, heads(size))
        self.decoder = Net(size + sums, hidden, {"loc": pixels, "scale": pixels})
        mean_image = split.noised(np.array(0.5)).mean(0)
        self.decoder.heads["loc"].bias.data = self.encoder.hidden[0].bias.new_tensor(mean_image)
        self.scaling = [torch.tensor(np.asarray(part)) for part in scaling_of(method, split)]

    def sums_of(self, x: Tensor) -> Tensor:
        """``(images, m)`` k = A x."""
        return x @ x.new_tensor(self.A.to_dense().T)

    def shown(self, k: Tensor) -> Tensor:
        """k as the nets see it."""
        centre, spread = self.scaling
        return (k - centre) / spread

    def encode(self, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of the code."""
        told = self.encoder(torch.cat([4 * x - 1, self.shown(k)], -1))
        return told["loc"], positive(told["scale"], 1.0) + SMALLEST_SCALE

    def decode(self, z: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of the pixels."""
        told = self.decoder(torch.cat([z, self.shown(k)], -1))
        scale = positive(told["scale"], self.settings.start_scale)
        return told["loc"], scale + self.settings.smallest_scale

    def observe(self, loc: Tensor, scale: Tensor, k: Tensor, x: Tensor) -> None:
        pyro.sample("x", dist.Normal(loc, scale, validate_args=False).to_event(1), obs=x)

    def model(self, x: Tensor, k: Tensor) -> None:
        """p(z) p(x | z, k)."""
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.settings.code), 1.0).to_event(1))
            self.observe(*self.decode(z, k), k, x)

    def guide(self, x: Tensor, k: Tensor) -> None:
        """q(z | x, k)."""
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(*self.encode(x, k)).to_event(1))

    def to_jax(self) -> Parameters:
        """The nets, as the methods of ``experiments.vae`` read them."""
        return {"encoder": self.encoder.to_jax(), "decoder": self.decoder.to_jax()}


class SoftPenalty(VAE):
    """Likelihood, less ``penalty_weight`` times the squared residual of the mean image."""

    def observe(self, loc: Tensor, scale: Tensor, k: Tensor, x: Tensor) -> None:
        super().observe(loc, scale, k, x)
        missed = squared_penalty(loc, self.A, k).sum(-1)
        pyro.factor("penalty", -self.settings.penalty_weight * missed)


class SemanticLoss(VAE):
    """Likelihood, and ``semantic_weight`` times the log density of the law given the code."""

    def observe(self, loc: Tensor, scale: Tensor, k: Tensor, x: Tensor) -> None:
        super().observe(loc, scale, k, x)
        surprise = semantic_loss(loc, scale, self.A, k)
        pyro.factor("surprise", -self.settings.semantic_weight * surprise)


class Likelihood(VAE):
    """Ours: the pixels given A x = k."""

    def observe(self, loc: Tensor, scale: Tensor, k: Tensor, x: Tensor) -> None:
        pyro.sample("x", ConstrainedNormal(loc, scale, self.A, k, validate_args=False), obs=x)


def positive(output: Tensor, start: float) -> Tensor:
    """A scale from an output of a net; ``start`` where that is zero."""
    return softplus(output + float(np.log(np.expm1(start))))


def trainer(vae: VAE) -> SVI:
    """Adam with a rate that decays to the final one."""
    settings = vae.settings
    decay = (settings.final_learning_rate / settings.learning_rate) ** (1 / settings.steps)
    rule = {"lr": settings.learning_rate, "lrd": decay, "clip_norm": float("inf")}
    return SVI(vae.model, vae.guide, pyro.optim.ClippedAdam(rule), TraceMeanField_ELBO())


def fit(make: type[VAE], method: Method, split: Split, seed: int) -> VAE:
    """A VAE after all steps, from the same batches as in JAX."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    vae = make(method, split)
    svi, settings = trainer(vae), vae.settings
    for part in batches(split, seed, settings.steps, settings.batch_size):
        for x in torch.as_tensor(part):
            svi.step(x, vae.sums_of(x))
    return vae
