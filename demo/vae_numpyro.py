"""A VAE whose images obey a linear law exactly (NumPyro; ``make demo BACKEND=numpyro``).

A sensor of 2 x 2 cells looks at a handwritten digit of 8 x 8 pixels. Each cell reads the sum of
its block of 4 x 4 pixels, so of the image x we know A x = k: four equations in 64 unknowns. We want
a generative model of digits *given* the reading k, every image of which gives back that reading.

Three ways to get there:

1.  *unconstrained*: the decoder sees k as an input and emits 64 independent normals. It learns to
    get the sums nearly right; nearly is all it can do.
2.  *projected*: train 1., then move each image to the nearest one that obeys the law.
3.  *constrained*: replace ``Normal(loc, scale).to_event(1)`` by ``ConstrainedNormal(loc, scale, A,
    k)``, one line, and train with that. Network, inputs, steps and seed are those of 1.

**How the log-likelihoods are made comparable.** All held-out images lie in a subspace of 60
dimensions, {x : A x = k}. A density there (nats per 60 units of length) and a density on R^64
(nats per 64) differ by units: measure pixels from 0 to 255 instead of 0 to 1 and one falls by
60 log 255, the other by 64 log 255, so their difference can have any sign. So all three models are
given a density on the subspace, that of x given k with respect to its Hausdorff measure:

-   constrained: that is what its ``log_prob`` is, averaged over the code z.
-   unconstrained: it has no such density, its draws obey with probability zero. The best that can
    be made of it is its law given the event A x = k, by Bayes: log p(x) - log p(A x = k)
    - 1/2 log det(A A'), the last term for the change from k to lengths in the subspace.
-   projected: projection collapses the lines that are orthogonal to the subspace, so the density
    at x is the integral of the normal density over the 4-dimensional plane of all images that are
    projected to x; for each z it is again normal, and in closed form.

The averages over z are importance-weighted with the encoder (Burda et al. 2016), which
underestimates them a little. Only p(A x = k), the same for all images with one reading, is averaged
over the prior; it is subtracted, so underestimating it flatters the unconstrained model, if any.

**Dequantisation.** Pixels are integers from 0 to 16, and some are always 0: a normal law could put
a spike of any height there. As usual for such data, we model (pixel + u) / 17 with u uniform in
[0, 1): fresh at each training step, fixed for the held-out images, the same for all models. The
sensor looks at the result, so A x = k stays exact. A floor of 0.01 under the decoder's scale, also
the same for all, is below the noise (0.017) and only steadies the first steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, lax, random
from jax.nn import logsumexp, silu, softplus
from numpyro.infer import SVI, TraceMeanField_ELBO

from demo.digits import (
    GREY_LEVELS,
    NUM_PIXELS,
    SENSOR,
    SENSOR_MATRIX,
    Result,
    Settings,
    load_split,
    parse_arguments,
    print_table,
    save_picture,
    training_progress,
    violations,
)
from numpyro_constrained import ConstrainedNormal

CODE_SIZE, HIDDEN_SIZE, NUM_SUMS = 12, 256, 4
SMALLEST_SCALE = 0.01

# --- The models: one network, two laws of the pixels ----------------------------------------------

Law = Callable[[Array, Array, Array], dist.Distribution]
Layers = list[tuple[Array, Array]]


def unconstrained(loc: Array, scale: Array, k: Array) -> dist.Distribution:
    """64 independent pixels."""
    return dist.Normal(loc, scale).to_event(1)


def constrained(loc: Array, scale: Array, k: Array) -> dist.Distribution:
    """The same given A x = k."""
    return ConstrainedNormal(loc, scale, SENSOR, k)


def prior() -> dist.Distribution:
    """The law of a code."""
    return dist.Normal(jnp.zeros(CODE_SIZE), 1.0).to_event(1)


def new_layers(key: Array, inputs: int, outputs: int) -> Layers:
    """Weights and biases of a network with two hidden layers."""
    sizes = [inputs, HIDDEN_SIZE, HIDDEN_SIZE, outputs]
    return [
        new_layer(layer_key, *shape)
        for layer_key, shape in zip(random.split(key, 3), pairwise(sizes), strict=True)
    ]


def new_layer(key: Array, inputs: int, outputs: int) -> tuple[Array, Array]:
    """Weight and bias, uniform within 1 / sqrt(inputs)."""
    both = random.uniform(key, (inputs + 1, outputs), minval=-1, maxval=1) / math.sqrt(inputs)
    return both[1:], both[0]


def apply_layers(layers: Layers, inputs: Array) -> Array:
    *hidden, (last_weight, last_bias) = layers
    for weight, bias in hidden:
        inputs = silu(inputs @ weight + bias)
    return inputs @ last_weight + last_bias


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class VAE:
    """Code z ~ N(0, 1), image x ~ law(decoder(z, k), k), encoder q(z | x)."""

    encoder: Layers
    decoder: Layers
    law: Law = field(metadata={"static": True})

    @classmethod
    def new(cls, key: Array, law: Law) -> "VAE":
        encoder_key, decoder_key = random.split(key)
        return cls(
            encoder=new_layers(encoder_key, NUM_PIXELS, 2 * CODE_SIZE),
            decoder=new_layers(decoder_key, CODE_SIZE + NUM_SUMS, 2 * NUM_PIXELS),
            law=law,
        )

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Location and scale of the code; x says k, so k need not be given."""
        loc, raw_scale = jnp.split(apply_layers(self.encoder, 4 * x - 1), 2, -1)
        return loc, softplus(raw_scale) + 1e-3

    def decode(self, z: Array, k: Array) -> tuple[Array, Array]:
        """Location and scale of the pixels."""
        reading = jnp.broadcast_to(k / 3 - 1.6, z.shape[:-1] + (NUM_SUMS,))
        inputs = jnp.concatenate([z, reading], -1)
        loc, raw_scale = jnp.split(apply_layers(self.decoder, inputs), 2, -1)
        return 0.3 + 0.3 * loc, SMALLEST_SCALE + 0.2 * softplus(raw_scale)


