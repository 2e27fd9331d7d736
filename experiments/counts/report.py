"""The table of the photon counts."""

from pathlib import Path

import pandas as pd

from experiments.counts.comparison import METHODS, REAL
from experiments.counts.settings import Settings
from experiments.record import mean_and_spread, write_table
from experiments.show import print_table

LINE = ["set", "law", "method"]
SETS, LAWS = Settings().sets, Settings().laws
FORMS = {
    "log_likelihood": ".2f",
    "elbo": ".2f",
    "error": ".3f",
    "error_of_rate": ".3f",
    "fid": ".2f",
    "agreement": ".3f",
    "agreement_of_copies": ".3f",
    "reader_loss": ".3f",
    "precision": ".2f",
    "recall": ".2f",
    "density": ".2f",
    "coverage": ".2f",
    "time": ".2f",
    "seconds": ".1f",
    "effective": ".2f",
    "doubling": ".3f",
}
HEADINGS = {
    "log_likelihood": "log-likelihood",
    "elbo": "ELBO",
    "error": "error of mean",
    "error_of_rate": "error of mean, no noise",
    "fid": "FID",
    "agreement": "class",
    "agreement_of_copies": "class, copies",
    "reader_loss": "reader's loss",
    "violation": "sums missed by",
    "time": "time",
    "seconds": "seconds",
    "effective": "effective draws of the sums",
    "doubling": "gained by doubling them",
}
LEAST_DRAWS = 20
"""Codes of the prior that have to carry a mean: the logarithm of one by fewer is far too low."""

ON_SCREEN = ["log-likelihood", "sums missed by", "FID", "class", "class, copies", "reader's loss"]

NOTE = """\
{seeds} seeds (± is the standard deviation over them), {steps} steps of {batch_size} images. Counts
x ~ Poisson({exposure:g} times brightness); sums of blocks, or of the whole image, are told to
encoder and decoder of every method. Log-likelihood: nats per held-out image ({num_scored} at most),
of the counts given their sums, {encoder_draws} codes of the encoder; a probability mass on the same
fiber for all, P(A x = k) by {prior_draws} codes of the prior. ELBO: the same with the mean of the
logarithms over codes of the encoder. Both are left out where fewer than {least_draws} of the codes
of the prior carry P(A x = k). Error of mean: root mean square in photons, of the law's mean
at the mean code against the counts, and against the rates that they were drawn with (no noise).
FID, class (the critic finds the class of the image whose sums were given), precision, recall,
density and coverage: of counts drawn with codes of the prior, over the exposure. Copies: codes of
the encoder; the reader's loss is that of copies. Sums missed by: the most of all draws, in photons.
Time: processor time of a step over that of the unconstrained; seconds are of 1,000 steps."""


def results_table(frame: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """A line for each set, law and method, in the order of the settings."""
    frame = _without_guesses(frame, settings).assign(
        time=frame["seconds"] / _of_unconstrained(frame)
    )
    frame = frame.reindex(columns=[*frame.columns, *(set(FORMS) - set(frame.columns))])
    order = {name: place for place, name in enumerate([*SETS, *LAWS, REAL, *METHODS])}
    frame = frame.sort_values([*LINE, "seed"], key=lambda part: part.map(lambda v: order.get(v, v)))
    table = mean_and_spread(frame, LINE, FORMS)
    runs = frame.groupby(LINE, sort=False)
    table.insert(4, "violation", runs["violation"].max().map("{:.0f}".format))
    table.insert(0, "seeds", runs.size())
    return table.rename(columns=HEADINGS).reset_index(["law", "method"])


def _without_guesses(frame: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """No masses where too few codes of the prior carry the probability of the sums."""
    carried = settings.prior_draws * frame.groupby(LINE)["effective"].transform("mean")
    masses = ["log_likelihood", "elbo"]
    return frame.assign(**frame[masses].mask(carried < LEAST_DRAWS))


def _of_unconstrained(frame: pd.DataFrame) -> pd.Series:
    """``seconds`` of the unconstrained run of the same set, law and seed."""
    case = ["set", "law", "seed"]
    plain = frame[frame["method"] == "unconstrained"].set_index(case)["seconds"]
    return pd.Series(frame.set_index(case).index.map(plain), frame.index, dtype=float)


def write_report(folder: Path, name: str, settings: Settings, frame: pd.DataFrame) -> None:
    """Markdown, and the table on the screen."""
    table = results_table(frame, settings)
    note = NOTE.format(**vars(settings), least_draws=LEAST_DRAWS)
    write_table(folder / f"{name}.md", "Photon counts", note, table)
    print_table("Photon counts", table.set_index(["law", "method"], append=True)[ON_SCREEN])
