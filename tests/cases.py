"""One table of cases: laws, parameters and constraints as NumPy data.

A new class of law costs one entry of PARAMETERS; a new kind of constraint one of CONSTRAINTS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from zlib import crc32

import numpy as np

from tests import oracles

MVN = "ConstrainedMultivariateNormal"
NORMAL = "ConstrainedNormal"
LOW_RANK = "ConstrainedLowRankMultivariateNormal"
STUDENT = "ConstrainedMultivariateStudentT"

N = 5
"""Variables of most cases: few shapes, so that JAX compiles little."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The arguments of a GroupSum."""

    index: np.ndarray
    num_groups: int
    weights: np.ndarray | None = None

    def dense(self) -> np.ndarray:
        rows = (np.arange(self.num_groups)[:, None] == self.index).astype(float)
        return rows if self.weights is None else rows * self.weights


@dataclass(frozen=True, eq=False)
class AnyCase:
    """What cases of laws with a density and of discrete laws have in common.

    A subclass says ``n``, ``batch_shape`` and ``problems``: the unbatched oracle at each index of
    the batch.
    """

    name: str
    law: str
    params: Mapping[str, np.ndarray]
    A: np.ndarray | Groups
    k: np.ndarray

    number = float
    """Of the entries of A and k."""

    def __repr__(self) -> str:
        return self.name

    @property
    def one_row(self) -> bool:
        """A is (n,) and k a scalar per batch element."""
        return not isinstance(self.A, Groups) and self.A.ndim == 1

    @cached_property
    def dense_A(self) -> np.ndarray:
        A = self.A.dense() if isinstance(self.A, Groups) else self.A
        return (A[None] if self.one_row else A).astype(self.number)

    @cached_property
    def rows_k(self) -> np.ndarray:
        return np.asarray(self.k[..., None] if self.one_row else self.k).astype(self.number)

    def expected(self, oracle: Callable, *values: np.ndarray, event_shape: tuple = ()):
        """oracle(problem, *value) for each problem; values are of shape (*batch, ...)."""
        out = np.empty(self.batch_shape + event_shape)
        for index, problem in self.problems.items():
            out[index] = oracle(problem, *(value[index] for value in values))
        return out


class Case(AnyCase):
    """Of a law with a density."""

    @property
    def is_gaussian(self) -> bool:
        return self.law != STUDENT

    @property
    def n(self) -> int:
        return self.params["loc"].shape[-1]

    @property
    def covariance_name(self) -> str:
        """A parameter beside loc and df, the one a test may rescale."""
        return next(name for name in self.params if name not in ("loc", "df"))

    @cached_property
    def base_covariance(self) -> np.ndarray:
        """Dense covariance (shape matrix of the t) of the base, (*batch, n, n)."""
        return dense_covariance(self.params)

    @property
    def unit(self) -> float:
        """The scale of x, for comparisons of what carries it."""
        return float(np.sqrt(np.max(self.base_covariance, initial=0.0))) or 1.0

    @cached_property
    def rounding(self) -> float:
        """What rounding can do to a figure of the law, relative to its size.

        Rounding of the rows turns their space by eps times the condition of the unit rows, and
        the projection along it, which is oblique, stretches by up to the root of the condition of
        the covariance; solving with the covariance has that condition itself. Sums have n terms.
        """
        found = [0.0]
        for problem in self.problems.values():
            covariance = oracles.condition(problem.cov)
            found.append(problem.row_condition * np.sqrt(covariance) + covariance)
        return self.n * float(np.finfo(np.float64).eps) * max(found)

    @cached_property
    def batch_shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(
            self.params["loc"].shape[:-1],
            self.base_covariance.shape[:-2],
            self.dense_A.shape[:-2],
            self.rows_k.shape[:-1],
            np.shape(self.params.get("df", 0.0)),
        )

    @cached_property
    def problems(self) -> Mapping[tuple[int, ...], oracles.Problem]:
        """The unbatched problem at each index of the batch."""

        def full(value: np.ndarray, event_dims: int) -> np.ndarray:
            value = np.asarray(value, float)
            event = value.shape[value.ndim - event_dims :]
            return np.broadcast_to(value, self.batch_shape + event)

        loc, cov = full(self.params["loc"], 1), full(self.base_covariance, 2)
        A, k = full(self.dense_A, 2), full(self.rows_k, 1)
        df = full(self.params.get("df", np.inf), 0)
        return {
            i: oracles.Problem(loc[i], cov[i], A[i], k[i], float(df[i]))
            for i in np.ndindex(*self.batch_shape)
        }

    def points(self, rng: np.random.Generator, count: int = 3) -> np.ndarray:
        """Points on the support, (count, *batch, n)."""

        def draw(problem: oracles.Problem) -> np.ndarray:
            return oracles.point(problem, rng)

        drawn = [self.expected(draw, event_shape=(self.n,)) for _ in range(count)]
        return np.stack(drawn)

    def rounded(self, dtype: str) -> "Case":
        """The case that a law of this dtype sees."""
        if dtype == "float64":
            return self
        A = self.A if isinstance(self.A, Groups) else self.A.astype(dtype)
        params = {name: np.asarray(value).astype(dtype) for name, value in self.params.items()}
        return replace(self, params=params, A=A, k=self.k.astype(dtype))

    def with_params(self, **changed: np.ndarray) -> "Case":
        return replace(self, params={**self.params, **changed})


