"""One posterior, many ways to sample it: velocities that balance, seen by a few meters.

    tau ~ HalfNormal(1), sigma ~ HalfNormal(0.2)                 m/s, or known
    v_ti ~ Normal(0, tau), observed A v_t = k_t exactly          times t, links i
    y_tj ~ Normal(v_t,meter(j), sigma)

That the demands k are observed tells of tau, too: the joint density of a draw is
p(tau) p(sigma) p(k | tau) p(v | k, tau) p(y | v, sigma). Where v comes from its law given k, the
factor p(k | tau) is the law's ``constraint_log_prob``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.handlers import reparam
from scipy import linalg

from numpyro_constrained import ConstrainedNormal
from numpyro_constrained.reparam import ConstrainedNormalReparam

PRIOR_SCALE, NOISE_SCALE = 1.0, 0.2
"""m/s: scales of the half-normal priors of tau and sigma."""

WIDTHS = (0.1, 0.01, 0.001)

Model = Callable[[Array], None]


@dataclass(frozen=True, eq=False)
class Task:
    """What is known.

    Attributes:
        A: ``(92, 119)`` the law of velocities.
        k: ``(times, 92)``.
        meters: ``(meters,)`` links with a meter.
        tau, sigma: the scales where they are known, else None.
    """

    A: np.ndarray
    k: np.ndarray
    meters: np.ndarray
    tau: float | None = None
    sigma: float | None = None

    def scales(self) -> tuple[Array | float, Array | float]:
        """tau and sigma, sampled where they are not known."""
        return _scale("tau", PRIOR_SCALE, self.tau), _scale("sigma", NOISE_SCALE, self.sigma)

    def observe(self, velocity: Array, sigma: Array | float, readings: Array) -> None:
        """The meters."""
        seen = velocity[..., self.meters]
        numpyro.sample("readings", dist.Normal(seen, sigma).to_event(2), obs=readings)


def _scale(name: str, prior_scale: float, known: float | None) -> Array | float:
    return numpyro.sample(name, dist.HalfNormal(prior_scale)) if known is None else known


def ours_on_the_subspace(task: Task) -> Model:
    """The constrained law; NUTS moves in the coordinates of ``biject_to``."""

    def model(readings: Array) -> None:
        tau, sigma = task.scales()
        with numpyro.plate("times", len(task.k)):
            law = ConstrainedNormal(0.0, tau, task.A, task.k)
            velocity = numpyro.sample("velocity", law)
            if task.tau is None:
                numpyro.factor("demand", law.constraint_log_prob())
        task.observe(velocity, sigma, readings)

    return model


def ours_as_white_noise(task: Task) -> Model:
    """The constrained law as a map of white noise."""
    config = {"velocity": ConstrainedNormalReparam()}
    return reparam(ours_on_the_subspace(task), config=config)


def soft_constraint(task: Task, width: float) -> Model:
    """Balance as a narrow likelihood."""

    def model(readings: Array) -> None:
        tau, sigma = task.scales()
        prior = dist.Normal(0.0, tau).expand((len(task.k), task.A.shape[1]))
        velocity = numpyro.sample("velocity", prior.to_event(2))
        gained = velocity @ task.A.T
        numpyro.sample("demand", dist.Normal(gained, width).to_event(2), obs=jnp.asarray(task.k))
        task.observe(velocity, sigma, readings)

    return model


def variable_elimination(task: Task) -> Model:
    """The first velocities follow from the others, in the order of a pivoted QR of A."""
    rank, num_links = task.A.shape
    order = linalg.qr(task.A, mode="r", pivoting=True)[1]
    solved, left = task.A[:, order[:rank]], task.A[:, order[rank:]]
    offset, slope = linalg.solve(solved, task.k.T).T, linalg.solve(solved, left)
    back = np.argsort(order)

    def model(readings: Array) -> None:
        tau, sigma = task.scales()
        prior = dist.Normal(0.0, tau)
        free_shape = len(task.k), num_links - rank
        free = numpyro.sample("free", prior.expand(free_shape).to_event(2))
        rest = offset - free @ slope.T
        numpyro.factor("rest", prior.log_prob(rest).sum())
        velocity = jnp.concatenate([rest, free], -1)[:, back]
        task.observe(numpyro.deterministic("velocity", velocity), sigma, readings)

    return model


METHODS: dict[str, Callable[[Task], Model]] = {
    "ours, on the subspace": ours_on_the_subspace,
    "ours, white noise": ours_as_white_noise,
    "variable elimination": variable_elimination,
} | {
    f"soft penalty, width {width:g}": lambda task, width=width: soft_constraint(task, width)
    for width in WIDTHS
}
