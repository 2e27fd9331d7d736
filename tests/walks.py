"""Small fibers for walks, and how draws of chains are compared with their exact laws."""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats
from scipy.sparse.csgraph import connected_components

from tests.chance import assert_likely, of_chain_mean, of_frequency
from tests.discrete_oracles import DiscreteProblem

RATES = np.array([1.0, 2.0, 1.5, 1.0, 2.0, 3.0])
BELL = np.array([0.2, 0.5, 0.6, 0.3, 0.8, 0.4])
LEVELS = np.array(
    [[0.1, 0.2, 0.3, 0.4], [0.4, 0.1, 0.4, 0.1], [0.7, 0.1, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]]
)
HOLES = np.array([[0.3, 0.0, 0.7], [0.4, 0.1, 0.5], [0.2, 0.0, 0.8]])
TABLE = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0]])
EQUAL = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 1]])
"""Columns 0 and 1 are equal, as are 2 and 3."""
BALANCE = np.array([[1, -1, 2, 0, 0], [1, 1, 1, 1, 1]])
SHARED = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
ROUTES = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])


def _problem(family: str, params: np.ndarray, A: list | np.ndarray, k: list) -> DiscreteProblem:
    return DiscreteProblem(family, params, np.asarray(A), np.array(k))


FIBRES = {
    "poisson-table": _problem("poisson", RATES, TABLE, [4, 5, 3, 4]),
    "poisson-knapsack": _problem("poisson", RATES[:4], [[3, 4, 5, 7]], [30]),
    "poisson-equal": _problem("poisson", RATES[:5], EQUAL, [3, 3]),
    "poisson-negative": _problem("poisson", RATES[:5], BALANCE, [1, 4]),
    "bernoulli-shared": _problem("bernoulli", BELL, SHARED, [2, 2]),
    "bernoulli-negative": _problem("bernoulli", BELL, [[1, 1, 0, 1, -1, 2]], [2]),
    "bernoulli-equal": _problem("bernoulli", BELL, [[1, 1, 2, 2, 3, 3]], [6]),
    "categorical-negative": _problem("categorical", LEVELS[:3], [[1, 2, -1]], [3]),
    "categorical-equal": _problem("categorical", LEVELS, ROUTES, [4, 3]),
    "categorical-holes": _problem("categorical", HOLES, np.ones((1, 3), int), [4]),
}
"""Every family; negative coefficients, equal columns, a free variable, impossible values."""