def dense_covariance(params: Mapping[str, np.ndarray]) -> np.ndarray:
    if "cov_factor" in params:
        factor = params["cov_factor"].astype(float)
        return factor @ factor.swapaxes(-1, -2) + _diagonal(params["cov_diag"])
    if "scale" in params:
        return _diagonal(params["scale"].astype(float) ** 2)
    if "scale_tril" in params:
        tril = params["scale_tril"].astype(float)
        return tril @ tril.swapaxes(-1, -2)
    if "precision_matrix" in params:
        return np.linalg.inv(params["precision_matrix"].astype(float))
    return params["covariance_matrix"].astype(float)


def _diagonal(values: np.ndarray) -> np.ndarray:
    return values[..., None].astype(float) * np.eye(values.shape[-1])


# Parameters: name -> (law, function of (rng, n, batch, scale) giving all but loc) ---------------


def _tril(rng, n, batch, scale):
    strict = np.tril(rng.normal(size=(*batch, n, n)), -1) / np.sqrt(n)
    return scale * (strict + _diagonal(rng.uniform(0.5, 1.5, (*batch, n))))


def _covariance(rng, n, batch, scale):
    tril = _tril(rng, n, batch, scale)
    return tril @ tril.swapaxes(-1, -2)


def _scale(rng, n, batch, scale):
    return scale * rng.uniform(0.5, 1.5, (*batch, n))


def _low_rank(rng, n, batch, scale):
    factor = scale * rng.normal(size=(*batch, n, 2))
    return {"cov_factor": factor, "cov_diag": scale**2 * rng.uniform(0.5, 1.5, (*batch, n))}


PARAMETERS: dict[str, tuple[str, Callable[..., dict]]] = {
    "covariance": (MVN, lambda *a: {"covariance_matrix": _covariance(*a)}),
    "precision": (MVN, lambda *a: {"precision_matrix": np.linalg.inv(_covariance(*a))}),
    "tril": (MVN, lambda *a: {"scale_tril": _tril(*a)}),
    "diagonal": (NORMAL, lambda *a: {"scale": _scale(*a)}),
    "low_rank": (LOW_RANK, _low_rank),
    "student_tril": (STUDENT, lambda *a: {"df": np.array(6.0), "scale_tril": _tril(*a)}),
    "student_scale": (STUDENT, lambda *a: {"df": np.array(4.5), "scale": _scale(*a)}),
}

