"""Which right-hand sides have integer solutions, against the minors of A and of [A k]."""

from itertools import combinations
from math import gcd

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from constrained_core import ConstraintError, GroupSum, InfeasibleConstraintError, as_integers
from constrained_core.fiber.lattice import joint_relations, lattice_of, same_solutions
from tests.core import exact
from tests.core.matrices import MATRICES

small_integers = st.integers(-4, 4)


def determinant(matrix: np.ndarray) -> int:
    if len(matrix) == 0:
        return 1
    rest = np.arange(len(matrix))
    return sum((-1) ** j * int(matrix[0, j]) * determinant(matrix[1:, rest != j]) for j in rest)


def minors(matrix: np.ndarray, rank: int) -> int:
    """Greatest common divisor of the minors of a size."""
    rows, columns = (list(combinations(range(size), rank)) for size in matrix.shape)
    return gcd(*(determinant(matrix[np.ix_(r, c)]) for r in rows for c in columns))


def has_integer_solution(A: np.ndarray, k: np.ndarray) -> bool:
    """The theorem of Heger (1856): equal ranks, and equal divisors of the minors of that size."""
    extended = np.column_stack([A, k])
    rank = exact.rank(A)
    return exact.rank(extended) == rank and minors(A, rank) == minors(extended, rank)


def refusal(A, k) -> str:
    with pytest.raises(InfeasibleConstraintError) as raised:
        lattice_of(np.array(A) if not isinstance(A, GroupSum) else A).check(np.array(k))
    return str(raised.value)


@given(st.data())
def test_against_minors(data: st.DataObject):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    A = data.draw(arrays(np.int64, shape, elements=small_integers))
    lattice = lattice_of(A)
    for k in data.draw(arrays(np.int64, (4, shape[0]), elements=small_integers)):
        solvable = True
        try:
            lattice.check(k)
        except InfeasibleConstraintError:
            solvable = False
        assert solvable == has_integer_solution(A, k)


@given(st.data())
def test_what_a_point_gives_is_in_the_lattice(data: st.DataObject):
    shape = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 8)))
    A = data.draw(arrays(np.int64, shape, elements=st.integers(-50, 50)))
    x = data.draw(arrays(np.int64, (2, 3, shape[1]), elements=st.integers(-(10**6), 10**6)))
    lattice_of(A).check(x @ A.T)


@pytest.mark.parametrize("name", ["zero rows", "only zeros", "ring", "two components", "margins"])
def test_kept_rows(name: str):
    matrix = MATRICES[name].matrix.astype(np.int64)
    kept = lattice_of(matrix).kept
    assert len(kept) == MATRICES[name].rank == exact.rank(matrix[kept])
    assert (np.diff(kept) > 0).all()


def test_sparse_rows_are_kept():
    """They close early and fall apart into blocks."""
    A = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]])
    assert lattice_of(A).kept.tolist() == [1, 2]


def test_values_past_64_bits():
    """Coordinates in the basis may be larger than k; nothing overflows."""
    rng = np.random.default_rng(5)
    A = rng.integers(-1000, 1000, size=(12, 14))
    k = A @ rng.integers(-(10**9), 10**9, size=14)
    lattice_of(A).check(k)
    lattice_of(2 * A[:2]).check(2 * k[:2])
    assert "k" in refusal(2 * A, 2 * k + np.eye(12, dtype=np.int64)[3])


@pytest.mark.parametrize("A, k, parts", [
    ([[2, 4]], [3], ["entries of row 0 of A are multiples of 2", "k[0] is 3"]),
    ([[0, 0], [1, 1]], [1, 3], ["entries of row 0 of A are zero", "k[0] is 1"]),
    ([[1, 1], [1, -1]], [2, 3], ["entries of row 0 + row 1 of A are multiples of 2", "is 5"]),
    ([[1, 1, 0], [0, 1, 1], [1, 2, 1]], [1, 2, 4],
     ["row 2 of A is row 0 + row 1", "k[2] should be 3, got 4", "disagreement of 1"]),
    ([[2, 2], [3, 3]], [2, 6], ["row 1 of A is 3/2 row 0", "k[1] should be 3, got 6"]),
    ([[1, 1], [1, 1]], [[2, 2], [2, 3]], ["with k[1]", "row 1 of A is row 0", "got 3"]),
    (GroupSum([0, 0, 1], 3, [2, 4, 1]), [[2, 1, 0], [3, 1, 0]], ["multiples of 2", "k[1, 0] is 3"]),
    (GroupSum([0, 0, 1], 3), [2, 1, 1], ["entries of row 2 of A are zero", "k[2] is 1"]),
])  # fmt: skip
def test_says_why(A, k, parts: list[str]):
    text = refusal(A, k)
    assert "no integer solution" in text and "correct k" in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float32, np.float64, bool])
