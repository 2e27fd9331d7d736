"""Fields whose precisions have zero eigenvalues, which rounding makes negative."""

import numpy as np

from constrained_core import fields

INTRINSIC_FIELDS = {
    "walk": fields.random_walk(12, 2),
    "long walk": fields.random_walk(50, 2),
    "third order": fields.random_walk(20, 3),
    "lattice": fields.lattice((6, 7)),
    "islands": fields.besag(np.array([[0, 1], [1, 2], [3, 4]])),
    "walks": fields.kronecker(fields.random_walk(8, 2), fields.random_walk(5, 1)),
    "lattice in time": fields.kronecker(fields.lattice((4, 4)), fields.random_walk(6, 1)),
}
SINGULAR = ("walk", "walks", "lattice in time")
"""Of each kind one that failed."""