# Constraints: name -> function of rng giving A.  Entries are multiples of 1/8, so that products
# with such numbers are exact and redundant rows agree to the last bit in float32 as well. ---------


def _eighths(values: np.ndarray) -> np.ndarray:
    return np.round(8 * values) / 8


def _row(rng):
    return _eighths(rng.uniform(0.5, 2, N)) * np.array([1, -1, 1, 1, -1])


def _dense(rng, rows=3):
    return _eighths(rng.normal(size=(rows, N)))


def _redundant(rng):
    kept = rng.integers(-3, 4, (2, N)).astype(float)
    return np.array([[1, 0], [2, -1], [0, 1], [-1, 3.0]]) @ kept


def incidence(edges: list[tuple[int, int]]) -> np.ndarray:
    """Node by edge, -1 at the tail and +1 at the head: one row too many per component."""
    nodes = np.arange(1 + max(max(edge) for edge in edges))
    return np.stack([(nodes == head) - 1.0 * (nodes == tail) for tail, head in edges], axis=-1)


def _near_parallel(rng):
    first, step = rng.normal(size=(2, N))
    return np.stack([first, first + 1e-4 * step])


CONSTRAINTS: dict[str, Callable[[np.random.Generator], np.ndarray | Groups]] = {
    "row": _row,
    "row_matrix": lambda rng: _row(rng)[None],
    "ones": lambda rng: np.ones(N),
    "dense": _dense,
    "redundant": _redundant,
    "incidence": lambda rng: incidence([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]),
    "duplicate": lambda rng: _dense(rng, 2)[[0, 1, 0]],
    "zero_row": lambda rng: _dense(rng, 2) * np.array([[1.0], [0.0]]),
    "badly_scaled": lambda rng: _dense(rng, 2) * np.array([[1e-8], [1e8]]),
    "near_parallel": _near_parallel,
    "none": lambda rng: np.zeros((0, N)),
    "full": lambda rng: _dense(rng, N) + 2 * np.eye(N),
    "batched": lambda rng: _eighths(rng.normal(size=(3, 2, N))),
    "groups": lambda rng: Groups(np.array([0, 1, 1, 2, 2]), 3),
    "weighted_groups": lambda rng: Groups(
        np.array([1, 0, 1, 0, 2]), 3, _eighths(rng.uniform(0.5, 2, N))
    ),
    "empty_group": lambda rng: Groups(np.array([0, 2, 2, 3, 3]), 4),
    "single_free": lambda rng: np.zeros((0, 1)),
    "single_point": lambda rng: np.array([[1.5]]),
}


@dataclass(frozen=True)
class Spec:
    """One row of the table."""

    params: str
    constraint: str
    label: str = ""
    loc: tuple[int, ...] = ()
    cov: tuple[int, ...] = ()
    k: tuple[int, ...] = ()
    scale: float = 1.0
    surprise: float = 0.0
    name: str = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.params, self.constraint, self.label)
        object.__setattr__(self, "name", "-".join(part for part in parts if part))

    def build(self) -> Case:
        rng = np.random.default_rng(crc32(self.name.encode()))
        A = CONSTRAINTS[self.constraint](rng)
        dense = A.dense() if isinstance(A, Groups) else A
        n = dense.shape[-1]
        law, rest = PARAMETERS[self.params]
        loc = self.scale * rng.normal(size=(*self.loc, n))
        params = {"loc": loc, **rest(rng, n, self.cov, self.scale)}
        k = self._rhs(rng, np.atleast_2d(dense), loc, dense_covariance(params))
        return Case(self.name, law, params, A, k[..., 0] if dense.ndim == 1 else k)

    def _rhs(self, rng, A, loc, cov):
        """A x of a plausible x; or A loc and `surprise` standard deviations of A x."""
        if self.surprise:
            return A @ loc + self.surprise * np.sqrt(np.diagonal(A @ cov @ A.T))
        batch = np.broadcast_shapes(self.k, A.shape[:-2])
        x = self.scale * _eighths(rng.normal(size=(*batch, A.shape[-1])))
        return (A @ x[..., None])[..., 0]


