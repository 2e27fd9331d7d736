"""Chemical units: the pieces against NumPy and SciPy, and a short run."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm

from experiments.chemical_units import choices, scoring
from experiments.chemical_units.__main__ import main
from experiments.chemical_units.comparison import METHODS
from experiments.chemical_units.data import LAWS, load_unit
from experiments.chemical_units.fitting import fit_mean, fit_spread, num_parameters, predict, start
from experiments.chemical_units.methods import VariableElimination
from experiments.chemical_units.ours import ExpectedLoss, fit_base, fit_factor, gain, on_line
from experiments.chemical_units.settings import Recipe, Settings
from experiments.perceptron import init_network, outputs
from rivals import layers_jax as cures

A = np.array([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 1.0, 3.0]])


@pytest.fixture
def unit(monkeypatch, tmp_path):
    """A made-up unit, the same on every machine."""
    monkeypatch.setenv("CONSTRAINED_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return load_unit("plant", 120)


@pytest.mark.parametrize("name", LAWS)
def test_rows_obey_the_law(name):
    unit = load_unit(name)
    for rows in unit.rows.values():
        np.testing.assert_allclose(rows.z @ unit.A.T, rows.k, atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(unit.A, axis=1), 1.0)
    sizes = {split: len(rows.x) for split, rows in unit.rows.items()}
    assert sizes["validation"] == sizes["test"] == int(0.2 * sum(sizes.values()))
    largest = np.max([np.abs(rows.z).max(0) for rows in unit.rows.values()], axis=0)
    np.testing.assert_allclose(largest, 1.0, atol=1e-6)


def test_penalties_and_semantic_loss(rng):
    value, scale, k = rng.normal(size=4), rng.uniform(0.5, 2.0, size=4), rng.normal(size=2)
    np.testing.assert_allclose(cures.soft_penalty(value, A, k), np.abs(A @ value - k))
    np.testing.assert_allclose(cures.squared_penalty(value, A, k), (A @ value - k) ** 2)
    law = multivariate_normal(A @ value, A @ np.diag(scale**2) @ A.T)
    loss = cures.semantic_loss(jnp.array(value), jnp.array(scale), A, jnp.array(k))
    np.testing.assert_allclose(loss, -law.logpdf(k))


def test_projection_is_the_nearest_point(rng):
    value, k = rng.normal(size=4), rng.normal(size=2)
    law = {"type": "eq", "fun": lambda x: A @ x - k}
    nearest = minimize(lambda x: ((x - value) ** 2).sum(), value, constraints=law, tol=1e-12).x
    found = cures.projected(jnp.array(value), A, jnp.array(k))
    np.testing.assert_allclose(found, nearest, atol=1e-6)
    np.testing.assert_allclose(A @ found, k, atol=1e-14)


def test_completion_keeps_the_free_variables(rng):
    value, k = jnp.array(rng.normal(size=4)), jnp.array(rng.normal(size=2))
    dependent = cures.last_of_each_row(A, [3, 1, 0, 2])
    assert sorted(dependent) == [0, 2]
    found = cures.complete(value, A, k, dependent)
    np.testing.assert_allclose(A @ found, k, atol=1e-14)
    np.testing.assert_array_equal(found[jnp.array([1, 3])], value[jnp.array([1, 3])])


def test_last_variables_are_independent():
    rows = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    assert sorted(cures.last_of_each_row(rows, [0, 1, 2, 3])) == [1, 3]


def test_skips_start_at_zero(rng):
    key, x = jax.random.key(0), jnp.array(rng.normal(size=3))
    plain, skipping = (init_network(key, 3, [5, 5], {"loc": 2}, skips) for skips in (False, True))
    np.testing.assert_array_equal(outputs(plain, x)["loc"], outputs(skipping, x)["loc"])
    (first, b1), (second, b2) = plain["hidden"]
    weight, bias = plain["heads"]["loc"]
    hidden = np.maximum(np.maximum(x @ first + b1, 0) @ second + b2, 0)
    np.testing.assert_allclose(outputs(plain, x)["loc"], hidden @ weight + bias)
    skipping["skips"]["loc"] += 1.0
    moved = outputs(skipping, x)["loc"] - outputs(plain, x)["loc"]
    np.testing.assert_allclose(moved, np.full(2, x.sum()))


@pytest.mark.parametrize("correlation", ["none", "outputs"])
@pytest.mark.parametrize("base", ["line", "line of the rest"])
def test_recipes_with_a_base_start_at_the_line(unit, base, correlation):
    factor = fit_factor(unit, correlation)
    k, x = unit.rows["train"].k, unit.rows["train"].x
    line = on_line(fit_base(unit, Recipe(base, correlation), factor), x)
    mean = line + (k - line @ unit.A.T) @ gain(unit.A, factor).T
    np.testing.assert_allclose(
        mean, on_line(fit_base(unit, Recipe("line", correlation), factor), x), atol=1e-9
    )


def test_every_method_that_should_obeys_the_law(unit):
    x, k = unit.rows["test"].x[0], unit.rows["test"].k[0]
    for make in METHODS.values():
        method = make(unit, Settings())
        parameters = jax.tree.map(lambda leaf: leaf[0], start(method, 1))
        mean = jax.jit(lambda p, method=method: method.mean(outputs(p, x), x, k))(parameters)
        gap = unit.A @ mean - k
        assert (np.abs(gap).max() < 1e-13) == method.obeys_law, make


def test_controls_are_not_smaller_than_ours(unit):
    counts = {n: num_parameters(make(unit, Settings())) for n, make in METHODS.items()}
    for name, count in counts.items():
        if "widened" in name:
            assert 0 <= count - counts["ours, expected loss"] < 200
    assert counts["variable elimination"] == counts["unconstrained"] - 33 * len(unit.A)


def test_seeds_side_by_side_are_seeds_alone(unit):
    settings = Settings(seeds=2, epochs=2)
    method = VariableElimination(unit)
    both = fit_mean(method, settings, lambda epochs: None)
    one = fit_mean(method, Settings(seeds=1, epochs=2), lambda epochs: None)
    for pair, single in zip(jax.tree.leaves(both), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(pair[0], single[0], atol=1e-12)
        assert (np.abs(pair[1] - single[0]) > 0).all()


def test_the_spread_leaves_the_mean_alone(unit):
    settings = Settings(seeds=1, spread_epochs=1, spread_batch_size=16)
    method = ExpectedLoss(unit, recipe=Recipe("none", "outputs", skips=True))
    before = start(method, 1)
    after = fit_spread(method, before, settings, lambda epochs: None)
    factor = after["constants"].pop("factor")[0]
    errors = unit.rows["train"].z - np.asarray(predict(method, before, unit.rows["train"]))[0]
    basis = np.linalg.svd(unit.A)[2][len(unit.A) :]
    inside = basis @ factor @ factor.T @ basis.T
    np.testing.assert_allclose(inside, basis @ errors.T @ errors @ basis.T / len(errors), rtol=1e-6)
    same = jax.tree.map(lambda one, other: bool((one == other).all()), before, after)
    assert not any(same["heads"].pop("spread")) and not same["skips"].pop("spread")
    assert all(jax.tree.leaves(same))


def test_crps_against_quadrature():
    forecast = scoring.Forecast(np.array([[0.3]]), np.array([[0.7]]), None)
    grid = np.linspace(-8, 8, 4_000_001)
    steps = (norm.cdf(grid, 0.3, 0.7) - (grid >= 1.1)) ** 2
    expected = np.trapezoid(steps, grid)
    np.testing.assert_allclose(scoring.crps(forecast, np.array([[1.1]])), expected, atol=1e-5)


def test_nll_of_a_resized_law(unit):
    method = ExpectedLoss(unit, recipe=Recipe("none", "outputs"))
    settings = Settings(seeds=1, spread_epochs=1, spread_batch_size=16)
    parameters = fit_spread(method, start(method, 1), settings, lambda epochs: None)
    splits = [scoring.moments(method, parameters, unit.rows[s])[0] for s in ("validation", "test")]
    forecast = scoring.resized(method, *splits)
    factor = splits[0].distance.mean() / 4
    x, k, z = (part[0] for part in unit.rows["test"])
    law = method.law(outputs(jax.tree.map(lambda leaf: leaf[0], parameters), x), x, k)
    scipys = multivariate_normal(law.mean, factor * law.covariance, allow_singular=True)
    np.testing.assert_allclose(forecast.nll[0], -scipys.logpdf(z), rtol=1e-6)
    np.testing.assert_allclose(forecast.scale[0] ** 2, factor * law.variance, rtol=1e-9)


def test_nll_of_a_constant_spread(unit, rng):
    method = METHODS["projection layer"](unit, Settings())
    rows = unit.rows
    noise = [rng.normal(size=rows[split].z.shape) for split in ("validation", "test")]
    inside = [part - part @ unit.A.T @ unit.A for part in noise]  # A has orthonormal rows
    means = [rows[s].z - part for s, part in zip(("validation", "test"), inside, strict=True)]
    forecast = scoring.with_constant_spread(method, *means)
    covariance = inside[0].T @ inside[0] / len(inside[0])
    law = multivariate_normal(np.zeros(5), covariance, allow_singular=True)
    np.testing.assert_allclose(forecast.nll, -law.logpdf(inside[1]), rtol=1e-6)
    figures = scoring.score(forecast, rows["test"], unit.A)
    np.testing.assert_allclose(figures["mse"], (inside[1] ** 2).mean())
    inside_90 = np.abs(inside[1]) <= norm.ppf(0.95) * np.sqrt(np.diagonal(covariance))
    assert figures["coverage 90%"] == pytest.approx(inside_90.mean())


def test_hopeless_candidates():
    runs = [("a", "cstr", 1.0), ("a", "plant", 1.0), ("b", "cstr", 1.9), ("c", "cstr", 2.1)]
    frame = pd.DataFrame(runs, columns=["candidate", "unit", "error"]).assign(choice="ours")
    assert [choices.is_hopeless(frame, "ours", name) for name in "abcd"] == [0, 0, 1, 0]
    assert not choices.is_hopeless(frame[:0], "ours", "a")


def test_short_run(tmp_path):
    arguments = ["--short", "--folder", str(tmp_path)]
    main([*arguments, "--only", "ours, expected loss"])
    frame = main([*arguments, "--only", "variable elimination"])
    assert set(frame["method"]) == {"ours, expected loss", "variable elimination"}
    assert frame["residual"].max() < 1e-14 and np.isfinite(frame["nll"]).all()
    assert (tmp_path / "chemical_units.png").stat().st_size > 10_000
    assert "4.31 ± 1.58" in (tmp_path / "chemical_units.md").read_text()
