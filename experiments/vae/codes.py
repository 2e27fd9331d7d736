"""The code behind an image: one layer of it, or a ladder of two; NumPyro programs that draw it.

Everything works on a batch: x ``(images, n)`` and what is shown of the law ``(images, m)``. The
programs run inside of a plate of the images.

Reference:
    Sonderby et al. (2016), *Ladder variational autoencoders*.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array, random
from numpyro import handlers

from experiments.perceptron import Outputs, Parameters, features, init_network, outputs, positive

__all__ = ["Ladder", "OneCode", "draw_codes", "log_prob_of", "mean_of"]

SMALLEST_SCALE = 1e-3


def joined(one: Array, shown: Array) -> Array:
    """What a net sees: something, and the law."""
    return jnp.concatenate([one, shown], -1)


def normal(loc: Array, scale: Array) -> dist.Distribution:
    return dist.Normal(loc, scale, validate_args=False).to_event(1)


def unit(size: int) -> dist.Distribution:
    return normal(jnp.zeros(size), jnp.ones(size))


def scale_of(output: Array) -> Array:
    return positive(output, 1.0) + SMALLEST_SCALE


def heads(size: int) -> dict[str, int]:
    """Of a net that says where a code is."""
    return {"loc": size, "scale": size}


@dataclass(frozen=True)
class OneCode:
    """z ~ N(0, 1), and an encoder N(loc(x, k), scale(x, k)^2).

    Attributes:
        size: of z.
        hidden: width of the nets.
    """

    size: int
    hidden: int

    def start(self, key: Array, pixels: int, sums: int) -> Parameters:
        """Nets at random."""
        widths = [self.hidden, self.hidden]
        return {"encoder": init_network(key, pixels + sums, widths, heads(self.size), False)}

    def look(self, parameters: Parameters, x: Array, shown: Array) -> Outputs:
        """What the encoder makes of images; no chance in it."""
        return outputs(parameters["encoder"], joined(4 * x - 1, shown))

    def generate(self, parameters: Parameters, shown: Array) -> Array:
        """Draw from the prior."""
        return numpyro.sample("z", unit(self.size))

    def infer(self, parameters: Parameters, seen: Outputs, shown: Array) -> Array:
        """Draw given images, of which ``look`` told what is ``seen``."""
        return numpyro.sample("z", normal(seen["loc"], scale_of(seen["scale"])))


@dataclass(frozen=True)
class Ladder(OneCode):
    """z2 ~ N(0, 1), z1 ~ N(loc(z2, k), scale(z2, k)^2), of which the decoder sees z1.

    The encoder goes down from z2 as the prior does: the law of z1 is the product of the prior's,
    given z2, and of a normal one that the image tells, in other words a precision-weighted mean.

    Attributes:
        top: size of z2.
    """

    top: int

    def start(self, key: Array, pixels: int, sums: int) -> Parameters:
        widths = [self.hidden]
        up, down = random.split(random.fold_in(key, 1))
        return super().start(key, pixels, sums) | {
            "up": init_network(up, self.hidden, widths, heads(self.top), False),
            "down": init_network(down, self.top + sums, widths, heads(self.size), False),
        }

    def look(self, parameters: Parameters, x: Array, shown: Array) -> Outputs:
        lower = features(parameters["encoder"], joined(4 * x - 1, shown))
        upper = outputs(parameters["up"], lower)
        of_top = {f"{name} of top": value for name, value in upper.items()}
        return super().look(parameters, x, shown) | of_top

    def generate(self, parameters: Parameters, shown: Array) -> Array:
        top = numpyro.sample("top", unit(self.top))
        return numpyro.sample("z", normal(*self.below(parameters, top, shown)))

    def infer(self, parameters: Parameters, seen: Outputs, shown: Array) -> Array:
        law_of_top = normal(seen["loc of top"], scale_of(seen["scale of top"]))
        top = numpyro.sample("top", law_of_top)
        loc, scale = self.below(parameters, top, shown)
        prior, told = scale**-2, scale_of(seen["scale"]) ** -2
        both = prior + told
        return numpyro.sample("z", normal((prior * loc + told * seen["loc"]) / both, both**-0.5))

    def below(self, parameters: Parameters, top: Array, shown: Array) -> tuple[Array, Array]:
        """Location and scale of z1 given z2."""
        found = outputs(parameters["down"], joined(top, shown))
        return found["loc"], scale_of(found["scale"])


def draw_codes(program: Callable[[], Any], key: Array) -> dict[str, Array]:
    """A draw of every code of a program, by its name."""
    sites = handlers.trace(handlers.seed(program, key)).get_trace().values()
    return {site["name"]: site["value"] for site in sites if site["type"] == "sample"}


def log_prob_of(program: Callable[[], Any], values: dict[str, Array]) -> Array:
    """``(images,)`` log density of the codes of a program at given values."""
    sites = handlers.trace(handlers.substitute(program, values)).get_trace().values()
    return sum(site["fn"].log_prob(site["value"]) for site in sites if site["type"] == "sample")


def mean_of(program: Callable[[], Array]) -> Array:
    """What a program returns where every code is the mean of its law."""

    def mean(site: dict[str, Any]) -> Array | None:
        return site["fn"].mean if site["type"] == "sample" else None

    return handlers.substitute(program, substitute_fn=mean)()
