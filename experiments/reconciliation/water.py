"""Reconciliation of the flows of Net3: the question, and how good an answer is."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from experiments.nuts import Chains
from experiments.reconciliation.models import Task
from experiments.reconciliation.network import Network, load_network
from experiments.reconciliation.oracle import Oracle, Posterior
from numpyro_constrained import ConstrainedNormal

INSIDE = (0.05, 0.95)
"""Quantiles: ends of the central 90% intervals."""


@dataclass(frozen=True, eq=False)
class Water:
    """Velocities at some hours, and a few links with a meter.

    Attributes:
        network: Net3.
        hours: of the simulated week.
        meters: ``(meters,)`` links, drawn once.
        noise: m/s, of the meters.
    """

    network: Network
    hours: tuple[int, ...]
    meters: np.ndarray
    noise: float

    @classmethod
    def load(cls, hours: tuple[int, ...], num_meters: int, noise: float) -> "Water":
        network = load_network()
        links = np.random.default_rng(0).permutation(network.A.shape[1])[:num_meters]
        return cls(network, hours, np.sort(links), noise)

    @cached_property
    def law(self) -> ConstrainedNormal:
        """Velocities with a scale of 1 m/s that balance."""
        return ConstrainedNormal(0.0, 1.0, self.network.A, self.network.k[list(self.hours)])

    @cached_property
    def truth(self) -> np.ndarray:
        """``(hours, links)`` m/s: as simulated, and balanced beyond its single precision."""
        simulated = self.network.flow[list(self.hours)] / self.network.area
        return np.asarray(self.law.project(simulated))

    @cached_property
    def is_free(self) -> np.ndarray:
        """``(links,)`` whether the law leaves anything to learn of a link; dead ends it settles."""
        return np.asarray(self.law.variance[0]) > 0

    @cached_property
    def whole_law(self) -> ConstrainedNormal:
        """The same for all 97 nodes: each link leaves one node and enters another, so that one
        row follows from the others."""
        rows = self.network.incidence * self.network.area / self.network.unit
        return ConstrainedNormal(0.0, 1.0, rows, self.truth @ rows.T)

    def describe(self) -> str:
        """What the law does to the network, in words."""
        rows, links = self.network.A.shape
        simulated = self.network.flow[list(self.hours)] / self.network.area
        return (
            f"Net3: {rows} balances of {links} velocities leave {links - self.law.rank} free at "
            f"each of {len(self.hours)} hours and settle {int((~self.is_free).sum())} dead ends; "
            f"{len(self.meters)} links have a meter. The simulation is in single precision: its "
            f"flows miss the balance by up to "
            f"{np.abs(self.law.residual(simulated)).max() * self.network.unit:.0e} L/s and are "
            f"projected first. The balances of all {len(self.network.incidence)} nodes, tanks and "
            f"reservoirs included, have rank {self.whole_law.rank}: the law drops the redundant "
            "row. Metabolic fluxes (S v = 0) are left out: the package that ships them (cobra) "
            "cannot be installed beside the versions pinned here."
        )

    @property
    def unknown_task(self) -> Task:
        """Both scales are to be inferred."""
        return Task(self.network.A, self.network.k[list(self.hours)], self.meters)

    @property
    def known_task(self) -> Task:
        """Both scales are known: the root mean square of the true velocities, and the noise."""
        tau = float(np.sqrt(np.square(self.truth).mean()))
        return replace(self.unknown_task, tau=tau, sigma=self.noise)

    def readings(self, seed: int) -> np.ndarray:
        """``(hours, meters)`` m/s, with new noise for each seed."""
        noise = np.random.default_rng(seed).normal(size=(len(self.hours), len(self.meters)))
        return self.truth[:, self.meters] + self.noise * noise

    def score(self, task: Task, chains: Chains, exact: Posterior) -> dict[str, float]:
        """How well chains know the velocities, and how well they have converged."""
        velocity = chains.draws["velocity"]
        free, truth = velocity[..., self.is_free], self.truth[:, self.is_free]
        low, high = np.quantile(free, INSIDE, axis=(0, 1))
        mean, spread = free.mean((0, 1)), free.std((0, 1))
        true_mean, true_spread = exact.mean[:, self.is_free], exact.stddev[:, self.is_free]
        scales = [chains.draws[name] for name in ("tau", "sigma") if name in chains.draws]
        return chains.outcome([free, *scales]) | {
            "residual": np.abs(velocity @ task.A.T - task.k).max() * self.network.unit,
            "rmse": np.sqrt(np.square(mean - truth).mean()),
            "coverage": np.mean((low <= truth) & (truth <= high)),
            "distance": np.sqrt(np.square((mean - true_mean) / true_spread).mean()),
            "spread": (spread / true_spread).mean(),
        }

    def exact(self, task: Task, seed: int) -> Posterior:
        """The posterior without sampling."""
        return Oracle(task, self.readings(seed)).posterior()
