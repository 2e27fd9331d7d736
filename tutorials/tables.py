"""What both contingency-table tutorials share and no framework is needed for: counts, SciPy."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy import stats
from scipy.special import gammaln
from scipy.stats.contingency import odds_ratio

from constrained_core import count_fiber, plan_fiber

DEPARTMENTS = "ABCDEF"
ADMISSIONS = np.array(
    [
        [[512, 313], [89, 19]],
        [[353, 207], [17, 8]],
        [[120, 205], [202, 391]],
        [[138, 279], [131, 244]],
        [[53, 138], [94, 299]],
        [[22, 351], [24, 317]],
    ]
)
"""Applicants to six departments of the University of California at Berkeley in 1973, department x
(men, women) x (admitted, rejected): Bickel, Hammel and O'Connell (1975), Science 187."""

SATISFACTION = np.array([[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]])
"""Income (four brackets, rising) x satisfaction with the job (four grades, rising) of 96 men in the
General Social Survey: Agresti (2002), Categorical Data Analysis, table 2.8."""

FOOTNOTES = """\
Odds ratio: odds of admission of men over those of women, so below 1 where women did better.
p: two-sided exact test of independence given all margins; ours sums the law of the table, SciPy's
  is `fisher_exact`. Conditional: estimate and 95% confidence interval of SciPy's `odds_ratio`.
Posterior: median and 95% interval; departments share a mean and a spread, hence the shrinkage."""


@dataclass(frozen=True)
class Settings:
    """How many tables and how many odds ratios to draw."""

    draws: int = 20_000
    warmup: int = 150
    samples: int = 500
    seed: int = 0

    def shortened(self) -> "Settings":
        """A few seconds, for the tests."""
        return replace(self, draws=500, warmup=20, samples=20)


@dataclass(frozen=True)
class Findings:
    """What a backend found.

    Attributes:
        admitted_men: ``(6, U)`` P(x_00 = u) in each department under independence.
        log_odds: ``(samples, 6)`` posterior draws of log odds ratios.
        shared_log_odds: ``(samples,)`` those of their mean.
        observed_log_prob: log probability of ``SATISFACTION`` given its margins.
        tables: ``(draws, 4, 4)`` exact draws with its margins.
        mean: ``(4, 4)`` exact mean of such tables.
    """

    admitted_men: np.ndarray
    log_odds: np.ndarray
    shared_log_odds: np.ndarray
    observed_log_prob: float
    tables: np.ndarray
    mean: np.ndarray


def margins(num_rows: int, num_columns: int) -> np.ndarray:
    """A that gives the row sums, then the column sums, of a table read row by row."""
    rows = np.kron(np.eye(num_rows, dtype=int), np.ones(num_columns, dtype=int))
    columns = np.kron(np.ones(num_rows, dtype=int), np.eye(num_columns, dtype=int))
    return np.vstack([rows, columns])


def flattened(tables: np.ndarray) -> np.ndarray:
    """Cells ``(*batch, r c)`` of tables ``(*batch, r, c)``."""
    return tables.reshape(*tables.shape[:-2], -1)


def independent_rates(tables: np.ndarray) -> np.ndarray:
    """``(*batch, r c)`` row total x column total / total.

    Given the margins, all rates of the form a_i b_j have the same law; these keep sums near 1.
    """
    rows, columns = tables.sum(-1, keepdims=True), tables.sum(-2, keepdims=True)
    return flattened(rows * columns / tables.sum((-2, -1), keepdims=True))


def two_sided(probabilities: np.ndarray, observed: int) -> float:
    """Total probability of all values no likelier than the observed one."""
    return probabilities[probabilities <= probabilities[observed] * (1 + 1e-7)].sum()


def chi_square(tables: np.ndarray) -> np.ndarray:
    """Pearson's statistic of tables with the margins of ``SATISFACTION``."""
    expected = independent_rates(SATISFACTION).reshape(SATISFACTION.shape)
    return ((tables - expected) ** 2 / expected).sum((-2, -1))


def rarity(tables: np.ndarray) -> np.ndarray:
    """Minus the log probability given the margins, up to a constant (Freeman and Halton 1951)."""
    return gammaln(tables + 1.0).sum((-2, -1))


