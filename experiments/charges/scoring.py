"""Scores of one method on the test crystals of one reshuffle."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import norm, t
from torch import Tensor

from experiments.charges.batches import Batch
from experiments.charges.laws import CrystalLaw
from experiments.charges.methods import Guess, LawOf, Method, unbound
from experiments.charges.network import ChargeNetwork
from experiments.charges.training import guess_of

__all__ = ["LEVELS", "View", "score", "view"]

LEVELS = tuple(range(10, 100, 10))
"""Central intervals whose coverage is counted, in percent."""

RIDGE = 1e-4
"""Weight of the squared coefficients of the scales beside the likelihood of an atom."""

LOG_SCALES = (-12.0, 3.0)
LOG_DFS = (-2.0, 7.0)
"""What can be fitted, so that few data do no harm."""

SMALLEST_WITHIN = 1e-3
"""Of the scale within a class, in e. Atoms of half of the classes have equal charges to the last
digit of the file, so that the density would have no bound."""

Outcome = dict[str, float]


@dataclass(frozen=True, eq=False)
class View:
    """What a trained network says of the validation or of the test crystals.

    Attributes:
        features: ``(m, p)`` float64 what its scales are linear in, per class.
        of_atom: ``(a,)`` class of every atom.
    """

    guess: Guess
    features: Tensor
    of_atom: Tensor


@torch.no_grad()
def view(network: ChargeNetwork, batch: Batch) -> View:
    """What the network says of a batch."""
    return View(guess_of(network, batch), network.features(batch).double(), batch.of_atom)


def score(method: Method, validation: Sequence[View], test: Sequence[View]) -> Outcome:
    """Figures of single networks (their mean) and of the ensemble, of two laws.

    The "trained" law has the scales that came out of training, where it says anything of them. In
    the "fitted" one they are fitted afterwards, on the validation crystals with the predictions
    held fast: a log-linear function of the network's last features.

    Args:
        method: what it makes of locations and scales.
        validation, test: what each member says of either part.
    """
    pairs = list(zip(validation, test, strict=True))
    if method.starts_with_fit:
        pairs = [_fitted(pair, unbound, unbound) for pair in pairs]
    fitted = [_fitted(pair, method.law, method.fitted_law) for pair in pairs]
    together = _ensemble(fitted, method.fitted_law)
    outcome = {
        **_named("fitted", method.fitted_law, [one.guess for _, one in fitted]),
        **_named("fitted_ensemble", method.fitted_law, [together.guess]),
    }
    if method.has_trained_scale:
        guesses = [one.guess for _, one in pairs]
        outcome |= _named("trained", method.law, guesses)
        outcome |= _named("trained_ensemble", method.law, [_averaged(guesses)])
    return outcome


def _named(prefix: str, law: LawOf, guesses: Sequence[Guess]) -> Outcome:
    """The means of the figures of some guesses, with a prefix to their names."""
    figures = [_figures(law(guess), guess.charge) for guess in guesses]
    return {f"{prefix}_{name}": float(np.mean([f[name] for f in figures])) for name in figures[0]}


def _figures(law: CrystalLaw, charge: Tensor) -> Outcome:
    """Error, negative log density per crystal, coverage, and how far predictions miss the law."""
    mean = law.mean
    ratio = ((charge - mean) / law.spread).numpy()
    df = float(law.marginal_df)
    rank = norm.cdf(ratio) if math.isinf(df) else t.cdf(ratio, df)
    return {
        "mad": float((mean - charge).abs().mean()),
        "nll": -float(law.log_prob(charge)) / len(law.sums.num_atoms),
        "residual": float(law.sums(mean).abs().max()),
        **{f"covered_{x}": float(np.mean(np.abs(2 * rank - 1) < x / 100)) for x in LEVELS},
    }


def _fitted(pair: tuple[View, View], point: LawOf, law: LawOf) -> tuple[View, View]:
    """Predictions of one law, with the scales of another fitted around them.

    Args:
        pair: what a network says of the validation and of the test crystals.
        point: law whose mean is the prediction.
        law: law that is fitted.
    """
    validation, test = pair
    centre = validation.features.mean(0)
    unit = validation.features.std(0).clamp(min=1e-6)
    inputs = [(each.features - centre) / unit for each in pair]
    guess = validation.guess
    loc = point(guess).mean
    weight = torch.zeros(inputs[0].shape[1], 2, dtype=torch.float64, requires_grad=True)
    error = float((loc - guess.charge).square().mean().sqrt())
    bias = torch.tensor([error, 0.1 * error], dtype=torch.float64).log().requires_grad_()
    log_df = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def scaled(each: View, loc: Tensor, features: Tensor) -> Guess:
        scales = (features @ weight + bias).clamp(*LOG_SCALES).exp()
        scale, within = scales.index_select(0, each.of_atom).unbind(-1)
        df, within = log_df.clamp(*LOG_DFS).exp(), within + SMALLEST_WITHIN
        return replace(each.guess, loc=loc, scale=scale, within=within, df=df)

    def loss() -> Tensor:
        density = law(scaled(validation, loc, inputs[0])).log_prob(guess.charge)
        return RIDGE * weight.square().sum() - density / len(guess.charge)

    _minimise(loss, [weight, bias, log_df])
    with torch.no_grad():
        locations = loc, point(test.guess).mean
        return tuple(
            replace(each, guess=scaled(each, loc, features))
            for each, loc, features in zip(pair, locations, inputs, strict=True)
        )


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)


def _averaged(guesses: Sequence[Guess]) -> Guess:
    """The mean of the members' locations, scales and degrees of freedom."""
    means = {
        name: torch.stack([getattr(each, name) for each in guesses]).mean(0)
        for name in ("loc", "scale", "within", "df")
    }
    return replace(guesses[0], **means)


def _ensemble(fitted: Sequence[tuple[View, View]], law: LawOf) -> View:
    """Averaged members; their mean scales are fitted once more, by powers of them."""
    both = [_averaged([each.guess for each in views]) for views in zip(*fitted, strict=True)]
    views = [
        View(g, torch.stack([g.scale, g.within], -1).log(), torch.arange(len(g.scale)))
        for g in both
    ]
    return _fitted((views[0], views[1]), law, law)[1]
