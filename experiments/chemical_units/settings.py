"""All that the outcomes depend on."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from experiments.chemical_units.training import Schedule


class Recipe(NamedTuple):
    """What the law is made of; one recipe for all units.

    The law is N(base(x) + loc(x), D(x) C D(x)) given A z = k, with loc and the diagonal of D heads
    of one network.

    Attributes:
        base: ``none`` (0), ``line`` (least squares of z on x), ``line of the rest`` (of what the
            law leaves: of z less its conditional mean at loc = 0 and D = 1) or ``line where it
            fits`` (for the outputs of which it explains at least ``good_fit`` of the variance,
            else 0).
        correlation: what C is: ``none`` (the identity) or ``outputs`` (their covariance, over its
            mean variance).
        skips: whether each head also sees the inputs.
        start: D at the start of training.
        good_fit: share of the variance of an output.
    """

    base: str
    correlation: str
    skips: bool = False
    start: float = 0.05
    good_fit: float = 0.95


@dataclass(frozen=True)
class Protocol:
    """The published way of training.

    Attributes:
        seeds: nets of each method, trained side by side.
        max_rows: rows of each unit, from the first; all if None.
    """

    units: tuple[str, ...] = ("cstr", "plant", "distillation")
    seeds: int = 4
    epochs: int = 1000
    batch_size: int = 16
    learning_rate: float = 1e-4
    width: int = 32
    max_rows: int | None = None

    def shortened(self) -> Self:
        """A few seconds, for the tests."""
        return replace(self, units=("cstr",), seeds=2, epochs=2, max_rows=200)

    @property
    def mean_schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch_size, self.learning_rate)


@dataclass(frozen=True)
class Settings(Protocol):
    """The comparison; the spread is trained when the mean stands."""

    seeds: int = 10
    spread_epochs: int = 100
    spread_batch_size: int = 128
    spread_learning_rate: float = 5e-3

    def shortened(self) -> Self:
        """A few seconds, for the tests."""
        return replace(super().shortened(), spread_epochs=2, spread_batch_size=32)

    @property
    def spread_schedule(self) -> Schedule:
        return Schedule(self.spread_epochs, self.spread_batch_size, self.spread_learning_rate)