def model(initial: VAE, x: Array, k: Array) -> None:
    """What NumPyro trains: p(z) p(x | z, k)."""
    vae = numpyro.param("vae", initial)
    with numpyro.plate("images", len(x)):
        z = numpyro.sample("z", prior())
        numpyro.sample("x", vae.law(*vae.decode(z, k), k), obs=x)


def guide(initial: VAE, x: Array, k: Array) -> None:
    """q(z | x)."""
    vae = numpyro.param("vae", initial)
    with numpyro.plate("images", len(x)):
        numpyro.sample("z", dist.Normal(*vae.encode(x)).to_event(1))


# --- Training -------------------------------------------------------------------------------------


def new_key(seed: int) -> Array:
    """A key of the generator that, on CPUs, compiles several times faster than the default."""
    return random.key(seed, impl="rbg")


def read_sensor(x: Array) -> Array:
    """k = A x."""
    return x @ jnp.asarray(SENSOR_MATRIX.T, x.dtype)


def shuffled_batches(key: Array, pixels: Array, size: int) -> Array:
    """Dequantised batches of equal size, in a new order: ``(batches, size, 64)``."""
    order_key, noise_key = random.split(key)
    order = random.permutation(order_key, len(pixels))[: len(pixels) // size * size]
    noise = random.uniform(noise_key, (len(order), NUM_PIXELS))
    return ((pixels[order] + noise) / GREY_LEVELS).reshape(-1, size, NUM_PIXELS)


def train(name: str, law: Law, pixels: Array, settings: Settings) -> VAE:
    """Fit a VAE by stochastic variational inference, one compiled call per epoch."""
    key = new_key(settings.seed)
    initial = VAE.new(random.fold_in(key, settings.epochs), law)
    steps = settings.epochs * (len(pixels) // settings.batch_size)
    decay = (settings.final_learning_rate / settings.learning_rate) ** (1 / steps)
    optimiser = numpyro.optim.ClippedAdam(lambda step: settings.learning_rate * decay**step)
    svi = SVI(model, guide, optimiser, TraceMeanField_ELBO())

    def step(state, x):
        state, loss = svi.update(state, initial, x, read_sensor(x))
        return state, loss / settings.batch_size

    @jax.jit
    def epoch(state, number):
        epoch_key = random.fold_in(key, number)
        return lax.scan(step, state, shuffled_batches(epoch_key, pixels, settings.batch_size))

    x = pixels[: settings.batch_size] / GREY_LEVELS
    state = svi.init(key, initial, x, read_sensor(x))
    with training_progress(name, settings.epochs) as report:
        for number in range(settings.epochs):
            state, losses = epoch(state, number)
            report(-losses.mean().item())
    return svi.get_params(state)["vae"]


# --- Held-out log-likelihood: three models, one measure -------------------------------------------
# Each function gives (images,) estimates; `vae` is anything that can encode and decode.


def log_mean_exp(values: Array) -> Array:
    """Log of the mean over the first dimension."""
    return logsumexp(values, 0) - math.log(len(values))


def codes(key: Array, vae: VAE, x: Array, draws: int) -> tuple[Array, Array]:
    """Codes ``(draws, images, code)`` from the encoder, and their log weights p(z) / q(z | x)."""
    encoder = dist.Normal(*vae.encode(x)).to_event(1)
    z = encoder.sample(key, (draws,))
    return z, prior().log_prob(z) - encoder.log_prob(z)


@partial(jax.jit, static_argnames="settings")
def constrained_log_likelihood(
    key: Array, vae: VAE, x: Array, k: Array, settings: Settings
) -> Array:
    """The law of a constrained decoder: its density is on the subspace already."""
    z, log_weight = codes(key, vae, x, settings.encoder_draws)
    return log_mean_exp(log_weight + constrained(*vae.decode(z, k), k).log_prob(x))


@partial(jax.jit, static_argnames="settings")
def conditioned_log_likelihood(
    key: Array, vae: VAE, x: Array, k: Array, settings: Settings
) -> Array:
    """The law of an unconstrained decoder, given afterwards that A x = k."""
    encoder_key, prior_key = random.split(key)
    z, log_weight = codes(encoder_key, vae, x, settings.encoder_draws)
    log_density = log_mean_exp(log_weight + unconstrained(*vae.decode(z, k), k).log_prob(x))
    half_log_det = 0.5 * np.linalg.slogdet(SENSOR_MATRIX @ SENSOR_MATRIX.T).logabsdet
    return log_density - law_log_probability(prior_key, vae, k, settings) - half_log_det


def law_log_probability(key: Array, vae: VAE, k: Array, settings: Settings) -> Array:
    """Log density of the event A x = k under an unconstrained decoder."""
    chunk = min(100, settings.prior_draws)

    def part(key: Array) -> Array:
        z = prior().sample(key, (chunk, len(k)))
        return ConstrainedNormal(*vae.decode(z, k), SENSOR, k).constraint_log_prob()

    parts = lax.map(part, random.split(key, settings.prior_draws // chunk))
    return log_mean_exp(parts.reshape(-1, len(k)))


@partial(jax.jit, static_argnames="settings")
def projected_log_likelihood(key: Array, vae: VAE, x: Array, k: Array, settings: Settings) -> Array:
    """The law of an unconstrained decoder whose images are projected afterwards."""
    z, log_weight = codes(key, vae, x, settings.encoder_draws)
    return log_mean_exp(log_weight + projected_log_prob(*vae.decode(z, k), x))


def projected_log_prob(loc: Array, scale: Array, x: Array) -> Array:
    """Density at x of the projection of N(loc, scale^2) on the subspace through x.

    With unit vectors b_g, one for each block (rows of A over their length), what is projected to x
    is x + sum_g t_g b_g. The integral of N(x + sum_g t_g b_g; loc, scale^2) over t is Gaussian,
    block by block.
    """
    directions = jnp.asarray(SENSOR_MATRIX / SENSOR_MATRIX.sum(-1, keepdims=True) ** 0.5, x.dtype)
    precision, gap = scale**-2, x - loc
    curvature = precision @ jnp.square(directions).T
    slope = (precision * gap) @ directions.T
    log_integral = 0.5 * (jnp.square(slope) / curvature - jnp.log(curvature / (2 * math.pi)))
    return dist.Normal(loc, scale).log_prob(x).sum(-1) + log_integral.sum(-1)


# --- Scores ---------------------------------------------------------------------------------------


def leave(images: Array, k: Array) -> Array:
    """Do nothing."""
    return images


def project(images: Array, k: Array) -> Array:
    """The nearest images that obey the law."""
    return ConstrainedNormal(0.0, 1.0, SENSOR, k).project(images)


def score(
    vae: VAE, x: Array, settings: Settings, log_likelihood: Callable, finish: Callable
) -> Result:
    """Everything the table and the picture show of one model.

    Args:
        vae: the trained VAE.
        x: ``(images, 64)`` held-out images.
        settings: numbers of draws and the seed.
        log_likelihood: which of the three functions above fits the model.
        finish: what is done to its images afterwards.
    """
    keys = random.split(new_key(settings.seed), 5)
    k = read_sensor(x)
    code = dist.Normal(*vae.encode(x))
    predicted = finish(vae.law(*vae.decode(code.mean, k), k).mean, k)
    posterior_z, prior_z = code.sample(keys[0]), prior().sample(keys[1], (len(x),))
    reconstructions = finish(vae.law(*vae.decode(posterior_z, k), k).sample(keys[2]), k)
    samples = finish(vae.law(*vae.decode(prior_z, k), k).sample(keys[3]), k)
    drawn = jnp.concatenate([reconstructions, samples])
    return Result(
        log_likelihood=log_likelihood(keys[4], vae, x, k, settings).mean().item(),
        reconstruction_error=jnp.sqrt(jnp.square(predicted - x).mean()).item(),
        reconstructions=np.asarray(reconstructions),
        samples=np.asarray(samples),
        violation=violations(drawn, np.tile(k, (2, 1))).max(),
    )


def main(argv: list[str] | None = None) -> dict[str, Result]:
    settings, path = parse_arguments("NumPyro", argv)
    split = load_split(settings)
    pixels, held_out = jnp.asarray(split.train), jnp.asarray(split.held_out)

    plain = train("unconstrained VAE", unconstrained, pixels, settings)
    ours = train("constrained VAE", constrained, pixels, settings)
    results = {
        "unconstrained": score(plain, held_out, settings, conditioned_log_likelihood, leave),
        "projected": score(plain, held_out, settings, projected_log_likelihood, project),
        "constrained": score(ours, held_out, settings, constrained_log_likelihood, leave),
    }
    print_table("NumPyro", results)
    save_picture(path, np.asarray(held_out), np.asarray(read_sensor(held_out)), results)
    return results


if __name__ == "__main__":
    main()
