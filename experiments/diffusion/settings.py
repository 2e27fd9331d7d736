"""All that the outcomes depend on."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Study:
    """Images and the law they obey.

    Attributes:
        data: name of the set.
        block: side of the square blocks whose sums are given.
        steps: of training.
        num_images: drawn and compared, each with the sums of a test image; all if fewer are there.
        through: whether networks are also trained through constrained kernels.
    """

    data: str
    block: int
    steps: int
    num_images: int = 1000
    through: bool = False

    @property
    def title(self) -> str:
        return f"{self.data}, {self.block} x {self.block} blocks, {self.steps:,} steps"


STUDIES = (
    Study("digits", 2, steps=1000),
    Study("digits", 2, steps=4000),
    Study("digits", 4, steps=4000, through=True),
    Study("mnist", 4, steps=4000),
    Study("fashion_mnist", 4, steps=2000),
)
SHORT_STUDIES = (Study("digits", 4, steps=20, num_images=100, through=True),)


@dataclass(frozen=True)
class Settings:
    """How to train and draw.

    Attributes:
        seeds: runs; they differ in the start of the net, in its batches and in the draws.
        levels: T, steps of the forward process.
        least_noise, most_noise: beta_1 and beta_T; linear in between.
        fewer_levels: that DDIM uses.
        rounds: predictions on each level of predict, project, renoise, which uses ``levels`` over
            ``rounds`` levels, so that it too asks the net ``levels`` times.
        noise_lifetime: predictions for which extrapolate, correct, interpolate keeps its noise, one
            of the two choices in a notebook of its authors.
        normal_noise: standard deviation of the perturbation off the law, pixels from -1 to 1.
        grain: pixels from -1 to 1 are taken to be noise of this deviation on the finest scale,
            which the network need not predict.
        hidden: width of the three layers.
        variance_images: training images from which reverse variances are worked out.
    """

    seeds: int = 3
    levels: int = 200
    least_noise: float = 1e-4
    most_noise: float = 0.1
    fewer_levels: int = 50
    rounds: int = 2
    noise_lifetime: int = 5
    normal_noise: float = 0.1
    grain: float = 0.2
    hidden: int = 256
    batch_size: int = 128
    learning_rate: float = 1e-3
    variance_images: int = 500

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(self, seeds=1, levels=10, fewer_levels=5, hidden=32, variance_images=50)