@dataclass(frozen=True, eq=False)
class ScaledCounts:
    """scale ~ Gamma(shape, rate); x_i ~ Poisson(scale weight_i), of which A x = k is known.

    With the scale summed out, x has log weights gammaln(shape + sum x) - (shape + sum x)
    log(rate + sum weight) + sum_i x_i log weight_i - log x_i!; given x the scale is a Gamma again.
    """

    weight: np.ndarray
    A: np.ndarray
    k: np.ndarray
    shape: float = 2.0
    rate: float = 1.0

    @property
    def points(self) -> np.ndarray:
        """(count, n) all of the fiber."""
        return DiscreteProblem("poisson", self.weight, self.A, self.k).points

    @property
    def pmf(self) -> np.ndarray:
        """(count,) posterior of the points."""
        x = self.points
        shape, rate = self.given(x)
        counts = x @ np.log(self.weight) - special.gammaln(x + 1).sum(-1)
        return special.softmax(counts + special.gammaln(shape) - shape * np.log(rate))

    def given(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """Shape and rate of the scale given points (..., n)."""
        return self.shape + x.sum(-1), self.rate + self.weight.sum()

    @property
    def scale_moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the scale."""
        shape, rate = self.given(self.points)
        mean = self.pmf @ shape / rate
        second = self.pmf @ (shape * (shape + 1)) / rate**2
        return float(mean), float(np.sqrt(second - mean**2))


SCALED = ScaledCounts(np.array([0.5, 1.5, 1.0]), np.array([[1, 1, 0], [0, 1, 1]]), np.array([6, 8]))


def check_posterior(problem: ScaledCounts, x: np.ndarray, scale: np.ndarray) -> None:
    """Draws ``(draws, n)`` and ``(draws,)`` of one chain against the posterior by enumeration.

    Rare points are taken together: a chain that rarely sees an event cannot tell how often it does.
    """
    number, is_common = point_numbers(problem.points, x), problem.pmf > 0.03
    p_values = [of_chain_mean(scale, *problem.scale_moments)]
    for point in np.flatnonzero(is_common):
        p_values.append(of_frequency(number == point, problem.pmf[point]))
    p_values.append(of_frequency(~is_common[number], problem.pmf[~is_common].sum()))
    assert_likely(p_values)


def possible_points(problem: DiscreteProblem) -> tuple[np.ndarray, np.ndarray]:
    """``(count, n)`` points of positive probability, and these ``(count,)``."""
    possible = problem.pmf > 0
    return problem.points[possible], problem.pmf[possible]


def point_numbers(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which of the points each value ``(..., n)`` is; values beside them are an error."""
    base = int(max(points.max(), values.max())) + 1
    code = base ** np.arange(points.shape[1])
    order = np.argsort(points @ code)
    found = np.searchsorted((points @ code)[order], values.astype(int) @ code)
    number = order[found.clip(max=len(points) - 1)]
    assert (points[number] == values).all()
    return number


@dataclass(frozen=True)
class Comparison:
    """Draws of independent chains beside the exact law.

    Attributes:
        total_variation: distance of the pooled frequencies from the law.
        noise: its expected size for an unbiased chain as autocorrelated as this one.
        correlation_time: draws that are worth one independent draw, the mean over points.
        p_value: of the law, by the scatter of chains among themselves.
    """

    total_variation: float
    noise: float
    correlation_time: float
    p_value: float


def compare(problem: DiscreteProblem, draws: np.ndarray) -> Comparison:
    """Compare draws ``(chains, draws, n)`` with the law, whatever the autocorrelation.

    Chains are independent, so that the covariance of their frequencies is known from themselves:
    Hotelling's test with as many observations as there are chains. Rare points are taken together.
    """
    points, pmf = possible_points(problem)
    number = point_numbers(points, draws)
    chains, length = number.shape
    each = np.stack([np.bincount(row, minlength=len(pmf)) for row in number]) / length
    gap = each.mean(0) - pmf
    variance = each.var(0, ddof=1) / chains
    ideal = pmf * (1 - pmf) / number.size
    # The absolute value of a normal error is sqrt(2 / pi) of its standard deviation on average.
    noise = np.sqrt(2 / np.pi * variance).sum() / 2
    return Comparison(
        total_variation=float(np.abs(gap).sum() / 2),
        noise=float(noise),
        correlation_time=float(variance.sum() / ideal.sum()),
        p_value=_hotelling(_rare_together(each, pmf), _rare_together(pmf[None], pmf)[0]),
    )


def _rare_together(each: np.ndarray, pmf: np.ndarray) -> np.ndarray:
    """The frequencies of the common points; the others make up the rest to one."""
    is_common = pmf >= 0.005
    is_common[np.argmax(pmf)] &= bool((~is_common).any())
    return each[:, is_common]


def _hotelling(each: np.ndarray, expected: np.ndarray) -> float:
    count, size = each.shape
    gap = each.mean(0) - expected
    statistic = count * gap @ np.linalg.solve(np.cov(each.T).reshape(size, size), gap)
    return float(stats.f.sf(statistic * (count - size) / (size * (count - 1)), size, count - size))


def num_classes(transition: np.ndarray) -> int:
    """Sets of states within which each is reached from every other."""
    return int(connected_components(transition > 0, directed=True, connection="strong")[0])