def tail(statistic: np.ndarray, observed: float) -> tuple[float, float]:
    """Share of draws at least as extreme as the observed one, and its standard error."""
    share = (statistic >= observed - 1e-9).mean()
    return share, np.sqrt(share * (1 - share) / len(statistic))


def scipy_tables(settings: Settings) -> np.ndarray:
    """SciPy's draws with the margins of ``SATISFACTION``."""
    law = stats.random_table(SATISFACTION.sum(1), SATISFACTION.sum(0))
    return law.rvs(settings.draws, random_state=settings.seed)


def women_admitted(admitted_men: np.ndarray) -> np.ndarray:
    """P(t women are admitted in all departments together), t = 0, 1, ..., under independence."""
    law = np.ones(1)
    for table, men in zip(ADMISSIONS, admitted_men, strict=True):
        admitted = table[:, 0].sum()
        men = np.pad(men, (0, max(0, admitted + 1 - len(men))))
        law = np.convolve(law, men[: admitted + 1][::-1])
    return law


def parse_arguments(backend: str, argv: list[str] | None) -> tuple[Settings, Path]:
    """Settings and where the picture goes, from the command line."""
    parser = argparse.ArgumentParser(description=f"Tables with fixed margins, in {backend}.")
    parser.add_argument("--short", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--picture", type=Path, default=Path("outputs") / f"tables_{backend.lower()}.png"
    )
    arguments = parser.parse_args(argv)
    settings = Settings(seed=arguments.seed)
    return settings.shortened() if arguments.short else settings, arguments.picture


def report(backend: str, found: Findings, settings: Settings) -> None:
    """All tables."""
    console = Console()
    console.print(_department_table(backend, found))
    console.print(FOOTNOTES, highlight=False, soft_wrap=True)
    console.print(_paradox(found), highlight=False, soft_wrap=True)
    console.print(_test_table(backend, found, settings))
    console.print(_exact_facts(found), highlight=False, soft_wrap=True)
    console.print(_drawn_tables(found))


def _department_table(backend: str, found: Findings) -> Table:
    table = Table(title=f"Admission of men and women, 1973 ({backend})")
    table.add_column("department")
    for heading in ("p, ours", "p, SciPy", "conditional", "posterior"):
        table.add_column(heading, justify="right")
    for name, counts, law, draws in zip(
        DEPARTMENTS, ADMISSIONS, found.admitted_men, found.log_odds.T, strict=True
    ):
        exact = two_sided(law, counts[0, 0])
        table.add_row(
            name,
            f"{exact:.4g}",
            f"{stats.fisher_exact(counts).pvalue:.4g}",
            _interval(*_conditional(counts)),
            _interval(*np.exp(np.quantile(draws, [0.5, 0.025, 0.975]))),
        )
    table.add_section()
    shared = np.exp(np.quantile(found.shared_log_odds, [0.5, 0.025, 0.975]))
    pooled = ADMISSIONS.sum(0)
    table.add_row("their mean", "", "", "", _interval(*shared))
    pooled_p = f"{stats.fisher_exact(pooled).pvalue:.4g}"
    table.add_row("all as one", "", pooled_p, _interval(*_conditional(pooled)), "")
    return table


def _conditional(counts: np.ndarray) -> tuple[float, float, float]:
    result = odds_ratio(counts, kind="conditional")
    return result.statistic, *result.confidence_interval(0.95)


def _interval(middle: float, low: float, high: float) -> str:
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _paradox(found: Findings) -> str:
    law = women_admitted(found.admitted_men)
    observed = ADMISSIONS[:, 1, 0].sum()
    expected = law @ np.arange(len(law))
    naive = ADMISSIONS[:, 1].sum() * ADMISSIONS[..., 0].sum() / ADMISSIONS.sum()
    return (
        f"Women admitted: {observed}. Expected under independence: {naive:.0f} with all departments"
        f" as one table,\n  {expected:.1f} given the margins of each department; the exact "
        f"two-sided p of the latter is {two_sided(law, observed):.4f}."
    )


