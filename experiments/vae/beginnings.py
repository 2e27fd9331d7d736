"""Why ours learns CIFAR-10 worse than the plain VAE does: ``python -m experiments.vae.beginnings``.

The totals are given. The rows tell objectives, the measure and the first steps apart.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import pandas as pd
from jax import Array
from rich.progress import track

from experiments.command import parse
from experiments.perceptron import Outputs, Parameters
from experiments.record import mean_and_spread, write_table
from experiments.show import print_table
from experiments.vae.__main__ import Bench
from experiments.vae.codes import scale_of
from experiments.vae.cures import ProjectionLayer
from experiments.vae.methods import Known, Method
from experiments.vae.ours import JointStart, Likelihood, LikelihoodAndConstraint
from experiments.vae.scoring import score
from experiments.vae.settings import Settings
from experiments.vae.training import scaling_of

NAME = "vae_beginnings"

LONGER = 4
"""Times the steps."""


@dataclass(frozen=True)
class Moved(Method):
    """Plain, around a mean that obeys the law from the start."""

    def decode(self, parameters: Parameters, z: Array, known: Known) -> Outputs:
        told = super().decode(parameters, z, known)
        rows = jnp.asarray(self.A.to_dense(), known.k.dtype)
        missed = (known.k - told["loc"] @ rows.T) / jnp.asarray(self.A.sizes, known.k.dtype)
        return {**told, "loc": told["loc"] + missed @ rows}


@dataclass(frozen=True)
class LikelihoodOfMoved(Likelihood, Moved):
    """Ours, around a mean that obeys the law from the start."""


@dataclass(frozen=True)
class LawsStart(Method):
    """Plain, but for the first steps, which are those of ours."""

    def at_step(self, step: int) -> Method:
        if step >= self.settings.joint_steps:
            return self
        return Likelihood(self.side, self.block, self.settings)


@dataclass(frozen=True)
class ProjectionJointStart(ProjectionLayer):
    """The projection layer, but for the first steps, which are those of the plain VAE."""

    def at_step(self, step: int) -> Method:
        return self.plain if step < self.settings.joint_steps else self


METHODS = {
    "plain": Method,
    "ours, likelihood and constraint": LikelihoodAndConstraint,
    "plain, moved": Moved,
    "plain, start by ours": LawsStart,
    "ours, likelihood": Likelihood,
    "ours, moved": LikelihoodOfMoved,
    "ours, joint start": JointStart,
    "projection layer": ProjectionLayer,
    "projection layer, joint start": ProjectionJointStart,
}
FORMS = {
    "log likelihood": ".1f",
    "elbo": ".1f",
    "fid": ".2f",
    "code": ".1f",
    "gap": ".1f",
}
HEADINGS = {
    "log likelihood": "log-likelihood",
    "elbo": "ELBO",
    "fid": "FID",
    "code": "nats in the code",
    "gap": "missed by the mean, deviations",
}
NOTE = """\
{images}, the total of the pixels given; {seeds} seeds (± is the standard deviation over them), else
as in `vae.md`. "Moved": the mean image is moved to the nearest that obeys before it is used, so
that no part of it that the law tells is to be learned. "Start by ours", "joint start": the first
{joint_steps} steps by the likelihood of our law, or by that of the plain VAE. "Likelihood and
constraint": the nets of the plain VAE, our law afterwards, mixed over codes from the prior. Nats in
the code: Kullback-Leibler distance of encoder and prior. Missed by the mean: root mean square of
k - A loc at the mean code, over the deviation that A x has under the scales."""


def insight(bench: Bench, method: Method, nets: Parameters) -> dict[str, float]:
    """How much the code carries, and by how much the mean before conditioning misses the law."""
    x, scaling = jnp.asarray(bench.split.test, jnp.float32), scaling_of(method, bench.split)
    known = method.read(x, scaling)
    seen = method.look(nets, x, known)
    spread = scale_of(seen["scale"])
    carried = 0.5 * (jnp.square(seen["loc"]) + jnp.square(spread) - 1) - jnp.log(spread)
    told = method.decode(nets, seen["loc"], known)
    rows = jnp.asarray(method.A.to_dense(), x.dtype)
    variance = jnp.square(method.pixel_scale(told["scale"])) @ rows.T
    missed = jnp.square(known.k - told["loc"] @ rows.T) / variance
    return {"code": carried.sum(-1).mean(), "gap": jnp.sqrt(missed.mean())}


def run(bench: Bench, name: str, seed: int) -> dict[str, float]:
    """Train one and judge it."""
    side = bench.split.side
    method = METHODS[name](side, side, bench.settings)
    nets = bench.nets(method.trained_as, seed)
    return score(method, nets, bench.split, bench.critic, seed) | insight(bench, method, nets)


def write_report(folder: Path, settings: Settings, frame: pd.DataFrame) -> None:
    """Markdown, and the table on the screen."""
    table = mean_and_spread(frame, ["steps", "method"], FORMS).rename(columns=HEADINGS)
    note = NOTE.format(**vars(settings), images=settings.sets[0])
    write_table(folder / f"{NAME}.md", "How image VAEs begin to learn", note, table)
    print_table("How image VAEs begin to learn", table)


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Train what is missing and write the table; a row for each run."""
    options = parse(__doc__, argv)
    settings = replace(Settings(), sets=("cifar10",))
    settings = settings.shortened() if options.is_short else settings
    record = options.record(NAME, settings)
    runs = list(product(options.chosen(list(METHODS)), range(settings.seeds)))
    with jax.enable_x64(False):
        for steps in (settings.steps, LONGER * settings.steps):
            bench = Bench(settings.sets[0], "total", replace(settings, steps=steps))
            for name, seed in track(runs, f"{steps} steps"):
                key = {"steps": steps, "method": name, "seed": seed}
                if key not in record:
                    record.add(key, run(bench, name, seed))
    write_report(options.folder, settings, record.frame())
    return record.frame()


if __name__ == "__main__":
    main(sys.argv[1:])
