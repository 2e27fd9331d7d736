"""How far the draws of chains can be trusted: effective sample size and R-hat, by ArviZ."""

import warnings
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from constrained_core.errors import FiberSamplerWarning

__all__ = ["Diagnostics", "diagnose"]

LARGEST_R_HAT = 1.01
LEAST_ESS = 100
"""For each chain (Vehtari, Gelman, Simpson, Carpenter, Buerkner 2021)."""


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Rank-normalised diagnostics of every variable; NaN for those that cannot change.

    Attributes:
        ess: ``(n,)`` effective number of draws (bulk).
        r_hat: ``(n,)`` 1 where all chains agree.
        is_good: all R-hat at most 1.01, all effective numbers at least 100 per chain.
    """

    ess: np.ndarray
    r_hat: np.ndarray
    is_good: bool


def diagnose(draws: np.ndarray, active: np.ndarray) -> Diagnostics:
    """ESS and R-hat of draws, with a warning where they are poor.

    Args:
        draws: ``(chains, draws, n)``.
        active: ``(p,)`` the variables that can change.

    Raises:
        ImportError: ArviZ is not installed.
    """
    arviz = _arviz()
    num_chains, _, n = draws.shape
    ess, r_hat = np.full(n, np.nan), np.full(n, np.nan)
    for variable in active:
        chains = draws[:, :, variable].astype(np.float64)
        ess[variable] = arviz.ess(chains)
        # R-hat compares chains; one alone is compared with itself, half against half.
        halves = (
            chains
            if num_chains > 1
            else chains.reshape(2, -1)
            if chains.size % 2 == 0
            else (chains[:, 1:].reshape(2, -1))
        )
        r_hat[variable] = arviz.rhat(halves)
    poor = (r_hat[active] > LARGEST_R_HAT) | ~(ess[active] >= LEAST_ESS * num_chains)
    if poor.any():
        worst = active[np.nanargmax(np.where(np.isnan(r_hat[active]), np.inf, r_hat[active]))]
        warnings.warn(
            f"{int(poor.sum())} of {len(active)} variables have not mixed: expected R-hat of at "
            f"most {LARGEST_R_HAT} and {LEAST_ESS * num_chains} effective draws, got up to "
            f"{r_hat[worst]:.3f} (variable {worst}) and {np.nanmin(ess[active]):.0f}; draw more, "
            "with larger thinning and warmup, or give moves that fit the fibre.",
            FiberSamplerWarning,
            stacklevel=3,
        )
    return Diagnostics(ess, r_hat, not poor.any())


def _arviz():
    try:
        return import_module("arviz")
    except ImportError as error:
        raise ImportError(
            "diagnostics of FiberSampler need ArviZ, which is not installed; install the extra "
            "`diagnostics` of this package, or pip install arviz."
        ) from error
