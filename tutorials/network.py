"""What both network tutorials share and no framework is needed for: traffic, rivals, tables."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from scipy.optimize import nnls

NODES = 4
NUM_FLOWS = NODES * NODES
TIMES_PER_HOUR = 12
"""A reading every five minutes."""

ROUTING = np.vstack(
    [
        np.kron(np.eye(NODES, dtype=int), np.ones(NODES, dtype=int)),
        np.kron(np.ones(NODES, dtype=int), np.eye(NODES, dtype=int))[:-1],
    ]
)
"""A, 7 x 16. Flow 4 a + b goes from node a to node b; the links read what each of the four nodes
sends, then what each of the first three receives. What the fourth receives is the rest."""

NAMES = [f"{a} to {b}" for a in range(1, NODES + 1) for b in range(1, NODES + 1)]
DATA_FILE = "bell_labs_traffic.npz"
PRIOR_SCALE = 2.0
"""Scale of a log rate around that of the gravity model: a factor of 7 either way."""

SMALLEST_RATE = 1e-3
BUSY = 0.5
"""Flows of at least this many packets per five minutes are the busy ones."""

NO_DATA = f"""\
{DATA_FILE} is not here: the flows below are simulated on the same routing matrix.
The original (Cao, Davis, Vander Wiel and Yu 2000) is `bell.labs` in R's networkTomography package.
Save its X (287 x 16) as `od_flows` and its loads of the 7 links as `link_loads`, both in the order
of tutorials/network.py, with numpy.savez, and let CONSTRAINED_DATA name the folder."""

FOOTNOTES = f"""\
Errors: root mean square over flows, in packets: of the flow of each five minutes, and of its mean
  over the hour.
Coverage: share of the true flows, in whole packets, inside the central 90% intervals; busy: those
  of the flows with a true mean of at least {BUSY} packets. Width: mean length of those intervals.
Gravity: sent x received / total; it is the mean of the exact law at gravity's rates, which its
  intervals come from. Least squares: the shortest nonnegative x with the least |A x - k|.
* Rates known: the exact law at the true mean flows, which no one has; the best to hope for."""


@dataclass(frozen=True)
class Settings:
    """Which hours to look at and how long to infer.

    Attributes:
        packets: largest mean number of packets in five minutes; keeps exact sums small.
    """

    hours: tuple[int, ...] = (10, 14, 18, 22)
    nuts_hour: int = 18
    packets: float = 25.0
    svi_steps: int = 400
    learning_rate: float = 0.05
    warmup: int = 80
    samples: int = 120
    tree_depth: int = 5
    rate_draws: int = 50
    seed: int = 0

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(
            self,
            hours=(18,),
            packets=4.0,
            svi_steps=20,
            warmup=4,
            samples=4,
            tree_depth=2,
            rate_draws=4,
        )


@dataclass(frozen=True, eq=False)
class Hour:
    """Twelve readings of all links and, to judge by, the flows behind them, in bytes.

    Attributes:
        number: 0 to 23.
        loads: ``(12, 7)``.
        flows: ``(12, 16)``.
        packet: bytes per packet.
    """

    number: int
    loads: np.ndarray
    flows: np.ndarray
    packet: float

    @classmethod
    def scaled(cls, number: int, loads: np.ndarray, flows: np.ndarray, packets: float) -> "Hour":
        """Choose the packet: that which makes link loads vary as Poisson counts do.

        A count of packets of u bytes has a variance of u bytes times its mean in bytes, so u is
        the variance of the loads over their mean, both summed over the links; or more, so that
        the mean total stays within ``packets``.
        """
        ends = np.concatenate(sent_and_received(loads), -1)
        packet = ends.var(0, ddof=1).sum() / ends.mean(0).sum()
        total = loads[:, :NODES].sum(-1).mean()
        return cls(number, loads, flows, max(packet, total / packets))

    @property
    def k(self) -> np.ndarray:
        """``(12, 7)`` link loads in whole packets: all that the estimates are made from."""
        return whole_loads(self.loads / self.packet)

    @property
    def truth(self) -> np.ndarray:
        """``(12, 16)`` true flows in packets."""
        return self.flows / self.packet

    @property
    def gravity_rates(self) -> np.ndarray:
        """``(16,)`` rates of the gravity model for the hour; the prior is centred there."""
        return np.maximum(gravity(self.loads.mean(0) / self.packet), SMALLEST_RATE)

    @property
    def true_rates(self) -> np.ndarray:
        """``(16,)`` mean flows."""
        return np.maximum(self.truth.mean(0), SMALLEST_RATE)


@dataclass(frozen=True)
class Estimate:
    """Flows ``(12, 16)`` as some method sees them, with 90% intervals if it has any."""

    mean: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @classmethod
    def of(cls, probabilities: np.ndarray) -> "Estimate":
        """From P(flow = u), ``(12, 16, U)``."""
        cumulative = probabilities.cumsum(-1) / probabilities.sum(-1, keepdims=True)
        mean = probabilities @ np.arange(probabilities.shape[-1])
        return cls(mean, (cumulative < 0.05).sum(-1), (cumulative < 0.95).sum(-1))

    def errors(self, truth: np.ndarray) -> tuple[float, float]:
        """Root mean square errors of the flows and of their means over the hour."""
        gap = self.mean - truth
        return np.sqrt((gap**2).mean()), np.sqrt((gap.mean(0) ** 2).mean())

    def coverage(self, truth: np.ndarray) -> tuple[float, float, float]:
        """Share inside the intervals of all flows and of busy ones; width for busy ones."""
        assert self.low is not None and self.high is not None
        inside = (np.rint(truth) >= self.low) & (np.rint(truth) <= self.high)
        busy = truth.mean(0) >= BUSY
        return inside.mean(), inside[:, busy].mean(), (self.high - self.low)[:, busy].mean()


@dataclass(frozen=True)
class Result:
    """What was found for one hour.

    Attributes:
        hour: the hour.
        rates: draws ``(draws, 16)`` of the rates by method; one for a method without a posterior.
        probabilities: P(flow = u | links), ``(12, 16, U)``, by method.
    """

    hour: Hour
    rates: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """All of these and least squares, which has no law behind it."""
        squares = Estimate(np.array([least_squares(k) for k in self.hour.k]))
        laws = {name: Estimate.of(table) for name, table in self.probabilities.items()}
        return {"least squares": squares} | laws


def sent_and_received(loads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each node sends and receives, both ``(*batch, 4)``."""
    sent, received = loads[..., :NODES], loads[..., NODES:]
    rest = sent.sum(-1, keepdims=True) - received.sum(-1, keepdims=True)
    return sent, np.concatenate([received, rest], -1)


