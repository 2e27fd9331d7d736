"""All that the outcomes depend on.

Not tuned, but for two changes after first tries, the weight of the soft penalty was 10, and spreads
were fitted in 300 steps at the rate of training; and for ``joint_steps``, of which 300 was tried.
"""

from dataclasses import dataclass, replace

from experiments.images.data import NAMES

LAWS = ("blocks", "total")
"""What is given of an image: the sums of its blocks of 4 x 4 pixels, or the sum of all pixels."""

BLOCK = 4


@dataclass(frozen=True)
class Settings:
    """How to learn and how to judge.

    Attributes:
        sets: of images.
        laws: what is given of an image.
        seeds: runs of each method; they differ in the start of the nets, batches and draws.
        steps, batch_size: of training.
        learning_rate, final_learning_rate: of Adam; it decays exponentially.
        joint_steps: whole hundreds, for which "joint start" learns as the plain VAE does.
        spread_steps, spread_learning_rate: of fitting the spread of a law whose mean was learned
            without one.
        hidden: width of the two hidden layers of a net.
        code, top_code: size of the code that the decoder sees, and of the one above it in a ladder.
        factors: columns of the factor of a low-rank covariance.
        start_scale, smallest_scale: of a pixel, at the start of training and ever. The noise on the
            grey levels has .017 (digits) or .009 (other sets).
        penalty_weight: of the squared residual of the mean image, in nats.
        semantic_weight: of the surprise of the law, in nats.
        observation_scale: the standard deviation that turns squared errors into nats, for methods
            that learn by squared error.
        test_images: to judge draws by.
        scored_images: to judge log-likelihoods by.
        encoder_draws, prior_draws: of the code, for each of them.
        timed_steps, timed_turns: of the measurement of seconds.
    """

    sets: tuple[str, ...] = NAMES
    laws: tuple[str, ...] = LAWS
    seeds: int = 3
    steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-4
    joint_steps: int = 100
    spread_steps: int = 600
    spread_learning_rate: float = 1e-2
    hidden: int = 128
    code: int = 16
    top_code: int = 8
    factors: int = 4
    start_scale: float = 0.2
    smallest_scale: float = 0.01
    penalty_weight: float = 1.0
    semantic_weight: float = 1.0
    observation_scale: float = 0.1
    test_images: int = 1000
    scored_images: int = 300
    encoder_draws: int = 100
    prior_draws: int = 200
    timed_steps: int = 25
    timed_turns: int = 7

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(
            self,
            sets=NAMES[:1],
            laws=LAWS[:1],
            seeds=1,
            steps=4,
            batch_size=8,
            spread_steps=2,
            hidden=8,
            code=3,
            top_code=2,
            factors=2,
            test_images=60,
            scored_images=10,
            encoder_draws=4,
            prior_draws=4,
            timed_steps=2,
            timed_turns=2,
        )
