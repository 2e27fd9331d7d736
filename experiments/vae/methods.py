"""What all methods share: nets, a NumPyro model p(code) p(x | code, k), a guide; the plain ones.

A method says how the decoder's answer becomes a law of the image, and what is learned by.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array, random

from constrained_core import GroupSum
from experiments.images.laws import block_sums
from experiments.perceptron import Outputs, Parameters, init_network, outputs, positive
from experiments.vae.codes import Ladder, OneCode, joined
from experiments.vae.settings import Settings
from numpyro_constrained import ConstrainedLowRankMultivariateNormal, ConstrainedNormal


class Known(NamedTuple):
    """What is known of some images before they are seen.

    Attributes:
        k: ``(images, m)`` their sums.
        shown: ``(images, m)`` the same, standardised, as nets see them.
    """

    k: Array
    shown: Array


class Scaling(NamedTuple):
    """``(m,)`` mean and standard deviation of k over the training images."""

    centre: Array
    spread: Array


@dataclass(frozen=True)
class Method:
    """Independent normal pixels that see k but need not obey it: the plain VAE.

    Attributes:
        side: of the images.
        block: side of the blocks whose sums are given.
        has_ladder: whether there are two layers of codes.
    """

    side: int
    block: int
    settings: Settings
    has_ladder: bool = False
    obeys_law = False

    @cached_property
    def A(self) -> GroupSum:
        return block_sums(self.side, self.block)

    @property
    def codes(self) -> OneCode:
        sizes = self.settings.code, self.settings.hidden
        return Ladder(*sizes, self.settings.top_code) if self.has_ladder else OneCode(*sizes)

    @property
    def plain(self) -> "Method":
        """The plain VAE with the same codes."""
        return Method(self.side, self.block, self.settings, self.has_ladder)

    @property
    def trained_as(self) -> "Method":
        """The method whose training this one takes over."""
        return self

    def at_step(self, step: int) -> "Method":
        """The method whose loss is learned by after so many steps."""
        return self

    def heads(self) -> dict[str, int]:
        """Of the decoder, with their sizes."""
        return {"loc": self.side**2, "scale": self.side**2}

    def start(self, key: Array, mean_image: Array) -> Parameters:
        """Nets at random, but for a decoder whose images are the mean image on the whole."""
        settings, (sums, pixels) = self.settings, self.A.shape
        key_codes, key_decoder = random.split(key)
        widths = [settings.hidden, settings.hidden]
        decoder = init_network(key_decoder, settings.code + sums, widths, self.heads(), False)
        decoder["heads"]["loc"] = decoder["heads"]["loc"][0], mean_image
        return self.codes.start(key_codes, pixels, sums) | {"decoder": decoder}

    def read(self, x: Array, scaling: Scaling) -> Known:
        """What is known of images ``(images, n)``."""
        k = x @ jnp.asarray(self.A.to_dense().T, x.dtype)
        return Known(k, (k - scaling.centre) / scaling.spread)

    def decode(self, parameters: Parameters, z: Array, known: Known) -> Outputs:
        return outputs(parameters["decoder"], joined(z, known.shown))

    def pixel_scale(self, output: Array) -> Array:
        return positive(output, self.settings.start_scale) + self.settings.smallest_scale

    def law(self, told: Outputs, known: Known) -> dist.Distribution:
        """Of an image, given its code; what images are drawn from and judged by."""
        scale = self.pixel_scale(told["scale"])
        return dist.Normal(told["loc"], scale, validate_args=False).to_event(1)

    def law_log_prob(self, told: Outputs, known: Known) -> Array:
        """``(images,)`` log density of A x = k given a code, for a law that does not obey."""
        return self.constrained(told, known).constraint_log_prob()

    def observe(self, told: Outputs, known: Known, x: Array) -> None:
        """The part of the model after the code."""
        numpyro.sample("x", self.law(told, known), obs=x)

    def prior(self, parameters: Parameters, known: Known) -> Array:
        """Draw codes before the images are seen."""
        with numpyro.plate("images", len(known.k)):
            return self.codes.generate(parameters, known.shown)

    def look(self, parameters: Parameters, x: Array, known: Known) -> Outputs:
        """What the encoder makes of the images; no chance in it."""
        return self.codes.look(parameters, x, known.shown)

    def encoder(self, parameters: Parameters, seen: Outputs, known: Known) -> Array:
        """Draw codes of images of which ``look`` told."""
        with numpyro.plate("images", len(known.k)):
            return self.codes.infer(parameters, seen, known.shown)

    def model(self, parameters: Parameters, x: Array, known: Known) -> None:
        """What NumPyro trains."""
        z = self.prior(parameters, known)
        with numpyro.plate("images", len(x)):
            self.observe(self.decode(parameters, z, known), known, x)

    def guide(self, parameters: Parameters, x: Array, known: Known) -> None:
        self.encoder(parameters, self.look(parameters, x, known), known)

    def constrained(self, told: Outputs, known: Known, **options: str) -> ConstrainedNormal:
        """The same pixels given A x = k."""
        scale = self.pixel_scale(told["scale"])
        return ConstrainedNormal(
            told["loc"], scale, self.A, known.k, validate_args=False, **options
        )


@dataclass(frozen=True)
class LowRank(Method):
    """Normal pixels whose covariance is a factor of few columns and a diagonal."""

    def heads(self) -> dict[str, int]:
        return super().heads() | {"factor": self.side**2 * self.settings.factors}

    def law(self, told: Outputs, known: Known) -> dist.Distribution:
        factor, diagonal = self._covariance(told)
        return dist.LowRankMultivariateNormal(told["loc"], factor, diagonal, validate_args=False)

    def _covariance(self, told: Outputs) -> tuple[Array, Array]:
        """W ``(images, n, q)`` and d ``(images, n)``."""
        shape = (*told["loc"].shape, self.settings.factors)
        factor = self.settings.start_scale * told["factor"].reshape(shape)
        return factor, jnp.square(self.pixel_scale(told["scale"]))

    def constrained(self, told: Outputs, known: Known, **options: str):
        factor, diagonal = self._covariance(told)
        return ConstrainedLowRankMultivariateNormal(
            told["loc"], factor, diagonal, self.A, known.k, validate_args=False, **options
        )
