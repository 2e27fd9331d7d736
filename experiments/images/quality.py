"""How good sets of images are, beside real ones: Frechet distance, precision, recall, density,
coverage, and by how much a law is broken.

References:
    Heusel et al. (2017), *GANs trained by a two time-scale update rule converge to a local Nash
    equilibrium* (Frechet distance).
    Kynkaanniemi et al. (2019), *Improved precision and recall metric for assessing generative
    models*.
    Naeem et al. (2020), *Reliable fidelity and diversity metrics for generative models* (density,
    coverage).
"""

import numpy as np
from scipy.spatial.distance import cdist

from constrained_core import GroupSum
from experiments.images.critic import Critic

__all__ = ["frechet_distance", "largest_violation", "manifold_scores", "score_images"]

NEIGHBOURS = 5
"""The ball of a point reaches to so manieth a neighbour."""


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), means and covariances of ``(points, d)``."""
    gap = one.mean(0) - other.mean(0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    common = np.sqrt(np.linalg.eigvals(first @ second).real.clip(0)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * common)


def manifold_scores(real: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """Precision, recall, density and coverage of drawn features ``(points, d)``.

    With balls around real (drawn) points that reach their fifth neighbour of the same kind:
    precision is the share of drawn points in a ball of a real one, recall the share of real points
    in a ball of a drawn one, density the mean number of real balls that a drawn point is in, over
    five, and coverage the share of real balls that hold a drawn point.
    """
    across = cdist(real, drawn)
    real_reach, drawn_reach = _reach(real), _reach(drawn)
    in_real = across < real_reach[:, None]
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float((across < drawn_reach).any(1).mean()),
        "density": float(in_real.sum(0).mean() / NEIGHBOURS),
        "coverage": float(in_real.any(1).mean()),
    }


def _reach(points: np.ndarray) -> np.ndarray:
    """Distance of each point to its fifth neighbour."""
    return np.partition(cdist(points, points), NEIGHBOURS, axis=-1)[:, NEIGHBOURS]


def largest_violation(images: np.ndarray, A: GroupSum, k: np.ndarray) -> float:
    """The largest ``|A x - k|``, summed in double precision."""
    sums = np.asarray(images, np.float64) @ A.to_dense().T
    return float(np.abs(sums - k).max())


def score_images(
    critic: Critic, real: np.ndarray, drawn: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """All scores of images drawn for the k of each real one.

    Args:
        critic: makes features and classes of them.
        real, drawn: ``(images, n)`` of pixels; the drawn one in a row has the k of the real one.
        labels: ``(images,)`` classes of the real ones; ``agreement`` is how often the critic finds
            the drawn image in the class of the real one.
    """
    real_features, _ = critic.judge(real)
    features, classes = critic.judge(drawn)
    return {
        "fid": frechet_distance(real_features, features),
        **manifold_scores(real_features, features),
        "agreement": float((classes == labels).mean()),
    }
