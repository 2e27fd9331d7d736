"""Cases of discrete laws: parameters and integer constraints as NumPy data."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from scipy import special

from tests.cases import AnyCase, Groups
from tests.discrete_oracles import DiscreteProblem

POISSON, BERNOULLI = "ConstrainedPoisson", "ConstrainedBernoulli"
CATEGORICAL = "ConstrainedCategorical"
FAMILY = {POISSON: "poisson", BERNOULLI: "bernoulli", CATEGORICAL: "categorical"}


class DiscreteCase(AnyCase):
    """Of a law of whole numbers."""

    number = int

    @property
    def family(self) -> str:
        return FAMILY[self.law]

    @property
    def event_dims(self) -> int:
        """Of the parameter."""
        return 1 + (self.law == CATEGORICAL)

    @cached_property
    def natural(self) -> np.ndarray:
        """The parameter as the oracle takes it: rates or probabilities."""
        (name, value), *_ = self.params.items()
        if name != "logits":
            return value
        return special.expit(value) if self.law == BERNOULLI else special.softmax(value, axis=-1)

    @property
    def n(self) -> int:
        return self.natural.shape[-self.event_dims]

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        own = self.natural.shape[: self.natural.ndim - self.event_dims]
        return np.broadcast_shapes(own, self.rows_k.shape[:-1])

    @cached_property
    def problems(self) -> Mapping[tuple[int, ...], DiscreteProblem]:
        """The unbatched problem at each index of the batch."""
        event = self.natural.shape[self.natural.ndim - self.event_dims :]
        natural = np.broadcast_to(self.natural, self.batch_shape + event)
        k = np.broadcast_to(self.rows_k, self.batch_shape + self.rows_k.shape[-1:])
        return {
            i: DiscreteProblem(self.family, natural[i], self.dense_A, k[i])
            for i in np.ndindex(*self.batch_shape)
        }


def _rates(*shape: int) -> dict[str, np.ndarray]:
    return {"rate": np.random.default_rng(1).gamma(2.0, 0.8, shape)}


def _probs(*shape: int) -> dict[str, np.ndarray]:
    return {"probs": np.random.default_rng(2).uniform(0.05, 0.95, shape)}


def _simplex(*shape: int) -> dict[str, np.ndarray]:
    """Probabilities of categories: NumPyro refuses those that do not sum to one."""
    probs = _probs(*shape)["probs"]
    return {"probs": probs / probs.sum(-1, keepdims=True)}


def _logits(*shape: int) -> dict[str, np.ndarray]:
    return {"logits": 1.5 * np.random.default_rng(3).normal(size=shape)}


ONES = np.ones(5, int)
MARGINS = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0],
                    [0, 0, 1, 0, 0, 1]])  # fmt: skip
"""Row and column sums of a 2 x 3 table; one row is redundant."""
MIXED = np.array([[1, 2, 0, 0, 0, 0, 0], [0, 1, 3, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0],
                  [0, 0, 0, 0, 0, 2, 0]])  # fmt: skip
"""A trellis, a group, a group with divisor 2, and a free variable."""
SIGNED = np.array([[1, -1, 2, 0, 0], [1, 1, 1, 1, 1]])
EQUAL = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 1]])
"""Columns 0 and 1 are equal, as are 2 and 3."""
GROUPS = Groups(np.array([0, 1, 1, 3, 3, 3]), 4)
WEIGHTED = Groups(np.array([0, 1, 1, 0]), 2, np.array([1.0, 2.0, 2.0, 3.0]))
RAGGED = Groups(np.array([*range(12), *[12] * 9]), 13)
"""Groups of one variable beside a long one, which are laid out in sets of similar sizes."""
RAGGED_K = np.array([1, *[0, 1] * 5, 0, 2])
ROUTING = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 1], [0, 0, 1, 1, 0]])
SHUFFLED = np.array([[2, 0, 0, 0, 2, 0], [1, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 1],
                     [1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]])  # fmt: skip
"""Sums of a 2 x 3 table with shuffled cells: two columns of three, one row of two, twice, and the
total."""
PRODUCT = np.array([2.0, 2.0, 0.7, 0.7, 0.7, 2.0]) * np.array([1.5, 1.0, 3.0, 1.0, 1.5, 3.0])
PRODUCTS = np.array([1.0, 2.5, 0.1])[:, None] * PRODUCT


CASES = (
    DiscreteCase("poisson-ones", POISSON, _rates(5), ONES, np.array(4)),
    DiscreteCase("poisson-margins", POISSON, _rates(6), MARGINS, np.array([4, 3, 2, 3, 2])),
    DiscreteCase("poisson-mixed", POISSON, _rates(7), MIXED, np.array([5, 4, 3, 4])),
    DiscreteCase("poisson-signed", POISSON, _rates(5), SIGNED, np.array([1, 5])),
    DiscreteCase("poisson-product", POISSON, {"rate": PRODUCT}, SHUFFLED,
                 np.array([6, 5, 3, 5, 8])),
    DiscreteCase("poisson-products", POISSON, {"rate": PRODUCTS}, SHUFFLED,
                 np.array([[[6, 5, 3, 5, 8]], [[2, 0, 1, 0, 2]]])),
    DiscreteCase("poisson-equal", POISSON, _rates(5), EQUAL, np.array([5, 4])),
    DiscreteCase("poisson-groups", POISSON, _rates(6), GROUPS, np.array([2, 3, 0, 4])),
    DiscreteCase("poisson-weighted", POISSON, _rates(4), WEIGHTED, np.array([5, 6])),
    DiscreteCase("poisson-batch_rate", POISSON, _rates(3, 5), ROUTING, np.array([3, 4, 2])),
    DiscreteCase("poisson-batch_k", POISSON, _rates(5), ROUTING, np.array([[3, 4, 2], [1, 0, 1]])),
    DiscreteCase("poisson-outer", POISSON, _rates(2, 1, 5), ONES, np.array([0, 3, 6])),
    DiscreteCase("poisson-single", POISSON, _rates(1), np.ones((1, 1)), np.array([3])),
    DiscreteCase("poisson-point", POISSON, _rates(2), np.array([[1, 1], [1, 2]]), np.array([3, 5])),
    DiscreteCase("poisson-ragged", POISSON, _rates(21), RAGGED, RAGGED_K),
    DiscreteCase("bernoulli-ones", BERNOULLI, _probs(5), ONES, np.array(2)),
    DiscreteCase("bernoulli-logits", BERNOULLI, _logits(5), ONES[None], np.array([3])),
    DiscreteCase("bernoulli-margins", BERNOULLI, _probs(6), MARGINS, np.array([2, 1, 1, 1, 1])),
    DiscreteCase("bernoulli-mixed", BERNOULLI, _logits(7), MIXED, np.array([2, 1, 1, 2])),
    DiscreteCase("bernoulli-signed", BERNOULLI, _logits(5), SIGNED, np.array([1, 3])),
    DiscreteCase("bernoulli-groups", BERNOULLI, _probs(6), GROUPS, np.array([1, 1, 0, 2])),
    DiscreteCase("bernoulli-batch_all", BERNOULLI, _logits(3, 5), ONES, np.array([0, 2, 5])),
    DiscreteCase("bernoulli-outer", BERNOULLI, _probs(2, 1, 6), GROUPS,
                 np.array([[1, 1, 0, 2], [0, 2, 0, 3], [1, 0, 0, 0]])),
    DiscreteCase("bernoulli-ragged", BERNOULLI, _logits(21), RAGGED, RAGGED_K),
    DiscreteCase("bernoulli-none", BERNOULLI, _probs(2, 3), np.zeros((0, 3)), np.zeros((0,))),
    DiscreteCase("categorical-ones", CATEGORICAL, _simplex(4, 3), np.ones(4, int), np.array(4)),
    DiscreteCase("categorical-binary", CATEGORICAL, _simplex(5, 2), ONES, np.array(2)),
    DiscreteCase("categorical-logits", CATEGORICAL, _logits(5, 4), ROUTING, np.array([3, 4, 2])),
    DiscreteCase("categorical-mixed", CATEGORICAL, _logits(7, 4), MIXED, np.array([5, 4, 3, 4])),
    DiscreteCase("categorical-batch_k", CATEGORICAL, _simplex(2, 5, 3), SIGNED,
                 np.array([[1, 5], [0, 4]])),
)  # fmt: skip
_BY_NAME = {case.name: case for case in CASES}


def select(*names: str) -> tuple[DiscreteCase, ...]:
    return tuple(_BY_NAME[name] for name in names)


def named(name: str) -> DiscreteCase:
    return _BY_NAME[name]


UNBOUNDED = select("poisson-mixed")
"""A Poisson variable in no row: no finite table of it, no finite support."""
FINITE = tuple(case for case in CASES if case not in UNBOUNDED)
BOUND_K = tuple(case for case in FINITE if case.rows_k.ndim == 1)
"""One k for the whole batch."""
