"""Divergences of laws whose equal subspaces are given in different ways, and of different ones."""

from dataclasses import replace

import numpy as np
import pytest

from constrained_core import ConstraintError
from tests import oracles
from tests.adapters import BACKENDS, each_backend, each_quick_backend
from tests.cases import LOW_RANK, MVN, NORMAL, Case, Groups

ROWS = np.array([[1.0, 2, 0, -1, 1], [0, 1, 1, 0, 3]])
SUMS = np.array([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]])
GROUPS = Groups(np.array([0, 0, 1, 1, 2]), 3)
FULL = np.array(
    [[5.0, 1, 2, 1, 3], [1, 6, 1, 3, 2], [2, 1, 5, 2, 1], [3, 1, 1, 7, 2], [1, 2, 2, 1, 6]]
)
MIXED = np.array([[1.0, 1], [2, -3]])
PIN = np.array([[1.0, 0, 0, 0, 0], [2, 1, 1, -1, 1]])
ONE = np.ones((1, 5))
ZEROS = {2: np.zeros(2), 3: np.zeros(3), 5: np.zeros(5)}

PAIRS = {
    "combined rows": ((ROWS, [1.0, 2]), (MIXED @ ROWS, MIXED @ [1.0, 2])),
    "combined rows, k = 0": ((ROWS, ZEROS[2]), (MIXED @ ROWS, ZEROS[2])),
    "scaled rows": ((ROWS, [1.0, 2]), (ROWS * [[1e-6], [-1e5]], np.array([1e-6, -2e5]))),
    "a redundant row": ((ROWS, [1.0, 2]), (np.vstack([ROWS, ROWS.sum(0)]), [1.0, 2, 3])),
    "two redundant forms": (
        (np.vstack([ROWS, ROWS[:1], 0 * ROWS[:1]]), [1.0, 2, 1, 0]),
        (np.vstack([2 * ROWS, MIXED[:1] @ ROWS]), [2.0, 4, 3]),
    ),
    "groups": ((GROUPS, [1.0, 2, 0.5]), (SUMS, [1.0, 2, 0.5])),
    "groups, one member, k = 0": ((GROUPS, ZEROS[3]), (SUMS, ZEROS[3])),
    "weighted groups": (
        (GROUPS, [1.0, 2, 0]),
        (replace(GROUPS, weights=np.array([2.0, 2, -1, -1, 3])), [2.0, -2, 0]),
    ),
    "a variable at zero": ((PIN, [0.0, 2]), (MIXED @ PIN, MIXED @ [0.0, 2])),
    "a variable at zero, k = 0": ((PIN, ZEROS[2]), (MIXED @ PIN, ZEROS[2])),
    "a variable at a value": ((PIN, [0.5, 2]), (MIXED @ PIN, MIXED @ [0.5, 2])),
    "one row": ((ONE[0], 3.0), (-4 * ONE, [-12.0])),
    "a point": ((FULL, FULL @ [1.0, -2, 0, 3, 1]), (np.eye(5), [1.0, -2, 0, 3, 1])),
    "a point at zero": ((FULL, ZEROS[5]), (np.eye(5), ZEROS[5])),
    "no rows": ((np.zeros((0, 5)), np.zeros(0)), (np.zeros((1, 5)), np.zeros(1))),
    "a batch of k": (
        (ROWS, np.array([[1.0, 2], [0, 0], [-1, 3]])),
        (MIXED @ ROWS, np.array([[1.0, 2], [0, 0], [-1, 3]]) @ MIXED.T),
    ),
    "a batch of A": (
        (np.stack([ROWS, PIN]), np.array([[1.0, 2], [0, 0]])),
        (np.stack([MIXED @ ROWS, PIN[::-1]]), np.array([[3.0, -4], [0, 0]])),
    ),
}
KINDS = {
    "scales": (NORMAL, NORMAL),
    "covariances": (MVN, MVN),
    "scale and low rank": (NORMAL, LOW_RANK),
    "low rank and covariance": (LOW_RANK, MVN),
}
QUICK = [
    ("scales", "groups, one member, k = 0"),
    ("scales", "two redundant forms"),
    ("scales", "a point"),
    ("scales", "a batch of A"),
    ("covariances", "a variable at zero, k = 0"),
    ("low rank and covariance", "combined rows"),
]
"""JAX compiles for seconds: the others are slow there."""


