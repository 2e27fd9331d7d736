"""Contingency tables with fixed margins: exact tests and odds ratios (NumPyro).

Fix the row and column sums of a table of counts, and under independence its cells have one law,
whatever the unknown rates: independent Poisson counts x given A x = k, where A sums rows and
columns. ``ConstrainedPoisson`` is that law for tables of any shape; with rates that are not
products of row and column effects it is the noncentral one, of tables with association.

1.  *Berkeley admissions*, six tables of 2 x 2 (Bickel, Hammel and O'Connell 1975). Are men and
    women admitted alike? ``marginal_log_prob`` gives the law of a cell, and with it Fisher's exact
    test, all departments in one batch. All departments as one table say that men are favoured.
    Given the margins of each department the number of women admitted is as expected, and the only
    department that stands out, A, favours women.
2.  *Their odds ratios.* At odds ratio exp(theta) the law of the cell x_00 is the one above times
    exp(theta x_00), normalised (Fisher's noncentral hypergeometric law). That likelihood knows no
    nuisance parameters; with a normal law of theta over departments, NUTS gives the posterior.
3.  *A 4 x 4 table* of income and job satisfaction (Agresti 2002), 96 men: too many tables to
    list, so draw some, exactly and independently, and compare p-values with SciPy's generator.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, random
from jax.nn import logsumexp
from numpyro.infer import MCMC, NUTS

from numpyro_constrained import ConstrainedPoisson
from tutorials.tables import (
    ADMISSIONS,
    SATISFACTION,
    Findings,
    Settings,
    flattened,
    independent_rates,
    margins,
    parse_arguments,
    report,
    save_picture,
)


def independence(tables: np.ndarray) -> ConstrainedPoisson:
    """The law of tables ``(*batch, r, c)``, cells row by row, given their margins."""
    A = margins(*tables.shape[-2:])
    return ConstrainedPoisson(jnp.asarray(independent_rates(tables)), A, flattened(tables) @ A.T)


def model(null: Array, observed: Array) -> None:
    """Log odds ratios of departments around a common mean.

    Args:
        null: ``(6, U)`` log P(x_00 = u) at odds ratio 1.
        observed: ``(6,)`` the x_00 there are.
    """
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    with numpyro.plate("departments", len(null)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        log_odds = numpyro.deterministic("log_odds", mean + spread * z)
        numpyro.factor("tables", noncentral_log_prob(null, log_odds, observed))


def noncentral_log_prob(null: Array, log_odds: Array, observed: Array) -> Array:
    """``(6,)`` log P(x_00 = observed) at these odds ratios: the law at 1, tilted."""
    steps = jnp.arange(null.shape[-1])[None] - observed[:, None]
    at_observed = jnp.take_along_axis(null, observed[:, None], -1)[:, 0]
    return at_observed - logsumexp(null + log_odds[:, None] * steps, -1)


def posterior(null: Array, settings: Settings) -> dict[str, Array]:
    """Draws of the log odds ratios and of their mean."""
    mcmc = MCMC(NUTS(model), num_warmup=settings.warmup, num_samples=settings.samples)
    mcmc.run(random.key(settings.seed), null, jnp.asarray(ADMISSIONS[:, 0, 0]))
    return mcmc.get_samples()


@partial(jax.jit, static_argnames="draws")
def four_by_four(key: Array, draws: int) -> tuple[Array, Array, Array]:
    """Exact draws with the margins of the large table, its log probability, and the mean."""
    law = independence(SATISFACTION)
    observed = law.log_prob(jnp.asarray(SATISFACTION.ravel()))
    return law.sample(key, (draws,)), observed, law.mean


def main(argv: list[str] | None = None) -> Findings:
    settings, path = parse_arguments("NumPyro", argv)
    null = jax.jit(lambda: independence(ADMISSIONS).marginal_log_prob()[:, 0])()
    draws = posterior(null, settings)

    tables, observed, mean = four_by_four(random.key(settings.seed), settings.draws)
    found = Findings(
        admitted_men=np.exp(np.asarray(null)),
        log_odds=np.asarray(draws["log_odds"]),
        shared_log_odds=np.asarray(draws["mean"]),
        observed_log_prob=observed.item(),
        tables=np.asarray(tables).reshape(-1, *SATISFACTION.shape),
        mean=np.asarray(mean).reshape(SATISFACTION.shape),
    )
    report("NumPyro", found, settings)
    save_picture(path, found, settings)
    return found


if __name__ == "__main__":
    numpyro.enable_x64()  # p-values of 1e-5 to four digits
    main()
