"""Low-rank laws in single precision, whose factors are large beside the scales of some variables:
log densities against mpmath."""

import mpmath
import numpy as np
import pytest

from tests.adapters import each_backend

LOC = np.array([-0.862, -1.097, -0.555, 0.719, 1.629], np.float32)
FACTOR = np.array(
    [[-0.1017, -0.3362], [-365.2, 779.8], [-1.688, 3.18], [0.02889, -0.01161], [-2.55, -5.14]],
    np.float32,
)
DIAGONAL = np.array([5.369e-05, 1.682e-06, 1.018e4, 4122.5, 0.2006], np.float32)
A = np.array([-1.0193, 0.4406, -2.388, -1.4551, -1.4539], np.float32)
K = np.float32(5.19)


def exact_log_density(x, diagonal):
    """That of x less that of A x, with respect to Hausdorff measure."""
    with mpmath.workdps(50):
        deviation = mpmath.matrix(
            [mpmath.mpf(float(u)) - float(v) for u, v in zip(x, LOC, strict=True)]
        )
        factor = mpmath.matrix(FACTOR.astype(float).tolist())
        covariance = factor * factor.T + mpmath.diag([mpmath.mpf(float(d)) for d in diagonal])
        row = mpmath.matrix([A.astype(float).tolist()])
        gap, variance = (row * deviation)[0], (row * covariance * row.T)[0]
        distance = (deviation.T * mpmath.lu_solve(covariance, deviation))[0] - gap**2 / variance
        log_det = mpmath.log(mpmath.det(covariance) / variance * (row * row.T)[0])
        return float(-(distance + log_det + (len(LOC) - 1) * mpmath.log(2 * mpmath.pi)) / 2)


@each_backend
@pytest.mark.parametrize("least", [1.0, 100.0])
def test_log_densities(backend, least):
    """They were -460 for -13.7: normal equations lost what large factors leave of a deviation."""
    diagonal = np.maximum(DIAGONAL, DIAGONAL.min() * np.float32(least))
    parts = (backend.array(part, "float32") for part in (LOC, FACTOR, diagonal, A, K))
    law = backend.library.ConstrainedLowRankMultivariateNormal(*parts)
    draws = backend.draws(law, 0, (20,))
    expected = [exact_log_density(x, diagonal) for x in draws]
    # A deviation in units of its own scale is rounded, and what the factors leave of it is about 3.
    deviations = np.abs(draws - LOC) / np.sqrt(diagonal)
    rounding = 3 * np.finfo(np.float32).eps * deviations.max(-1)
    error = np.abs(backend.log_prob(law, draws, "float32") - expected)
    assert (error <= 1e-4 * np.abs(expected) + rounding).all()
