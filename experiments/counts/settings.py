"""All that the outcomes depend on; none of it was tuned."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Settings:
    """How to expose, train and judge.

    Attributes:
        sets: of images, by the names of ``experiments.images.data``.
        laws: what the detector tells, keys of ``experiments.counts.photons.BLOCKS``.
        seeds: trainings of each; they differ in the start of the net and in the batches.
        exposure: photons expected of a white pixel.
        num_scored: held-out images that are scored, if the set has as many.
        steps: of Adam, whose rate falls to 0 along a cosine.
        penalty_weight: of the soft penalty, per photon that a sum is missed by.
        reader_weight: of the reader's cross-entropy, where it is part of the loss.
        encoder_draws, prior_draws: codes that average p(x) and p(A x = k).
    """

    sets: tuple[str, ...] = ("mnist", "digits")
    laws: tuple[str, ...] = ("4 x 4 blocks", "total")
    seeds: int = 3
    exposure: float = 15.0
    num_scored: int = 500
    code_size: int = 16
    hidden: int = 192
    steps: int = 1500
    reader_steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    largest_gradient: float = 100.0
    penalty_weight: float = 1.0
    reader_weight: float = 10.0
    encoder_draws: int = 100
    prior_draws: int = 500

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(
            self,
            sets=("digits",),
            laws=("4 x 4 blocks",),
            seeds=1,
            num_scored=400,  # more than there are
            steps=3,
            reader_steps=3,
            encoder_draws=4,
            prior_draws=4,
        )