def whole_loads(loads: np.ndarray) -> np.ndarray:
    """Round loads ``(*batch, 7)`` so that whole packets can have made them.

    Rounding each on its own can leave the fourth node less than nothing to receive. So only what
    is sent is rounded; what is received is scaled to the same total and rounded down, and what is
    missing then goes to the largest remainders.
    """
    sent, received = sent_and_received(loads)
    sent, total = np.rint(sent), sent.sum(-1, keepdims=True)
    received = received * sent.sum(-1, keepdims=True) / np.where(total > 0, total, 1)
    whole = np.floor(received + 1e-9)
    missing = sent.sum(-1, keepdims=True) - whole.sum(-1, keepdims=True)
    rank = (whole - received).argsort(-1, kind="stable").argsort(-1)
    whole = whole + (rank < missing)
    return np.concatenate([sent, whole[..., :-1]], -1).astype(int)


def gravity(loads: np.ndarray) -> np.ndarray:
    """Flows ``(*batch, 16)`` in proportion to what their ends send and receive."""
    sent, received = sent_and_received(loads)
    total = np.maximum(sent.sum(-1)[..., None, None], 1e-9)
    table = sent[..., :, None] * received[..., None, :] / total
    return table.reshape(*loads.shape[:-1], NUM_FLOWS)


def least_squares(k: np.ndarray) -> np.ndarray:
    """The shortest nonnegative flows ``(16,)`` with the least |A x - k|."""
    ridge = 1e-4
    system = np.vstack([ROUTING, ridge * np.eye(NUM_FLOWS)])
    return nnls(system, np.concatenate([k, np.zeros(NUM_FLOWS)]))[0]


def parse_arguments(backend: str, argv: list[str] | None) -> tuple[Settings, Path]:
    """Settings and where the picture goes, from the command line."""
    parser = argparse.ArgumentParser(description=f"Flows from the loads of links, in {backend}.")
    parser.add_argument("--short", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--picture", type=Path, default=Path("outputs") / f"network_{backend.lower()}.png"
    )
    arguments = parser.parse_args(argv)
    settings = Settings(seed=arguments.seed)
    return settings.shortened() if arguments.short else settings, arguments.picture


def load_hours(settings: Settings) -> list[Hour]:
    """The hours asked for, of the Bell Labs day or, where that is not here, simulated."""
    folders = (Path(os.environ.get("CONSTRAINED_DATA", "data")), Path("../shared/data"))
    path = next((folder / DATA_FILE for folder in folders if (folder / DATA_FILE).is_file()), None)
    if path is None:
        Console().print(NO_DATA, highlight=False, soft_wrap=True)
        return [simulated_hour(number, settings) for number in settings.hours]
    Console().print(f"Bell Labs link loads: {path}", highlight=False, soft_wrap=True)
    with np.load(path) as data:
        loads, flows = data["link_loads"], data["od_flows"]
    slices = [slice(TIMES_PER_HOUR * h, TIMES_PER_HOUR * (h + 1)) for h in settings.hours]
    return [
        Hour.scaled(number, loads[times], flows[times], settings.packets)
        for number, times in zip(settings.hours, slices, strict=True)
    ]


