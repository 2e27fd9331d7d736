"""The methods that are compared: a training, and what the decoder's rates then mean."""

from typing import NamedTuple

from experiments.counts.laws import Constrained, Free, Law, Rescaled, Rounded

__all__ = ["METHODS", "REAL", "Method"]

REAL = "real counts"
"""Held-out counts judged as if drawn, their distance that to counts of the training part."""


class Method(NamedTuple):
    """A line of the table.

    Attributes:
        training: a key of ``TRAININGS``; methods with the same one share their networks.
        law: of the counts given the rates, when draws are made and scored.
    """

    training: str
    law: type[Law]


METHODS = {
    "unconstrained": Method("unconstrained", Free),
    "unconstrained, not scaled": Method("unconstrained, not scaled", Free),
    "rescaled afterwards": Method("unconstrained", Rescaled),
    "rescaled and rounded afterwards": Method("unconstrained", Rounded),
    "ours, put in afterwards": Method("unconstrained", Constrained),
    "soft penalty": Method("soft penalty", Free),
    # Its likelihood is ours up to a constant, P(A x = k), so that it is trained by ours.
    "rates rescaled by a layer": Method("ours", Rescaled),
    "ours": Method("ours", Constrained),
    "straight-through, with reader": Method("straight-through, reader", Free),
    "ours, score function, with reader": Method("score function, reader", Constrained),
    "ours, marginal expectation, with reader": Method("marginal expectation, reader", Constrained),
}
