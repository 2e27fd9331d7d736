"""What ``explain`` finds, against facts that were known before."""

import re
from html import escape
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import null_space

from constrained_core import ConstraintError, GroupSum, ParameterError, SparseMatrix, explain
from constrained_core.explanation.rows import fill
from tests.core.fibers import points
from tests.core.matrices import incidence, integer_matrices, margins

EPS = float(np.finfo(np.float64).eps)
TWO_SUMS = np.array(
    [[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 2, 0]]
)
"""Two sums, their total, one variable that is determined and one in no row."""
RING = incidence([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)], 4)
FORMS = {"dense": np.asarray, "sparse": lambda A: SparseMatrix.of(sparse.csr_array(A))}


@pytest.fixture(params=FORMS, name="form")
def _form(request):
    return request.param


def explained(form: str, A: np.ndarray, *args, **options):
    return explain(FORMS[form](A), *args, **options)


# Rows


def test_redundant_rows_and_what_they_follow_from(form):
    found = explained(form, TWO_SUMS, np.array([1.0, 2, 3, 4]))
    assert (found.shape, found.form, found.rank, found.free_size) == ((4, 6), form, 3, 3)
    (row,) = found.redundant_rows.tolist()
    others = found.follows_from(row)
    assert row in (0, 1, 2) and 3 not in others
    np.testing.assert_allclose(sum(c * TWO_SUMS[i] for i, c in others.items()), TWO_SUMS[row])
    assert found.agrees is True and found.disagreement is None


@given(integer_matrices())
def test_redundant_rows_of_random_matrices(matrix):
    found = explain(matrix.astype(float))
    assert found.rank == np.linalg.matrix_rank(matrix)
    for row in found.redundant_rows.tolist():
        made = np.zeros(matrix.shape[1])
        for other, coefficient in found.follows_from(row).items():
            made += coefficient * matrix[other]
        size = np.abs(matrix).max(initial=1.0)
        np.testing.assert_allclose(made, matrix[row], atol=1e4 * EPS * size)


def test_a_row_that_is_not_redundant_follows_from_none():
    with pytest.raises(ConstraintError, match=re.escape("expected one of redundant_rows")):
        explain(TWO_SUMS).follows_from(3)


def test_a_k_that_disagrees_names_the_row_as_the_laws_do(form):
    found = explained(form, TWO_SUMS, np.array([1.0, 2, 4, 4]))
    assert found.agrees is False
    (row,) = found.redundant_rows.tolist()
    assert f"row {row} of A depends on other rows" in found.disagreement
    assert "a disagreement of 1;" in found.disagreement
    assert found.disagreement in " ".join(str(found).split())
    assert found.determined_values is None


def test_the_element_of_a_batch_that_disagrees():
    found = explain(TWO_SUMS, np.array([[1.0, 2, 3, 4], [1, 2, 5, 4]]))
    assert found.agrees is False and "a disagreement of 2;" in found.disagreement


def test_rows_of_zeros_and_empty_groups():
    found = explain(GroupSum([0, 0, 2], 3), np.array([1.0, 0, 3]))
    assert found.redundant_rows.tolist() == [1] and found.follows_from(1) == {}
    assert "row 1 = 0" in str(found) and found.agrees
    assert explain(GroupSum([0, 0, 2], 3), np.array([1.0, 2, 3])).agrees is False
    nothing = explain(np.zeros((2, 3)), np.zeros(2))
    assert (nothing.rank, nothing.num_blocks, nothing.redundant_rows.tolist()) == (0, 0, [0, 1])
    assert "the law is the base law" in str(nothing) and "3 variables in no row" in str(nothing)


# Determined variables


def test_determined_variables_and_their_values(form):
    found = explained(form, TWO_SUMS, np.array([1.0, 2, 3, 4]))
    assert found.determined.tolist() == [4]
    np.testing.assert_allclose(found.determined_values, [2.0], rtol=4 * EPS)
    assert "x[4] = 2" in str(found)