def params(law: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    loc, root = rng.normal(size=5), np.tril(0.4 * rng.normal(size=(5, 5)), -1) + np.eye(5)
    scale = rng.uniform(0.5, 2, 5)
    rest = {
        NORMAL: {"scale": scale},
        MVN: {"covariance_matrix": root @ root.T},
        LOW_RANK: {"cov_factor": root[:, :2], "cov_diag": scale},
    }
    return {"loc": loc, **rest[law]}


def laws(kinds: str, pair: str, seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [
        Case(pair, law, params(law, rng), A, np.asarray(k, float))
        for law, (A, k) in zip(KINDS[kinds], PAIRS[pair], strict=True)
    ]


def each_pair(dtype: str):
    quick = QUICK if dtype == "float64" else []
    return pytest.mark.parametrize(
        ("backend", "kinds", "pair"),
        [
            pytest.param(
                backend,
                kinds,
                pair,
                id=f"{backend}-{kinds}-{pair}",
                marks=[pytest.mark.slow] * (backend.name == "jax" and (kinds, pair) not in quick),
            )
            for backend in BACKENDS
            for kinds in KINDS
            for pair in PAIRS
        ],
    )


def check(backend, kinds: str, pair: str, seed: int, dtype: str) -> None:
    p, q = (case.rounded(dtype) for case in laws(kinds, pair, seed))
    for one, other in ((p, q), (q, p)):
        first, second = (backend.law(case, dtype) for case in (one, other))
        found = backend.numpy(backend.kl(first, second))
        # Rows scaled or combined are rounded again: one subspace serves the oracle.
        expected = [
            oracles.kl(problem, replace(other.problems[i], A=problem.A, k=problem.k))
            if problem.dimension
            else 0.0
            for i, problem in one.problems.items()
        ]
        expected = np.reshape(expected, one.batch_shape)
        eps = float(np.finfo(dtype).eps) / float(np.finfo(float).eps)
        size = 1 + np.abs(expected).max()
        # The divergence adds n ratios and squares of differences in standard deviations.
        tolerance = 10 * size * eps * (one.rounding + other.rounding)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@each_pair("float64")
def test_one_subspace_given_in_two_ways(backend, kinds, pair):
    for seed in range(4):
        check(backend, kinds, pair, seed, "float64")


@each_pair("float32")
def test_in_single_precision(backend, kinds, pair):
    for seed in range(4):
        check(backend, kinds, pair, seed, "float32")


DIFFERENT = {
    "another k": ((ROWS, [1.0, 2]), (ROWS, [1.0, 2.001])),
    "another row": ((ROWS, [1.0, 2]), (ROWS + [[0.0], [1e-2]], [1.0, 2])),
    "a row less": ((ROWS, [1.0, 2]), (ROWS[:1], [1.0])),
    "another point": ((FULL, FULL.sum(1)), (FULL, FULL.sum(1) * 1.01)),
    "a point and a line": ((FULL, ZEROS[5]), (FULL[:4], np.zeros(4))),
    "another variable at zero": ((PIN, ZEROS[2]), (PIN[:, [1, 0, 2, 3, 4]], ZEROS[2])),
    "a variable at zero and beside it": ((GROUPS, [1.0, 2, 0]), (GROUPS, [1.0, 2, 1e-3])),
    "one element of a batch": (
        (ROWS, np.array([[1.0, 2], [0, 0]])),
        (ROWS, np.array([[1.0, 2], [0, 0.1]])),
    ),
}


@each_backend
@pytest.mark.parametrize("pair", DIFFERENT)
def test_different_subspaces_are_told(backend, pair):
    rng = np.random.default_rng(5)
    first, second = (
        backend.law(Case(pair, NORMAL, params(NORMAL, rng), A, np.asarray(k, float)))
        for A, k in DIFFERENT[pair]
    )
    for one, other in ((first, second), (second, first)):
        with pytest.raises(ConstraintError, match="same subspace"):
            backend.kl(one, other)


@each_quick_backend
def test_a_group_of_one_and_nothing_else(backend):
    """Random parameters: whatever they are, two laws with one constraint are on one subspace."""
    groups, k = Groups(np.array([0, 0, 1]), 2), np.zeros(2)
    for dtype in ("float32", "float64"):
        for seed in range(12):
            rng = np.random.default_rng(seed)
            made = [
                Case(
                    "", NORMAL, {"loc": loc, "scale": np.exp(2 * rng.normal(size=3))}, groups, k
                ).rounded(dtype)
                for loc in rng.normal(size=(2, 3))
            ]
            found = float(backend.numpy(backend.kl(*(backend.law(case, dtype) for case in made))))
            expected = oracles.kl(*(case.problems[()] for case in made))
            eps = float(np.finfo(dtype).eps) / float(np.finfo(float).eps)
            rounding = sum(case.rounding for case in made)
            assert abs(found - expected) <= 10 * (1 + expected) * eps * rounding


@each_backend
def test_different_subspaces_in_a_map(backend):
    """Values that are mapped cannot be looked at: infinite where the subspaces differ."""
    rng = np.random.default_rng(6)
    p, q = (params(NORMAL, rng) for _ in range(2))
    k = np.array([1.0, 2.0])
    first = backend.law(Case("", NORMAL, p, ROWS, k))
    loc, scale = backend.array(q["loc"]), backend.array(q["scale"])

    def divergence(k):
        return backend.kl(first, backend.library.ConstrainedNormal(loc, scale, ROWS, k))

    if backend.name == "torch":
        mapped = backend.torch.func.vmap(divergence)
    else:
        mapped = backend.jax.vmap(divergence)
    found = backend.numpy(mapped(backend.array(np.stack([k, k + 0.1]))))
    expected = oracles.kl(*(Case("", NORMAL, one, ROWS, k).problems[()] for one in (p, q)))
    np.testing.assert_allclose(found, [expected, np.inf], rtol=1e-12)
