"""The picture of the plane: its laws against sampling, quadrature and conditioning by hand."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from experiments.two_dimensions.__main__ import main
from experiments.two_dimensions.laws import METHODS, Plane, conditional_shadow, distance, shadow
from tests.chance import assert_likely, of_means

PLANES = [Plane(), Plane(normal=(2.0, -0.5), k=-1.0, correlation=-0.3)]
planes = pytest.mark.parametrize("plane", PLANES, ids=["sum", "slanted"])


@planes
def test_points_of_the_line(plane):
    t = np.array([-1.0, 0.0, 2.5])
    x = plane.at(t)
    np.testing.assert_allclose(x @ plane.A[0], plane.k, rtol=1e-12)
    np.testing.assert_allclose(plane.place(x), t, atol=1e-12)
    assert plane.direction.norm().item() == pytest.approx(1.0)


@planes
@pytest.mark.parametrize("name", METHODS)
def test_shadows_are_those_of_draws(plane, name):
    torch.manual_seed(0)
    found = METHODS[name](plane, plane.base.sample((20_000,)))
    np.testing.assert_allclose(found @ plane.A[0], plane.k, atol=1e-12)
    law = shadow(plane, METHODS[name])
    scores = (plane.place(found) - law.mean) / law.deviation
    assert_likely(of_means(np.stack([scores, scores**2], -1), [0.0, 1.0]))


@planes
def test_conditional_law_is_the_base_density_on_the_line(plane):
    def base(t):
        return plane.base.log_prob(plane.at(np.array(t))).exp().item()

    law = conditional_shadow(plane)
    total = quad(base, -20, 20, points=[law.mean])[0]
    for t in (-0.7, 0.1, 1.3):
        assert law.density(t) == pytest.approx(base(t) / total, rel=1e-6)


def test_divergence_by_quadrature():
    one, other = (shadow(Plane(), METHODS[name]) for name in list(METHODS)[1:])

    def part(t):
        logs = [norm.logpdf(t, law.mean, law.deviation) for law in (one, other)]
        return one.density(t) * (logs[0] - logs[1])

    assert distance(one, other) == pytest.approx(quad(part, -8, 8)[0], rel=1e-7)
    assert distance(one, one) == 0.0


def test_table_and_picture(tmp_path):
    frame = main(["--short", "--folder", str(tmp_path)])
    assert frame["divergence, nats"].iloc[-1] == 0.0
    assert (frame["divergence, nats"].iloc[:-1] > 0.1).all()
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".png"}
