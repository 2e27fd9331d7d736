"""FiberSampler against enumeration: its one-step kernel exactly, and draws of many chains.

That the law is stationary is checked without chance: steps are taken from every point of a fiber
with random numbers that go through a fine grid.
"""

import numpy as np
import pytest

from tests.adapters import BACKENDS, Backend, each_backend
from tests.chance import assert_likely, of_counts, rare_together
from tests.discrete_oracles import DiscreteProblem
from tests.walks import FIBRES, compare, num_classes, point_numbers, possible_points

GRID = 250
DIRECTIONS = 24

each_fiber = pytest.mark.parametrize("name", FIBRES)


def sampler_of(backend: Backend, problem: DiscreteProblem, **options):
    base = backend.base_law(problem.family, problem.params)
    return backend.library.FiberSampler(base, problem.A, problem.k, **options)


def active_part(sampler, problem: DiscreteProblem) -> tuple[np.ndarray, np.ndarray]:
    """Points of the fiber without the variables in no row, and their probabilities."""
    points, pmf = possible_points(problem)
    points, number = np.unique(points[:, sampler._plan.active], axis=0, return_inverse=True)
    return points, np.bincount(number.reshape(-1), pmf)


def line_kernel(backend, sampler, points, direction, uniform) -> tuple[np.ndarray, object]:
    """Transition matrix of one step whose direction is fixed, and the direction afterwards.

    The random numbers of the step's length and of the block, where there is one, take all values
    of a grid; ``uniform`` holds the others.
    """
    plan = sampler._plan
    blocks = plan.window if plan.num_refinements else 1
    midpoints = [(np.arange(size) + 0.5) / size for size in (blocks, GRID)]
    block, length = (part.ravel() for part in np.meshgrid(*midpoints))
    count = len(points) * len(block)
    numbers = np.tile(uniform, (count, 1))
    numbers[:, 1], numbers[:, 2] = np.tile(block, len(points)), np.tile(length, len(points))
    start = np.repeat(np.arange(len(points)), len(block))
    moved, after = backend.walk_step(sampler, points[start], direction, numbers)
    kernel = np.zeros((len(points), len(points)))
    np.add.at(kernel, (start, point_numbers(points, moved)), 1 / len(block))
    return kernel, after


def num_uniform(plan) -> int:
    return 4 + (2 * len(plan.moves) if plan.mixes else 0)


def kernels_of(backend, sampler, points, count=DIRECTIONS):
    """Transition matrices of one step along directions as the walk meets them."""
    rng, plan = np.random.default_rng(0), sampler._plan
    direction = None
    for _ in range(count):
        uniform = rng.uniform(size=num_uniform(plan))
        kernel, direction = line_kernel(backend, sampler, points, direction, uniform)
        yield kernel


@each_backend
@each_fiber
def test_the_law_is_stationary(backend, name):
    """Along every direction; and all directions together join the fiber, where that is claimed.

    A frequency on the grid is right to 1 / GRID, so that what flows into a point is too.
    """
    problem = FIBRES[name]
    sampler = sampler_of(backend, problem)
    points, pmf = active_part(sampler, problem)
    together = np.zeros((len(points), len(points)))
    for kernel in kernels_of(backend, sampler, points):
        np.testing.assert_allclose(kernel.sum(1), 1, rtol=1e-12)
        flow = pmf[:, None] * kernel
        assert np.abs(flow.sum(0) - pmf).max() < 1.01 / GRID
        assert (np.abs(flow - flow.T) <= 1.01 / GRID * (pmf[:, None] + pmf)).all()
        together += kernel
    known = sampler.connectivity
    assert known.reason
    assert num_classes(together) == 1 or known.is_connected is None


@each_backend
def test_blocks_of_a_long_line_keep_the_law(backend):
    """Mass wider than the window: a block placed at random around the point."""
    problem = DiscreteProblem("poisson", np.array([3.0, 2.0]), np.ones((1, 2), int), np.array([30]))
    sampler = sampler_of(backend, problem)
    plan = sampler._plan
    plan.__dict__["window"] = 5
    assert plan.num_refinements
    points, pmf = possible_points(problem)
    uniform = np.full(num_uniform(plan), 0.5)
    kernel, _ = line_kernel(backend, sampler, points, None, uniform)
    likely = pmf > 1e-7  # the window leaves out what is less than exp(-20) of the most likely
    assert np.abs((pmf @ kernel - pmf)[likely]).max() < 1.01 / GRID
    reach = np.abs(np.subtract.outer(points[:, 0], points[:, 0]))
    assert (reach[kernel > 0].max() == plan.window - 1) and (kernel[likely] > 0).sum(1).max() == 9


