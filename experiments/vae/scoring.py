"""Figures of merit of a trained method on held-out images."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from experiments.images.critic import Critic
from experiments.images.data import Split
from experiments.images.quality import largest_violation, score_images
from experiments.perceptron import Parameters
from experiments.vae.codes import draw_codes, mean_of
from experiments.vae.likelihood import likelihoods
from experiments.vae.methods import Method, Scaling
from experiments.vae.training import new_key, scaling_of


class Pictures(NamedTuple):
    """``(images, n)`` each.

    Attributes:
        drawn: from the prior, given the sums of each image.
        rebuilt: the mean given the mean code of each image.
        k: ``(images, m)`` the sums.
    """

    drawn: Array
    rebuilt: Array
    k: Array


@partial(jax.jit, static_argnames="method")
def pictures(
    method: Method, parameters: Parameters, x: Array, scaling: Scaling, key: Array
) -> Pictures:
    """What a method makes of images ``(images, n)``."""
    known = method.read(x, scaling)
    key_code, key_image = random.split(key)
    z = draw_codes(partial(method.prior, parameters, known), key_code)["z"]
    drawn = method.law(method.decode(parameters, z, known), known).sample(key_image)
    seen = method.look(parameters, x, known)
    mean_code = mean_of(partial(method.encoder, parameters, seen, known))
    rebuilt = method.law(method.decode(parameters, mean_code, known), known).mean
    return Pictures(drawn, rebuilt, known.k)


def score(
    method: Method, parameters: Parameters, split: Split, critic: Critic, seed: int
) -> dict[str, float]:
    """All figures; ``reconstruction`` is a root mean square over pixels in [0, 1)."""
    x, scaling = jnp.asarray(split.test, jnp.float32), scaling_of(method, split)
    keys = random.split(random.fold_in(new_key(seed), 2))
    scored = x[: method.settings.scored_images]
    found = likelihoods(method, parameters, scored, scaling, keys[0])
    made = Pictures(*map(np.array, pictures(method, parameters, x, scaling, keys[1])))
    return {
        "log likelihood": np.mean(found.log_likelihood),
        "elbo": np.mean(found.elbo),
        "reconstruction": np.sqrt(np.square(made.rebuilt - split.test).mean()),
        "violation": largest_violation(made.drawn, method.A, made.k),
        **score_images(critic, split.test, made.drawn, split.test_labels),
    }
