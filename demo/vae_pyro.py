"""A VAE whose images obey a linear law exactly (Pyro; run it with ``make demo``).

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

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.nn.functional import softplus

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
from pyro_constrained import ConstrainedNormal

CODE_SIZE, HIDDEN_SIZE, NUM_SUMS = 12, 256, 4
SMALLEST_SCALE = 0.01

# --- The models: one network, two laws of the pixels ----------------------------------------------

Law = Callable[[Tensor, Tensor, Tensor], dist.TorchDistribution]


def unconstrained(loc: Tensor, scale: Tensor, k: Tensor) -> dist.TorchDistribution:
    """64 independent pixels."""
    return dist.Normal(loc, scale).to_event(1)


def constrained(loc: Tensor, scale: Tensor, k: Tensor) -> dist.TorchDistribution:
    """The same given A x = k."""
    return ConstrainedNormal(loc, scale, SENSOR, k)


def prior() -> dist.TorchDistribution:
    """The law of a code."""
    return dist.Normal(torch.zeros(CODE_SIZE), 1.0).to_event(1)


def layers(inputs: int, outputs: int) -> nn.Sequential:
    """A network with two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN_SIZE),
        nn.SiLU(),
        nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE),
        nn.SiLU(),
        nn.Linear(HIDDEN_SIZE, outputs),
    )