@each_backend
def test_moves_that_do_not_connect_are_told(backend):
    """Two moves of three for the parts of four: two classes of points, and it says so."""
    problem = DiscreteProblem("poisson", np.ones(3), np.array([[1, 2, 3]]), np.array([4]))
    poor = sampler_of(backend, problem, moves=np.array([[2, -1, 0]]))
    points, _ = active_part(poor, problem)
    assert num_classes(sum(kernels_of(backend, poor, points, 3))) == 2
    assert poor.connectivity.is_connected is False
    assert "do not connect the 4 points" in poor.connectivity.reason


@each_backend
@pytest.mark.rank_promotion("allow")  # free variables are drawn by NumPyro's own laws
@pytest.mark.parametrize("name", ["poisson-table", "bernoulli-negative"])
def test_draws_of_many_chains(backend, name):
    """The cheap form of the statistical test: where independent chains are after 40 sweeps.

    Of a hundred thousand chains after 30 sweeps the frequencies are those of the law to rounding.
    """
    problem = FIBRES[name]
    draws = backend.walk(sampler_of(backend, problem), 3, 1, num_chains=2000, warmup=40)
    points, pmf = possible_points(problem)
    counts = np.bincount(point_numbers(points, draws[:, -1]), minlength=len(pmf))
    assert_likely(of_counts(*rare_together(counts, pmf, least=5)))


@pytest.mark.slow
@pytest.mark.rank_promotion("allow")
@each_backend
@each_fiber
def test_total_variation(backend, name):
    """Below 0.01, and what is expected of an unbiased chain with this autocorrelation.

    Of c points a distance above r times its expectation has a probability of less than
    exp(-c (r - 1)^2 / pi), as it is a Lipschitz function of normal errors; c is 3 or more.
    """
    problem = FIBRES[name]
    sampler = sampler_of(backend, problem)
    found = compare(problem, backend.walk(sampler, 1, 500, num_chains=2000, warmup=30))
    assert found.total_variation < 0.01
    assert found.total_variation < 5 * found.noise
    assert_likely(found.p_value)


@each_backend
def test_poor_chains_are_told(backend):
    """Few draws of a walk that has to cross a long line in short steps."""
    pytest.importorskip("arviz")
    problem = DiscreteProblem("poisson", np.ones(3), np.array([[1, 2, 3]]), np.array([90]))
    sampler = sampler_of(backend, problem)
    backend.walk(sampler, 0, 20, num_chains=2, warmup=0)
    warning = backend.library.FiberSamplerWarning
    with pytest.warns(warning, match="of 3 variables.*R-hat.*200 effective draws.*draw more"):
        assert not sampler.diagnostics().is_good


@each_backend
def test_variables_that_follow_from_others_are_left_out(backend):
    """x_2 is 2 on the whole fiber, though the bounds of single rows do not say so."""
    pytest.importorskip("arviz")
    A, k = np.array([[1, 1, 1, 1], [1, 1, -1, 1]]), np.array([30, 26])
    problem = DiscreteProblem("poisson", np.array([3.0, 2.0, 1.0, 1.0]), A, k)
    sampler = sampler_of(backend, problem)
    draws = backend.walk(sampler, 0, 200, num_chains=2, warmup=5)
    assert (draws[..., 2] == 2).all()
    found = sampler.diagnostics()
    assert found.is_good
    np.testing.assert_array_equal(np.isnan(found.r_hat), [False, False, True, False])


def test_backends_walk_alike():
    """The same random numbers lead both twins to the same points, by the same directions."""
    if len(BACKENDS) < 2:
        pytest.skip("one backend")
    for name in ("poisson-table", "poisson-knapsack", "categorical-negative"):
        samplers = [sampler_of(backend, FIBRES[name]) for backend in BACKENDS]
        points, _ = active_part(samplers[0], FIBRES[name])
        kernels = [kernels_of(*pair, points, 10) for pair in zip(BACKENDS, samplers, strict=True)]
        for one, other in zip(*kernels, strict=True):
            np.testing.assert_array_equal(one, other)
