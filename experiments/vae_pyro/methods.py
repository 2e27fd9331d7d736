"""Models and guide in Pyro: what differs between the methods is what is observed."""

from collections.abc import Mapping

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

from experiments.images.data import Split
from experiments.perceptron import Parameters
from experiments.vae.laws import pixels_that_follow
from experiments.vae.methods import Method
from experiments.vae.training import batches, scaling_of
from experiments.vae_pyro.codes import joined, made_of, positive
from experiments.vae_pyro.laws import completed_log_prob, projected_log_prob
from experiments.vae_pyro.network import Net
from pyro_constrained import ConstrainedLowRankMultivariateNormal, ConstrainedNormal
from rivals.layers_torch import semantic_loss, squared_penalty

Told = Mapping[str, Tensor]
"""What the decoder says of some images."""


class VAE(nn.Module):
    """The plain VAE: independent normal pixels that see k but need not obey it.

    Args:
        method: of ``experiments.vae``, whose nets these are; it judges what is learned here.
        split: the images.

    Attributes:
        steps: of training that are done.
    """

    steps = 0

    def __init__(self, method: Method, split: Split) -> None:
        super().__init__()
        self.method, self.settings, self.A = method, method.settings, method.A
        sums, pixels = self.A.shape
        self.codes = made_of(method.codes, pixels, sums)
        widths = [self.settings.hidden, self.settings.hidden]
        self.decoder = Net(self.settings.code + sums, widths, method.heads())
        bias = self.decoder.heads["loc"].bias
        bias.data = bias.new_tensor(split.noised(np.array(0.5)).mean(0))
        self.scaling = [torch.tensor(np.asarray(part)) for part in scaling_of(method, split)]

    def sums_of(self, x: Tensor) -> Tensor:
        """``(images, m)`` k = A x."""
        return x @ x.new_tensor(self.A.to_dense().T)

    def shown(self, k: Tensor) -> Tensor:
        """k as the nets see it."""
        centre, spread = self.scaling
        return (k - centre) / spread

    def pixel_scale(self, told: Told) -> Tensor:
        return positive(told["scale"], self.settings.start_scale) + self.settings.smallest_scale

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        """The part of the model after the code."""
        law = dist.Normal(told["loc"], self.pixel_scale(told), validate_args=False)
        pyro.sample("x", law.to_event(1), obs=x)

    def model(self, x: Tensor, k: Tensor) -> None:
        """p(code) p(x | code, k)."""
        pyro.module("vae", self)
        shown = self.shown(k)
        with pyro.plate("images", len(x)):
            z = self.codes.generate(shown)
            self.observe(self.decoder(joined(z, shown)), k, x)

    def guide(self, x: Tensor, k: Tensor) -> None:
        """q(code | x, k)."""
        with pyro.plate("images", len(x)):
            self.codes.infer(x, self.shown(k))

    def to_jax(self) -> Parameters:
        """The nets, as the methods of ``experiments.vae`` read them."""
        return self.codes.to_jax() | {"decoder": self.decoder.to_jax()}


class SoftPenalty(VAE):
    """Likelihood, less ``penalty_weight`` times the squared residual of the mean image."""

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        super().observe(told, k, x)
        missed = squared_penalty(told["loc"], self.A, k).sum(-1)
        pyro.factor("penalty", -self.settings.penalty_weight * missed)


class SemanticLoss(VAE):
    """Likelihood, and ``semantic_weight`` times the log density of the law given the code."""

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        super().observe(told, k, x)
        surprise = semantic_loss(told["loc"], self.pixel_scale(told), self.A, k)
        pyro.factor("surprise", -self.settings.semantic_weight * surprise)


class ProjectionLayer(VAE):
    """Each draw moved to the nearest image that obeys; by the likelihood of what comes of it."""

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        pyro.factor("x", projected_log_prob(x, told["loc"], self.pixel_scale(told), self.A))


class Completion(VAE):
    """One pixel of each group follows from the others (constraint layer); by its likelihood."""

    def __init__(self, method: Method, split: Split) -> None:
        super().__init__(method, split)
        self.dependent = pixels_that_follow(self.A)

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        scale = self.pixel_scale(told)
        pyro.factor("x", completed_log_prob(x, told["loc"], scale, self.A, self.dependent))


class Likelihood(VAE):
    """Ours: the pixels given A x = k."""

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        scale = self.pixel_scale(told)
        law = ConstrainedNormal(told["loc"], scale, self.A, k, validate_args=False)
        pyro.sample("x", law, obs=x)


class JointStart(Likelihood):
    """Ours: the first steps by the density of pixels and sums together, which is the plain one."""

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        law = VAE if self.steps < self.settings.joint_steps else Likelihood
        law.observe(self, told, k, x)


class LowRank(VAE):
    """Normal pixels whose covariance is a factor of few columns and a diagonal."""

    def covariance(self, told: Told) -> tuple[Tensor, Tensor]:
        """W ``(images, n, q)`` and d ``(images, n)``."""
        shape = (*told["loc"].shape, self.settings.factors)
        factor = self.settings.start_scale * told["factor"].reshape(shape)
        return factor, self.pixel_scale(told).square()

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        law = dist.LowRankMultivariateNormal(
            told["loc"], *self.covariance(told), validate_args=False
        )
        pyro.sample("x", law, obs=x)


class LowRankLikelihood(LowRank):
    """Ours: low-rank normal pixels given A x = k."""

    def observe(self, told: Told, k: Tensor, x: Tensor) -> None:
        law = ConstrainedLowRankMultivariateNormal(
            told["loc"], *self.covariance(told), self.A, k, validate_args=False
        )
        pyro.sample("x", law, obs=x)


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
            vae.steps += 1
    return vae
