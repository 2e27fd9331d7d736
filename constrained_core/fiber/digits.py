"""How Poisson counts are to be scored, so that digits are kept: by w^x / x!, whose terms are of
size x log x, or by masses without such terms."""

__all__ = ["averages_keep_digits", "scores_keep_digits"]

FEW = 16
"""Counts whose terms are small."""


def scores_keep_digits(largest: int, eps: float) -> bool:
    """Whether log probabilities of counts up to ``largest`` by w^x / x! have the digits that are
    promised: 1e-10 in double precision, 1e-4 in single."""
    tolerance = 1e-10 if eps < 1e-12 else 1e-4
    return largest <= 2 * tolerance / eps


def averages_keep_digits(largest: int) -> bool:
    """The same of averages over them, in which rounding errors of probabilities meet such terms."""
    return largest <= FEW