@pytest.mark.parametrize(
    "A",
    [np.array([1.0, 0, 0]) * 3, GroupSum([0, 1, 1, 2], 3, [2.0, 1, 1, -4])],
    ids=["row", "groups"],
)
def test_determined_values_of_rows_and_groups(A):
    dense = np.atleast_2d(A) if isinstance(A, np.ndarray) else A.to_dense()
    k = np.arange(1.0, 1 + len(dense))
    found = explain(A, k[0] if isinstance(A, np.ndarray) else k)
    is_fixed = np.abs(null_space(dense)).max(axis=1) < 1e-9
    assert found.determined.tolist() == np.flatnonzero(is_fixed).tolist()
    exact = np.linalg.lstsq(dense, k)[0][is_fixed]
    np.testing.assert_allclose(found.determined_values, exact, rtol=16 * EPS)


@given(integer_matrices(), st.integers(0, 10**6))
def test_determined_variables_are_those_that_no_null_vector_moves(matrix, seed):
    point = np.random.default_rng(seed).integers(-5, 6, matrix.shape[1]).astype(float)
    found = explain(matrix.astype(float), matrix @ point)
    moved = np.abs(null_space(matrix.astype(float))).max(axis=1, initial=0.0)
    assert found.determined.tolist() == np.flatnonzero(moved < 1e-9).tolist()
    np.testing.assert_allclose(found.determined_values, point[found.determined], atol=1e-9)


def test_values_for_a_batch_of_sides():
    k = np.array([[1.0, 2, 3, 4], [0, 0, 0, -6]])
    np.testing.assert_allclose(explain(TWO_SUMS, k).determined_values, [[2.0], [-3.0]])


# Blocks


def blocks_by_rank(matrix: np.ndarray) -> list[set[int]]:
    """The smallest sets of columns whose rank and that of all others add up to the whole rank."""

    def rank(columns) -> int:
        return int(np.linalg.matrix_rank(matrix[:, sorted(columns)])) if columns else 0

    every, blocks = set(range(matrix.shape[1])), []
    while every:
        first, others = min(every), every - {min(every)}
        sets = ({first, *more} for size in range(len(every)) for more in combinations(others, size))
        block = next(s for s in sets if rank(s) + rank(every - s) == rank(every))
        blocks.append(block)
        every -= block
    return blocks


@given(integer_matrices())
def test_blocks_are_those_of_the_ranks(matrix):
    matrix = matrix[:, :7]
    found = explain(matrix.astype(float))
    expected = blocks_by_rank(matrix)
    touched = (matrix != 0).any(axis=0)
    for block in expected:
        labels = set(found.blocks[sorted(block)].tolist())
        assert len(labels) == 1 and (labels == {-1}) == (not touched[min(block)])
    inside = [block for block in expected if touched[min(block)]]
    assert found.num_blocks == len(inside)
    ranks = [np.linalg.matrix_rank(matrix[:, sorted(block)]) for block in inside]
    assert found.block_sizes.tolist() == [[r, len(b)] for r, b in zip(ranks, inside, strict=True)]


def test_blocks_do_not_depend_on_the_choice_of_rows(form):
    """A total of both sums would join them if rows were looked at."""
    found = explained(form, TWO_SUMS)
    assert found.blocks.tolist() == [0, 0, 1, 1, 2, -1]
    assert found.block_sizes.tolist() == [[1, 2], [1, 2], [1, 1]]
    assert "2 blocks of 2 variables under 1 row; 1 variable in no row" in str(found)


def test_blocks_of_groups():
    found = explain(GroupSum([0, 0, 1, 1, 1, 3], 4, [1.0, 2, 0, 1, 1, 1]))
    assert found.blocks.tolist() == [0, 0, -1, 1, 1, 2]
    assert found.block_sizes.tolist() == [[1, 2], [1, 2], [1, 1]]


# Structure, scales, methods


@pytest.mark.parametrize(
    "A, form, words",
    [
        (np.ones(4), "one row", "one row of equal weights"),
        (np.arange(1.0, 5.0), "one row", "one row of weights"),
        (GroupSum([0, 0, 1], 2), "GroupSum", "disjoint groups of equal weights"),
        (RING, "dense", "dense rows, executed as they are"),
        (np.array([[1.0, 1, 1], [1, 1, 1.001]]), "dense", "dense rows, orthonormalised first"),
        (SparseMatrix.of(sparse.csr_array(RING)), "sparse", "sparse rows, 10 entries"),
    ],
)
def test_form_and_structure(A, form, words):
    found = explain(A)
    assert found.form == form and found.structure.startswith(words)
    assert words in str(found)


