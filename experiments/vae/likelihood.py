"""Held-out log-likelihoods of x given k, of all methods under one measure.

The density is that of x given A x = k with respect to Hausdorff measure on the subspace. A method
whose law obeys has it. Of any other it is what Bayes' theorem makes of its density,
log p(x) - log p(A x = k) - 1/2 log det A A'.

log p(x) is averaged over codes from the encoder (Burda et al. 2016), which underestimates it a
little, for all methods alike. So is p(A x = k), over codes from prior and encoder together with
weights p / (mixture of both), which have the right mean and, because the encoder knows x, less
spread than those of prior draws. Underestimated, it flatters the methods that do not obey.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from jax.nn import logsumexp

from experiments.perceptron import Parameters
from experiments.vae.codes import draw_codes, log_prob_of
from experiments.vae.laws import half_log_volume
from experiments.vae.methods import Known, Method, Scaling


class Likelihoods(NamedTuple):
    """``(images,)`` estimates.

    Attributes:
        log_likelihood: importance weighted.
        elbo: the same with the mean of logs in place of the log of the mean over the encoder.
    """

    log_likelihood: Array
    elbo: Array


class Densities(NamedTuple):
    """``(draws, images)`` log densities at draws of the code.

    Attributes:
        prior, encoder: of the code.
        image: of the image given the code.
        event: of A x = k given the code; 0 where the law obeys.
    """

    prior: Array
    encoder: Array
    image: Array
    event: Array


@partial(jax.jit, static_argnames="method")
def likelihoods(
    method: Method, parameters: Parameters, x: Array, scaling: Scaling, key: Array
) -> Likelihoods:
    """Of images ``(images, n)``."""
    settings, known = method.settings, method.read(x, scaling)
    at_codes = partial(densities_at_codes, method, parameters, x, known)
    keys = random.split(key)
    seen = at_codes(True, random.split(keys[0], settings.encoder_draws))
    weight, event = seen.prior - seen.encoder + seen.image, jnp.zeros(len(x))
    if not method.obeys_law:
        unseen = at_codes(False, random.split(keys[1], settings.prior_draws))
        event = log_event(seen, unseen) + half_log_volume(method.A)
    return Likelihoods(log_mean_exp(weight) - event, weight.mean(0) - event)


def densities_at_codes(
    method: Method,
    parameters: Parameters,
    x: Array,
    known: Known,
    are_from_encoder: bool,
    keys: Array,
) -> Densities:
    """At codes that the encoder draws, or the prior; one for each image and key."""
    prior = partial(method.prior, parameters, known)
    encoder = partial(method.encoder, parameters, method.look(parameters, x, known), known)

    def at_code(key: Array) -> Densities:
        codes = draw_codes(encoder if are_from_encoder else prior, key)
        told = method.decode(parameters, codes["z"], known)
        event = jnp.zeros(len(x)) if method.obeys_law else method.law_log_prob(told, known)
        image = method.law(told, known).log_prob(x)
        return Densities(log_prob_of(prior, codes), log_prob_of(encoder, codes), image, event)

    return lax.map(at_code, keys)


def log_event(seen: Densities, unseen: Densities) -> Array:
    """``(images,)`` log p(A x = k), from codes of the encoder and of the prior together."""
    drawn = jax.tree.map(lambda *both: jnp.concatenate(both), seen, unseen)
    number = len(drawn.prior)
    shares = math.log(len(seen.prior) / number), math.log(len(unseen.prior) / number)
    mixture = jnp.logaddexp(drawn.encoder + shares[0], drawn.prior + shares[1])
    return log_mean_exp(drawn.event + drawn.prior - mixture)


def log_mean_exp(values: Array) -> Array:
    """Log of the mean over the first dimension."""
    return logsumexp(values, 0) - math.log(len(values))
