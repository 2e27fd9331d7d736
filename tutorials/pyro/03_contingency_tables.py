"""Contingency tables with fixed margins: exact tests and odds ratios (Pyro).

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

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from pyro_constrained import ConstrainedPoisson
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


def tensor(array: object) -> Tensor:
    return torch.as_tensor(array, dtype=torch.get_default_dtype())


def independence(tables) -> ConstrainedPoisson:
    """The law of tables ``(*batch, r, c)``, cells row by row, given their margins."""
    A = margins(*tables.shape[-2:])
    return ConstrainedPoisson(tensor(independent_rates(tables)), A, flattened(tables) @ A.T)


def model(null: Tensor, observed: Tensor) -> None:
    """Log odds ratios of departments around a common mean.

    Args:
        null: ``(6, U)`` log P(x_00 = u) at odds ratio 1.
        observed: ``(6,)`` the x_00 there are.
    """
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    spread = pyro.sample("spread", dist.HalfNormal(1.0))
    with pyro.plate("departments", len(null)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        log_odds = pyro.deterministic("log_odds", mean + spread * z)
        pyro.factor("tables", noncentral_log_prob(null, log_odds, observed))


def noncentral_log_prob(null: Tensor, log_odds: Tensor, observed: Tensor) -> Tensor:
    """``(6,)`` log P(x_00 = observed) at these odds ratios: the law at 1, tilted."""
    steps = torch.arange(null.shape[-1]) - observed[:, None]
    at_observed = null.gather(-1, observed[:, None])[:, 0]
    return at_observed - torch.logsumexp(null + log_odds[:, None] * steps, -1)


def posterior(null: Tensor, settings: Settings) -> dict[str, Tensor]:
    """Draws of the log odds ratios and of their mean."""
    pyro.set_rng_seed(settings.seed)
    observed = torch.as_tensor(ADMISSIONS[:, 0, 0])
    mcmc = MCMC(NUTS(model), settings.samples, settings.warmup)
    mcmc.run(null, observed)
    draws = mcmc.get_samples()
    log_odds = draws["mean"][:, None] + draws["spread"][:, None] * draws["z"]
    return {"log_odds": log_odds, "mean": draws["mean"]}


@torch.no_grad()
def main(argv: list[str] | None = None) -> Findings:
    settings, path = parse_arguments("Pyro", argv)
    null = independence(ADMISSIONS).marginal_log_prob()[:, 0]
    with torch.enable_grad():
        draws = posterior(null, settings)

    pyro.set_rng_seed(settings.seed)
    law = independence(SATISFACTION)
    tables = law.sample((settings.draws,)).reshape(-1, *SATISFACTION.shape)
    found = Findings(
        admitted_men=null.exp().numpy(),
        log_odds=draws["log_odds"].numpy(),
        shared_log_odds=draws["mean"].numpy(),
        observed_log_prob=law.log_prob(tensor(SATISFACTION.ravel())).item(),
        tables=tables.numpy(),
        mean=law.mean.reshape(SATISFACTION.shape).numpy(),
    )
    report("Pyro", found, settings)
    save_picture(path, found, settings)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # p-values of 1e-5 to four digits
    main()