def test_the_factor_of_a_sparse_incidence_matrix_is_counted():
    """Differences of neighbours: K = [[I, A'], [A, 0]] is a path of 101 indices, without fill."""
    path = incidence([(i, i + 1) for i in range(50)], 51)
    found = explained("sparse", path.T, np.zeros(50))
    assert found.rank == 50 and fill(found.plan) == (101 + 100, 0)
    assert "[[I, A'], [A, 0]] has a factor of 201 entries" in " ".join(str(found).split())
    nodes = explained("sparse", path, np.zeros(51))
    entries, late = fill(nodes.plan)
    assert (nodes.rank, nodes.redundant_rows.size) == (50, 1) and entries >= late**2 > 0
    assert f"{late} indices come last, dense" in " ".join(str(nodes).split())


def test_scales_and_condition():
    rows = np.random.default_rng(0).normal(size=(3, 7))
    found = explain(rows * np.array([[1e6], [1.0], [1e-5]]))
    lengths = np.linalg.norm(rows, axis=1) * [1e6, 1, 1e-5]
    np.testing.assert_allclose(found.row_norms, lengths)
    scaled = rows * np.array([[1e6], [1.0], [1e-5]]) * 2.0 ** -np.floor(np.log2(lengths))[:, None]
    np.testing.assert_allclose(found.condition, np.linalg.cond(scaled), rtol=1e-12)
    near = np.array([[1.0, 1, 1], [1, 1, 1.001]])
    np.testing.assert_allclose(explain(near).condition, np.linalg.cond(near), rtol=1e-9)
    groups = GroupSum([0, 0, 0, 1], 2)
    assert explain(groups).condition == pytest.approx(np.linalg.cond(groups.to_dense()))


def test_methods_follow_the_structure():
    assert "O(n)" in explain(np.ones(4)).methods["ConstrainedNormal"]
    assert "group by group" in explain(GroupSum([0, 1], 2)).methods["ConstrainedNormal"]
    assert "r x r" in explain(RING).methods["ConstrainedNormal"]
    methods = explained("sparse", RING).methods
    assert "SuperLU" in methods["ConstrainedNormal"]
    assert "A is made dense" in methods["ConstrainedMultivariateNormal"]


def test_disjoint_rows_are_told_of_group_sums(form):
    assert any("GroupSum" in note for note in explained(form, TWO_SUMS).notes)
    assert not explained(form, RING).notes


# Whole numbers


def counts_of(A, k, **options):
    found = explain(np.asarray(A, dtype=float), np.asarray(k, dtype=float), **options)
    return {law.law.removeprefix("Constrained"): law for law in found.laws}


@pytest.mark.parametrize("form", FORMS)
def test_points_are_those_of_an_enumeration(form):
    A = np.array([[1.0, 2, 0, 1, 0], [0, 1, 1, 1, 1], [1, 3, 1, 2, 1]])
    k = np.array([4.0, 3, 7])
    laws = {law.law: law for law in explained(form, A, k, num_categories=3).laws}
    bounds = {"Poisson": 4, "Bernoulli": 1, "Categorical": 2}
    for name, upper in bounds.items():
        law = laws["Constrained" + name]
        every = points(A.astype(int), k.astype(int), upper)
        assert law.is_exact == (len(every) > 0), law.text
        assert law.points == (len(every) if len(every) else None)


def test_a_trellis_has_the_states_that_points_pass_through():
    """Stage by stage: what is left of k, over all points of the fiber."""
    A, k = margins(3, 3).astype(int), np.array([2, 1, 2, 1, 2, 2])
    for name, upper in {"Poisson": 5, "Bernoulli": 1}.items():
        law = counts_of(A, k)[name]
        every, trellis = points(A, k, min(upper, 2)), law.plan.trellis
        left = np.repeat(k[None], len(every), axis=0)
        states, live = [left], 0
        for stage in range(law.stages):
            inside = trellis.variables[trellis.column == stage]
            left = left - every[:, inside] @ A[:, inside].T
            states.append(left)
            live += len(np.unique(np.hstack(states[-2:]), axis=0))
        sizes = [len(np.unique(state, axis=0)) for state in states]
        assert law.stages == 9 and law.states == sum(sizes) and law.largest_stage == max(sizes)
        assert live <= law.transitions <= law.states * (1 + min(upper, 2))
        assert law.points == len(every)
        assert f"{law.transitions} transitions (at most 10,000,000)" in law.text