def simulated_hour(number: int, settings: Settings) -> Hour:
    """Poisson packets of 10,000 bytes; like the real ones, a few flows carry most of them."""
    rng = np.random.default_rng([settings.seed, number])
    rates = rng.gamma(0.3, 4.0, size=NUM_FLOWS)
    flows = 1e4 * rng.poisson(rates, size=(TIMES_PER_HOUR, NUM_FLOWS))
    return Hour.scaled(number, flows @ ROUTING.T, flows, settings.packets)


@contextmanager
def inference_progress(name: str, steps: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar; call what it gives with a number of steps done and the ELBO."""
    columns = [
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TextColumn("step {task.completed:>3}/{task.total}   ELBO {task.fields[elbo]:8.2f}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=steps, elbo=float("nan"))
        yield lambda done, elbo: progress.update(task, advance=done, elbo=elbo)


def print_tables(backend: str, results: list[Result]) -> None:
    """How well flows are recovered, and the rates of the hour that has both posteriors."""
    console = Console()
    console.print(_flow_table(backend, results))
    console.print(FOOTNOTES, highlight=False, soft_wrap=True)
    for result in results:
        if "NUTS" in result.rates:
            console.print(_rate_table(backend, result))


def _flow_table(backend: str, results: list[Result]) -> Table:
    table = Table(title=f"Sixteen flows from the loads of seven links ({backend})")
    table.add_column("hour (packet)")
    table.add_column("flows by")
    for heading in ("error", "of means", "coverage", "busy", "width"):
        table.add_column(heading, justify="right")
    for result in results:
        label = f"{result.hour.number}:00 ({result.hour.packet / 1e3:.1f} kB)"
        for name, estimate in result.estimates.items():
            errors = [f"{error:.2f}" for error in estimate.errors(result.hour.truth)]
            table.add_row(label, name, *errors, *_coverage(estimate, result.hour.truth))
            label = ""
        table.add_section()
    return table


def _coverage(estimate: Estimate, truth: np.ndarray) -> tuple[str, str, str]:
    if estimate.low is None:
        return "-", "-", "-"
    every, busy, width = estimate.coverage(truth)
    return f"{every:.0%}", f"{busy:.0%}", f"{width:.2f}"


def _rate_table(backend: str, result: Result) -> Table:
    table = Table(title=f"Rates from {result.hour.number}:00, packets per 5 minutes ({backend})")
    for heading in ("flow", "true mean", "gravity", "SVI", "NUTS"):
        table.add_column(heading, justify="right")
    for i, name in enumerate(NAMES):
        draws = [result.rates[method][:, i] for method in ("SVI", "NUTS")]
        table.add_row(
            name,
            f"{result.hour.truth[:, i].mean():.2f}",
            f"{result.hour.gravity_rates[i]:.2f}",
            *(f"{rate.mean():.2f} ± {rate.std():.2f}" for rate in draws),
        )
    return table


def save_picture(path: Path, results: list[Result]) -> None:
    """The busiest flows of each hour over time: truth, gravity, and the exact posterior."""
    figure = Figure(figsize=(12, 2.6 * len(results)), dpi=100, layout="constrained")
    grid = figure.subplots(len(results), NODES, squeeze=False, sharex=True)
    for axes, result in zip(grid, results, strict=True):
        busiest = np.sort(np.argsort(-result.hour.truth.mean(0))[:NODES])
        for axis, flow in zip(axes, busiest, strict=True):
            _draw_flow(axis, result, flow)
        axes[0].set_ylabel(f"from {result.hour.number}:00\npackets")
    for axis in grid[-1]:
        axis.set_xlabel("minutes")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    Console().print(f"picture: {path}", highlight=False, soft_wrap=True)


def _draw_flow(axis, result: Result, flow: int) -> None:
    minutes = 5 * np.arange(TIMES_PER_HOUR)
    learned = result.estimates["SVI"]
    axis.fill_between(
        minutes,
        np.maximum(learned.low[:, flow] - 0.5, 0),
        learned.high[:, flow] + 0.5,
        step="mid",
        alpha=0.3,
        label="90%, learned rates",
    )
    axis.step(minutes, learned.mean[:, flow], where="mid", label="mean, learned rates")
    gravity_mean = result.estimates["gravity"].mean[:, flow]
    axis.step(minutes, gravity_mean, where="mid", ls=":", color="firebrick", label="gravity")
    axis.plot(minutes, result.hour.truth[:, flow], "k.", label="truth")
    axis.set_title(NAMES[flow], fontsize=9)