TABLE = (
    Spec("covariance", "row"),
    Spec("precision", "row_matrix"),
    Spec("tril", "ones"),
    Spec("covariance", "dense"),
    Spec("covariance", "redundant"),
    Spec("diagonal", "incidence"),
    Spec("covariance", "duplicate"),
    Spec("low_rank", "zero_row"),
    Spec("covariance", "badly_scaled"),
    Spec("covariance", "near_parallel"),
    Spec("covariance", "none"),
    Spec("covariance", "full"),
    Spec("covariance", "single_free"),
    Spec("diagonal", "single_point"),
    Spec("tril", "weighted_groups"),
    Spec("diagonal", "row"),
    Spec("diagonal", "dense"),
    Spec("diagonal", "none"),
    Spec("diagonal", "groups"),
    Spec("diagonal", "weighted_groups"),
    Spec("diagonal", "empty_group"),
    Spec("low_rank", "ones"),
    Spec("low_rank", "dense"),
    Spec("low_rank", "groups"),
    Spec("low_rank", "full"),
    Spec("student_tril", "row"),
    Spec("student_tril", "redundant"),
    Spec("student_tril", "none"),
    Spec("student_tril", "full"),
    Spec("student_scale", "dense"),
    Spec("student_scale", "weighted_groups"),
    Spec("covariance", "dense", "batch_loc", loc=(3,)),
    Spec("diagonal", "ones", "batch_k", k=(3,)),
    Spec("covariance", "dense", "batch_all", loc=(3,), cov=(2, 1), k=(3,)),
    Spec("covariance", "batched"),
    Spec("diagonal", "batched", "batch_loc", loc=(3,)),
    Spec("low_rank", "dense", "outer", loc=(4, 1), k=(3,)),
    Spec("diagonal", "groups", "outer", loc=(4, 1), k=(3,)),
    Spec("student_tril", "dense", "outer", loc=(4, 1), k=(3,)),
    Spec("covariance", "dense", "empty_batch", loc=(0,)),
    Spec("diagonal", "row", "empty_batch", loc=(0,)),
    Spec("covariance", "dense", "small", scale=1e-6),
    Spec("diagonal", "dense", "large", scale=1e6),
    Spec("low_rank", "row", "small", scale=1e-6),
    Spec("student_tril", "dense", "large", scale=1e6),
    Spec("covariance", "row", "surprising", surprise=20.0),
    Spec("diagonal", "groups", "surprising", surprise=20.0),
    Spec("student_scale", "row", "surprising", surprise=20.0),
)

CASES = tuple(spec.build() for spec in TABLE)
_BY_NAME = {case.name: case for case in CASES}


def named(name: str) -> Case:
    return _BY_NAME[name]


def select(*names: str) -> tuple[Case, ...]:
    return tuple(map(named, names))


GAUSSIAN = tuple(case for case in CASES if case.is_gaussian)
REPRESENTATIVE = select(
    "covariance-dense",
    "precision-row_matrix",
    "tril-ones",
    "diagonal-weighted_groups",
    "low_rank-dense",
    "student_tril-row",
    "student_scale-dense",
    "covariance-dense-batch_all",
)
"""One case of each way to give parameters, for the laws that need many draws or compilations."""
COMPILED = select(
    "covariance-dense-batch_all",
    "covariance-redundant",
    "covariance-badly_scaled",
    "covariance-none",
    "precision-row_matrix",
    "diagonal-weighted_groups",
    "diagonal-single_point",
    "diagonal-row-empty_batch",
    "low_rank-dense",
    "student_tril-row",
)
"""Of every law and every kind of constraint and batch: JAX is held to oracles on these, and to
PyTorch on all cases, which is held to oracles on all of them."""
DIFFERENTIATED = select("covariance-dense", "diagonal-weighted_groups", "student_tril-row")
"""The same, for what compiles long."""
