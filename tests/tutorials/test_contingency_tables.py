"""The tutorial on tables runs, and agrees with SciPy."""

import importlib

import numpy as np
import pytest
from scipy import stats

from tests.chance import assert_likely
from tutorials.tables import (
    ADMISSIONS,
    SATISFACTION,
    Settings,
    chi_square,
    margins,
    rarity,
    scipy_tables,
    tail,
    two_sided,
    women_admitted,
)


class PyroStory:
    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.module = importlib.import_module("tutorials.pyro.03_contingency_tables")

    def as_array(self, values):
        return self.torch.as_tensor(values)


class NumPyroStory:
    def __init__(self):
        self.jax = pytest.importorskip("jax")
        self.module = importlib.import_module("tutorials.numpyro.03_contingency_tables")

    def as_array(self, values):
        return self.jax.numpy.asarray(values)


each_story = pytest.mark.parametrize("story_class", [PyroStory, NumPyroStory])
pytestmark = pytest.mark.rank_promotion("allow")


def hypergeometric(table: np.ndarray) -> stats.rv_discrete:
    return stats.hypergeom(table.sum(), table[0].sum(), table[:, 0].sum())


def same_tails(ours: np.ndarray, theirs: np.ndarray, observed: float) -> float:
    """P-value of the same share of draws beyond what was observed, by Fisher's exact test."""
    beyond = np.array([tail(draws, observed)[0] * len(draws) for draws in (ours, theirs)])
    counts = np.stack([beyond, [len(ours), len(theirs)] - beyond])
    return stats.fisher_exact(counts.round().astype(int)).pvalue


@each_story
def test_short_mode_agrees_with_scipy(story_class, tmp_path):
    story, picture = story_class(), tmp_path / "tables.png"
    found = story.module.main(["--short", "--picture", str(picture)])

    for table, law in zip(ADMISSIONS, found.admitted_men, strict=True):
        np.testing.assert_allclose(law, hypergeometric(table).pmf(np.arange(len(law))), atol=1e-10)
        expected = stats.fisher_exact(table).pvalue
        assert two_sided(law, table[0, 0]) == pytest.approx(expected, rel=1e-9)

    rows, columns = SATISFACTION.sum(1), SATISFACTION.sum(0)
    expected = stats.random_table.logpmf(SATISFACTION, rows, columns)
    assert found.observed_log_prob == pytest.approx(expected, abs=1e-10)
    np.testing.assert_array_equal(found.tables.sum(-1), np.tile(rows, (500, 1)))
    np.testing.assert_array_equal(found.tables.sum(-2), np.tile(columns, (500, 1)))
    both = found.tables, scipy_tables(Settings(draws=5000))
    p_values = [same_tails(*map(f, both), f(SATISFACTION)) for f in (rarity, chi_square)]
    assert_likely(p_values)
    assert picture.stat().st_size > 10_000


@each_story
def test_tilted_law_is_the_noncentral_one(story_class):
    story = story_class()
    module, table = story.module, np.array([[5, 2], [3, 6]])
    u = np.arange(9)
    null = story.as_array(hypergeometric(table).logpmf(u))[None]
    log_odds = story.as_array(np.array([0.7]))
    found = module.noncentral_log_prob(null, log_odds, story.as_array(np.array([5])))
    law = stats.nchypergeom_fisher(16, 7, 8, np.exp(0.7))
    np.testing.assert_allclose(np.asarray(found), law.logpmf(5), rtol=1e-10)


def test_law_of_a_sum_over_departments(rng):
    pmfs = [hypergeometric(table).pmf(np.arange(602)) for table in ADMISSIONS]
    law = women_admitted(np.array(pmfs))
    women = [table[:, 0].sum() - hypergeometric(table).mean() for table in ADMISSIONS]
    spread = [hypergeometric(table).var() for table in ADMISSIONS]
    mean = law @ np.arange(len(law))
    assert law.sum() == pytest.approx(1.0)
    assert mean == pytest.approx(sum(women))
    assert law @ (np.arange(len(law)) - mean) ** 2 == pytest.approx(sum(spread))


def test_margins():
    sums = margins(2, 3) @ np.arange(6)
    np.testing.assert_array_equal(sums, [3, 12, 3, 5, 7])
