"""How far the draws of chains can be trusted: effective sample size and R-hat, by ArviZ."""

import warnings
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from scipy.special import chdtri

from constrained_core.errors import FiberSamplerWarning

__all__ = ["Diagnostics", "diagnose", "largest_r_hat"]

LARGEST_R_HAT = 1.01
LEAST_ESS = 100
"""For each chain (Vehtari, Gelman, Simpson, Carpenter, Buerkner 2021)."""

FALSE_ALARMS = 0.01
"""Probability that R-hat of any variable of chains that have mixed is called too large."""


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Rank-normalised diagnostics of every variable; NaN for those that are the same in all draws.

    Attributes:
        ess: ``(n,)`` effective number of draws (bulk).
        r_hat: ``(n,)`` 1 where all chains agree.
        is_good: no R-hat larger than chance explains and 1.01, all effective numbers at least 100
            per chain.
    """

    ess: np.ndarray
    r_hat: np.ndarray
    is_good: bool


def largest_r_hat(ess: np.ndarray, num_variables: int, num_chains: int) -> np.ndarray:
    """What R-hat may be of variables with so many effective draws: 1.01, or more by chance.

    The variance between M half chains that have mixed, in units of that within, is about
    chi-square with M - 1 degrees of freedom: R-hat^2 = 1 + M chi^2 / ((M - 1) ESS) (as in Vats and
    Knudson 2021, *Revisiting the Gelman-Rubin diagnostic*). Two such figures, for location and
    spread, are looked at of every variable: the limit is passed by any of them with a probability
    of one in a hundred, whatever their number.
    """
    halves = 2 * max(num_chains, 2)
    quantile = chdtri(halves - 1, FALSE_ALARMS / (2 * max(num_variables, 1)))
    effective = np.fmax(ess, LEAST_ESS * num_chains)
    by_chance = np.sqrt(1 + halves * quantile / ((halves - 1) * effective))
    return np.maximum(by_chance, LARGEST_R_HAT)


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
    changing = active[np.ptp(draws[..., active], axis=(0, 1)) > 0]
    for variable in changing:
        chains = draws[:, :, variable].astype(np.float64)
        ess[variable], r_hat[variable] = _ess(arviz, chains), _r_hat(arviz, _compared(chains))
    limit = largest_r_hat(ess[changing], len(changing), num_chains)
    poor = (r_hat[changing] > limit) | ~(ess[changing] >= LEAST_ESS * num_chains)
    if poor.any():
        excess = np.where(poor, r_hat[changing], 0.0)
        worst = changing[np.argmax(excess)]
        warnings.warn(
            f"{int(poor.sum())} of {len(changing)} variables have not mixed: expected R-hat of at "
            f"most {limit[np.argmax(excess)]:.3f} and {LEAST_ESS * num_chains} effective draws, "
            f"got up to {r_hat[worst]:.3f} (variable {worst}) and {np.nanmin(ess[changing]):.0f}; "
            "draw more, with larger thinning and warmup, or give moves that fit the fiber.",
            FiberSamplerWarning,
            stacklevel=3,
        )
    return Diagnostics(ess, r_hat, not poor.any())


def _compared(chains: np.ndarray) -> np.ndarray:
    """R-hat compares chains; one alone is compared with itself, half against half."""
    if len(chains) > 1:
        return chains
    return chains[:, chains.size % 2 :].reshape(2, -1)


def _r_hat(arviz, chains: np.ndarray) -> float:
    """Infinite where no half of a chain changes, though they differ."""
    half = chains.shape[1] // 2
    halves = chains[:, : 2 * half].reshape(-1, half) if half else chains
    if not np.ptp(halves, axis=1).any():
        return np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(arviz.rhat(chains))


def _ess(arviz, chains: np.ndarray) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(arviz.ess(chains))
    return found if np.isfinite(found) else float(len(chains))


def _arviz():
    try:
        return import_module("arviz")
    except ImportError as error:
        raise ImportError(
            "diagnostics of FiberSampler need ArviZ, which is not installed; install the extra "
            "`diagnostics` of this package, or pip install arviz."
        ) from error