class VAE(nn.Module):
    """Code z ~ N(0, 1), image x ~ law(decoder(z, k), k), encoder q(z | x)."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law = law
        self.encoder = layers(NUM_PIXELS, 2 * CODE_SIZE)
        self.decoder = layers(CODE_SIZE + NUM_SUMS, 2 * NUM_PIXELS)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of the code; x says k, so k need not be given."""
        loc, raw_scale = self.encoder(4 * x - 1).chunk(2, -1)
        return loc, softplus(raw_scale) + 1e-3

    def decode(self, z: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of the pixels."""
        reading = (k / 3 - 1.6).expand(z.shape[:-1] + (NUM_SUMS,))
        loc, raw_scale = self.decoder(torch.cat([z, reading], -1)).chunk(2, -1)
        return 0.3 + 0.3 * loc, SMALLEST_SCALE + 0.2 * softplus(raw_scale)

    def model(self, x: Tensor, k: Tensor) -> None:
        """What Pyro trains: p(z) p(x | z, k)."""
        pyro.module("vae", self)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", prior())
            pyro.sample("x", self.law(*self.decode(z, k), k), obs=x)

    def guide(self, x: Tensor, k: Tensor) -> None:
        """q(z | x)."""
        with pyro.plate("images", len(x)):
            pyro.sample("z", dist.Normal(*self.encode(x)).to_event(1))


# --- Training -------------------------------------------------------------------------------------


def tensor(array: object) -> Tensor:
    return torch.as_tensor(array, dtype=torch.get_default_dtype())


def read_sensor(x: Tensor) -> Tensor:
    """k = A x."""
    return x @ tensor(SENSOR_MATRIX).T


def shuffled_batches(pixels: Tensor, size: int) -> list[Tensor]:
    """Dequantised batches of equal size, in a new order."""
    order = torch.randperm(len(pixels))[: len(pixels) // size * size]
    images = (pixels[order] + torch.rand(len(order), NUM_PIXELS)) / GREY_LEVELS
    return list(images.split(size))


def train(name: str, law: Law, pixels: Tensor, settings: Settings) -> VAE:
    """Fit a VAE by stochastic variational inference."""
    pyro.clear_param_store()
    pyro.set_rng_seed(settings.seed)
    vae = VAE(law)
    steps = settings.epochs * (len(pixels) // settings.batch_size)
    decay = (settings.final_learning_rate / settings.learning_rate) ** (1 / steps)
    optimiser = pyro.optim.ClippedAdam({"lr": settings.learning_rate, "lrd": decay})
    svi = SVI(vae.model, vae.guide, optimiser, TraceMeanField_ELBO())
    with training_progress(name, settings.epochs) as report:
        for _ in range(settings.epochs):
            batches = shuffled_batches(pixels, settings.batch_size)
            losses = [svi.step(x, read_sensor(x)) / len(x) for x in batches]
            report(-sum(losses) / len(losses))
    return vae


# --- Held-out log-likelihood: three models, one measure -------------------------------------------
# Each function gives (images,) estimates; `vae` is anything that can encode and decode.


def log_mean_exp(values: Tensor) -> Tensor:
    """Log of the mean over the first dimension."""
    return values.logsumexp(0) - math.log(len(values))


def codes(vae: VAE, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Codes ``(draws, images, code)`` from the encoder, and their log weights p(z) / q(z | x)."""
    encoder = dist.Normal(*vae.encode(x)).to_event(1)
    z = encoder.sample((draws,))
    return z, prior().log_prob(z) - encoder.log_prob(z)


def constrained_log_likelihood(vae: VAE, x: Tensor, k: Tensor, settings: Settings) -> Tensor:
    """The law of a constrained decoder: its density is on the subspace already."""
    z, log_weight = codes(vae, x, settings.encoder_draws)
    return log_mean_exp(log_weight + constrained(*vae.decode(z, k), k).log_prob(x))


def conditioned_log_likelihood(vae: VAE, x: Tensor, k: Tensor, settings: Settings) -> Tensor:
    """The law of an unconstrained decoder, given afterwards that A x = k."""
    z, log_weight = codes(vae, x, settings.encoder_draws)
    log_density = log_mean_exp(log_weight + unconstrained(*vae.decode(z, k), k).log_prob(x))
    half_log_det = 0.5 * torch.logdet(tensor(SENSOR_MATRIX @ SENSOR_MATRIX.T))
    return log_density - law_log_probability(vae, k, settings) - half_log_det


def law_log_probability(vae: VAE, k: Tensor, settings: Settings) -> Tensor:
    """Log density of the event A x = k under an unconstrained decoder."""
    parts, chunk = [], min(100, settings.prior_draws)
    for _ in range(settings.prior_draws // chunk):
        z = prior().sample((chunk, len(k)))
        law = ConstrainedNormal(*vae.decode(z, k), SENSOR, k)
        parts.append(law.constraint_log_prob())
    return log_mean_exp(torch.cat(parts))


def projected_log_likelihood(vae: VAE, x: Tensor, k: Tensor, settings: Settings) -> Tensor:
    """The law of an unconstrained decoder whose images are projected afterwards."""
    z, log_weight = codes(vae, x, settings.encoder_draws)
    return log_mean_exp(log_weight + projected_log_prob(*vae.decode(z, k), x))


def projected_log_prob(loc: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """Density at x of the projection of N(loc, scale^2) on the subspace through x.

    With unit vectors b_g, one for each block (rows of A over their length), what is projected to x
    is x + sum_g t_g b_g. The integral of N(x + sum_g t_g b_g; loc, scale^2) over t is Gaussian,
    block by block.
    """
    directions = tensor(SENSOR_MATRIX / SENSOR_MATRIX.sum(-1, keepdims=True) ** 0.5)
    precision, gap = scale**-2, x - loc
    curvature = precision @ directions.square().T
    slope = (precision * gap) @ directions.T
    log_integral = 0.5 * (slope.square() / curvature - torch.log(curvature / (2 * math.pi)))
    return dist.Normal(loc, scale).log_prob(x).sum(-1) + log_integral.sum(-1)


# --- Scores ---------------------------------------------------------------------------------------


def leave(images: Tensor, k: Tensor) -> Tensor:
    """Do nothing."""
    return images


def project(images: Tensor, k: Tensor) -> Tensor:
    """The nearest images that obey the law."""
    return ConstrainedNormal(0.0, tensor(1.0), SENSOR, k).project(images)


@torch.no_grad()
def score(
    vae: VAE, x: Tensor, settings: Settings, log_likelihood: Callable, finish: Callable
) -> Result:
    """Everything the table and the picture show of one model.

    Args:
        vae: the trained VAE.
        x: ``(images, 64)`` held-out images.
        settings: numbers of draws and the seed.
        log_likelihood: which of the three functions above fits the model.
        finish: what is done to its images afterwards.
    """
    pyro.set_rng_seed(settings.seed)
    k = read_sensor(x)
    code = dist.Normal(*vae.encode(x))
    predicted = finish(vae.law(*vae.decode(code.mean, k), k).mean, k)
    reconstructions = finish(vae.law(*vae.decode(code.sample(), k), k).sample(), k)
    samples = finish(vae.law(*vae.decode(prior().sample((len(x),)), k), k).sample(), k)
    drawn = torch.cat([reconstructions, samples])
    return Result(
        log_likelihood=log_likelihood(vae, x, k, settings).mean().item(),
        reconstruction_error=(predicted - x).square().mean().sqrt().item(),
        reconstructions=reconstructions.numpy(),
        samples=samples.numpy(),
        violation=violations(drawn.numpy(), k.repeat(2, 1).numpy()).max(),
    )


def main(argv: list[str] | None = None) -> dict[str, Result]:
    settings, path = parse_arguments("Pyro", argv)
    split = load_split(settings)
    pixels, held_out = tensor(split.train), tensor(split.held_out)

    plain = train("unconstrained VAE", unconstrained, pixels, settings)
    ours = train("constrained VAE", constrained, pixels, settings)
    results = {
        "unconstrained": score(plain, held_out, settings, conditioned_log_likelihood, leave),
        "projected": score(plain, held_out, settings, projected_log_likelihood, project),
        "constrained": score(ours, held_out, settings, constrained_log_likelihood, leave),
    }
    print_table("Pyro", results)
    save_picture(path, held_out.numpy(), read_sensor(held_out).numpy(), results)
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)  # the layers are small: a second thread costs more than it gives
    main()
