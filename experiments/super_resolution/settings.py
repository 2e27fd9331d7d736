"""All that the outcomes depend on."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Settings:
    """What is read, and how long the guide learns.

    Attributes:
        seeds: runs; they differ in the noise of the readings and in the draws.
        block: side of a block, in pixels.
        noise: standard deviation of a reading; sums of four pixels reach to 4.
        ridge: added to the variances of the prior, whose dark corners have none.
        num_draws: of each image, whose sums are compared with the k drawn for them.
    """

    seeds: int = 3
    block: int = 2
    noise: float = 0.3
    ridge: float = 1e-3
    num_images: int = 397
    steps: int = 2000
    learning_rate: float = 0.02
    final_learning_rate: float = 2e-4
    num_draws: int = 100

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(self, seeds=1, num_images=20, steps=5, num_draws=20)