def _test_table(backend: str, found: Findings, settings: Settings) -> Table:
    table = Table(title=f"Income and satisfaction, 4 x 4: p of independence ({backend})")
    table.add_column("statistic")
    for heading in ("our draws", "SciPy's draws", "approximation"):
        table.add_column(heading, justify="right")
    theirs = scipy_tables(settings)
    approximate = {"chi-square": f"{stats.chi2_contingency(SATISFACTION).pvalue:.4f}"}
    for name, statistic in {"probability": rarity, "chi-square": chi_square}.items():
        pairs = [
            tail(statistic(drawn), statistic(SATISFACTION)) for drawn in (found.tables, theirs)
        ]
        shares = [f"{share:.4f} ± {error:.4f}" for share, error in pairs]
        table.add_row(name, *shares, approximate.get(name, "-"))
    return table


def _exact_facts(found: Findings) -> str:
    k = margins(*SATISFACTION.shape) @ SATISFACTION.ravel()
    count = count_fiber(plan_fiber(margins(*SATISFACTION.shape), k, merge=True), k)
    theirs = stats.random_table.logpmf(SATISFACTION, SATISFACTION.sum(1), SATISFACTION.sum(0))
    gap = np.abs(flattened(found.mean) - independent_rates(SATISFACTION)).max()
    return (
        f"Tables with these margins: {count:,}. Log probability of the observed one: ours "
        f"{found.observed_log_prob:.6f},\n  SciPy's {theirs:.6f}. Largest difference between our "
        f"exact means and row total x column total / total: {gap:.0e}."
    )


def _drawn_tables(found: Findings) -> Table:
    table = Table(title="The observed table and three exact draws with its margins")
    for heading in ("observed", "draw 1", "draw 2", "draw 3"):
        table.add_column(heading, justify="center")
    for row in zip(SATISFACTION, *found.tables[:3].astype(int), strict=True):
        table.add_row(*(" ".join(f"{count:2d}" for count in cells) for cells in row))
    return table


def save_picture(path: Path, found: Findings, settings: Settings) -> None:
    """Odds ratios by department, and Pearson's statistic over all draws."""
    figure = Figure(figsize=(11, 4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_odds(left, found)
    _draw_statistic(right, found, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    Console().print(f"picture: {path}", highlight=False, soft_wrap=True)


def _draw_odds(axis, found: Findings) -> None:
    conditional = np.array([_conditional(counts) for counts in ADMISSIONS])
    posterior = np.exp(np.quantile(found.log_odds, [0.5, 0.025, 0.975], axis=0)).T
    for shift, label, rows in (
        (0.12, "conditional estimate, 95%", conditional),
        (-0.12, "posterior, 95%", posterior),
    ):
        errors = np.abs(rows[:, 1:] - rows[:, :1]).T
        height = np.arange(len(DEPARTMENTS)) + shift
        axis.errorbar(rows[:, 0], height, xerr=errors, fmt="o", ms=4, label=label)
    axis.axvline(1.0, color="grey", lw=0.8)
    axis.set(xscale="log", xlabel="odds of men / odds of women", ylabel="department")
    axis.set_xticks([0.2, 0.5, 1.0, 2.0], ["0.2", "0.5", "1", "2"])
    axis.set_xticks([], minor=True)
    axis.set_yticks(range(len(DEPARTMENTS)), list(DEPARTMENTS))
    axis.invert_yaxis()
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _draw_statistic(axis, found: Findings, settings: Settings) -> None:
    bins = np.linspace(0, 30, 61)
    shared = {"bins": bins, "density": True, "histtype": "step"}
    axis.hist(chi_square(found.tables), label="our exact draws", **shared)
    axis.hist(chi_square(scipy_tables(settings)), label="SciPy's draws", ls=":", **shared)
    freedom = (SATISFACTION.shape[0] - 1) * (SATISFACTION.shape[1] - 1)
    axis.plot(bins, stats.chi2(freedom).pdf(bins), color="grey", lw=0.8, label="chi-square law")
    axis.axvline(chi_square(SATISFACTION), color="k", lw=1, label="observed")
    axis.set(xlabel="Pearson's statistic of the 4 x 4 table")
    axis.legend(fontsize=8)