def test_whole_numbers_of_any_type(dtype: type):
    whole = as_integers("A", np.array([[0, 1], [1, 0]], dtype=dtype))
    assert whole.dtype == np.int64
    assert whole.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -np.inf, 2.0**60])
def test_other_numbers(value: float):
    with pytest.raises(ConstraintError, match=r"k: .*whole numbers.*k\[1, 0\] = .*round k"):
        as_integers("k", np.array([[1.0], [value]]))


LARGE = [
    (2**53 + 1, int),
    (-(2**53) - 1, int),
    (-(2**63), int),
    (2**63 - 1, int),
    (2**64 - 1, "u8"),
]


@pytest.mark.parametrize(("value", "dtype"), LARGE)
def test_integers_that_floats_round(value, dtype):
    """As 64 bits of another sign they stood for other numbers."""
    with pytest.raises(ConstraintError, match=rf"k: .*2\*\*53, got k\[0\] = {value};"):
        as_integers("k", np.array([value], dtype))


@given(data=st.data())
def test_groups_are_the_dense_matrix(data: st.DataObject):
    index = data.draw(arrays(np.int64, 5, elements=st.integers(0, 2)))
    groups = GroupSum(index, 3, data.draw(arrays(np.int64, 5, elements=small_integers)))
    dense = lattice_of(groups.to_dense().astype(np.int64))
    k = data.draw(arrays(np.int64, 3, elements=small_integers))
    assert lattice_of(groups).kept.tolist() == dense.kept.tolist()
    assume(not has_integer_solution(groups.to_dense().astype(np.int64), k))
    refusal(groups, k)


def test_same_solutions():
    """The same row space and a common point, also where floats would not tell k apart."""
    A, k = np.array([[1, 1, 1, 0], [0, 2, 0, 4]]), np.array([10**9, 6])
    mixed, extra = np.array([[2, 1], [1, 1]]), np.array([[1, 0], [0, 1], [1, 1]])
    for combine in (mixed, extra):
        assert same_solutions(A, combine @ A, (k, combine @ k))
        assert not same_solutions(A, combine @ A, (k, combine @ k + combine[:, 0]))
    assert not same_solutions(A, A[:1], (k, k[:1]))
    assert not same_solutions(A, A[:, :3], (k, k))
    assert same_solutions(A, A, None)
    groups = GroupSum(np.array([0, 0, 1, 1]), 2)
    dense = np.array([[0, 0, 1, 1], [1, 1, 0, 0]])
    batch = np.array([[2, 3], [4, 5]])
    assert same_solutions(groups, groups, (batch, batch))
    assert same_solutions(groups, dense, (batch, batch[:, ::-1]))
    assert not same_solutions(groups, dense, (batch, batch))


@given(
    A=arrays(np.int64, (4, 3), elements=small_integers),
    x=arrays(np.int64, 3, elements=small_integers),
)
def test_relations_of_redundant_rows(A: np.ndarray, x: np.ndarray):
    """Zero for what A can give; not zero where one redundant row is changed."""
    lattice = lattice_of(A)
    others = np.setdiff1d(np.arange(4), lattice.kept)
    relations = lattice.relations(others)
    assert relations.shape == (len(others), 4)
    assert not (relations @ (A @ x)).any()
    for row, relation in zip(others, relations, strict=True):
        assert relation[row] != 0 and not np.delete(relation[others], others == row).any()


@given(data=st.data())
def test_joint_relations(data: st.DataObject):
    """They tell whether two constraints with solutions have the same ones."""
    one, factor = (data.draw(arrays(np.int64, (2, n), elements=small_integers)) for n in (4, 2))
    other = factor @ one
    assume(exact.rank(other) == exact.rank(one))
    x, y = (data.draw(arrays(np.int64, 4, elements=small_integers)) for _ in range(2))
    k, like = one @ x, other @ y
    found = not (joint_relations(one, other) @ np.concatenate([k, like])).any()
    assert found == bool((factor @ (one @ x) == like).all())
    assert found or not same_solutions(one, other, (k, like))