def test_points_of_sums_in_closed_form():
    found = counts_of(np.ones((1, 12)), [5])
    assert found["Poisson"].points == comb(16, 5) and found["Bernoulli"].points == comb(12, 5)
    assert found["Poisson"].transitions == 0
    assert "1 sum over 12 variables, group by group" in found["Poisson"].method
    large = counts_of(np.ones((1, 2000)), [1000])["Bernoulli"]
    assert large.points == comb(2000, 1000)
    assert "about 2.05e+600 points" in large.text
    assert counts_of(np.ones((1, 300_000)), [1000])["Bernoulli"].points is None


def test_a_trellis_past_its_budget_says_what_to_do():
    A, k = margins(3, 4), [3, 3, 2, 2, 2, 2, 2]
    exact = counts_of(A, k)["Bernoulli"]
    assert exact.is_exact and exact.transitions > 1
    found = counts_of(A, k, max_transitions=exact.transitions - 1)
    subset = found["Bernoulli"]
    assert (subset.verdict, subset.is_exact, subset.points) == ("too large", False, None)
    assert subset.max_transitions == exact.transitions - 1
    assert f"the budget is {exact.transitions - 1}" in subset.reason
    assert "connected" in subset.walk and "edges of a network" in subset.walk
    assert "6 steps a sweep" in subset.walk  # (3 - 1) (4 - 1), the dimension of the tables
    counts = counts_of(A, k, max_transitions=1)["Poisson"]
    assert "a 3 x 4 table of independent rows and columns, in closed form" in counts.reason


def test_what_is_not_exact_says_why():
    found = counts_of([[1, -1, 0], [0, 1, 1]], [0, 2])
    assert found["Poisson"].is_exact  # the second row bounds them all
    unbounded = counts_of([[1, -1, 0]], [0])
    assert unbounded["Poisson"].verdict == "unbounded" and unbounded["Bernoulli"].is_exact
    assert counts_of([[2, 4]], [3])["Poisson"].verdict == "no point"
    assert "multiples of 2" in counts_of([[2, 4]], [3])["Poisson"].reason
    assert counts_of([[2, 4]], [2.5])["Poisson"].verdict == "refused"
    assert explain(np.ones(3)).laws[0].verdict == "refused"  # of Poissons without k
    assert explain(np.ones(3)).laws[1].is_exact


def test_reals_have_no_discrete_law(form):
    found = explained(form, RING / 3)
    assert found.laws == () and "whole numbers" in found.notes[-1]


def test_a_large_sparse_matrix_is_not_made_dense():
    ones = np.arange(5000)
    found = explain(SparseMatrix(ones, ones, np.ones(5000), (5000, 5000)))
    assert found.laws == () and "25,000,000 entries" in found.notes[-1]
    assert found.determined.size == 5000 and "a single point" in str(found)


# Input, words


def test_refused_input():
    with pytest.raises(ConstraintError, match="a batch of shape"):
        explain(np.ones((2, 1, 3)))
    with pytest.raises(ConstraintError, match=re.escape("k: expected shape (*batch, 2)")):
        explain(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ParameterError, match="k: expected finite values"):
        explain(np.ones(3), np.array(np.nan))
    with pytest.raises(ConstraintError, match="A: expected finite entries"):
        explain(np.array([1.0, np.inf]))


def test_many_of_anything_are_cut_short():
    found = explain(np.ones((40, 3)), np.ones(40))
    assert "and 33 rows more" in str(found)
    long = explain(np.vstack([np.eye(20), np.ones(20)]), np.append(np.ones(20), 20.0))
    assert "and 14 more" in str(long)
    assert all(len(line) <= 100 for line in f"{found}\n{long}".splitlines())


def test_text_and_table_say_the_same():
    found = explain(TWO_SUMS, np.array([1.0, 2, 3, 4]))
    assert repr(found) == str(found)
    page = found._repr_html_()
    for label, text in found.lines:
        assert label in page and escape(text.split("\n")[0]) in page
    assert "<script" not in page and "http" not in page
