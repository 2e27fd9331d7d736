"""All that the outcomes depend on."""

from dataclasses import dataclass, replace

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes and rates, the same for all methods; chosen on the validation part of reshuffle 0.

    Attributes:
        reshuffles: seeds of the split into 70% training, 10% validation and 20% test.
        members: networks per method and reshuffle, an ensemble.
        max_crystals: use so many of them at most.
        max_molecules, max_atoms: number and largest size of the molecules that stand in.
        bin_width: of bond lengths, in angstrom.
        averaging: decay of the average of the weights over steps.
        warmup: share of the steps in which the learning rate rises.
    """

    reshuffles: tuple[int, ...] = (0, 1, 2)
    members: int = 2
    max_crystals: int = 100_000
    max_molecules: int = 1_000
    max_atoms: int = 40
    bin_width: float = 0.01
    width: int = 40
    num_rounds: int = 6
    epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 5e-3
    second_moment: float = 0.99
    weight_decay: float = 0.1
    averaging: float = 0.995
    warmup: float = 0.05
    clip: float = 10.0
    validate_every: int = 5

    def lengthened(self) -> "Settings":
        """Three times the steps, one network for each reshuffle."""
        return replace(self, epochs=3 * self.epochs, members=1)

    def shortened(self) -> "Settings":
        """A few seconds."""
        return replace(
            self,
            reshuffles=(0,),
            max_crystals=40,
            max_molecules=16,
            max_atoms=16,
            width=8,
            num_rounds=2,
            epochs=2,
            validate_every=1,
        )
