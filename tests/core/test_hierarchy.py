"""Matrices of hierarchies, from tables."""

import numpy as np
import pandas as pd
import pytest

from constrained_core.errors import ConstraintError
from constrained_core.hierarchy import summing_matrix

TABLE = pd.DataFrame({"state": list("nnssss"), "shop": [1, 2, 1, 1, 2, 3], "item": list("ababab")})


def test_sums_are_those_of_groupby():
    levels = [(), ("state",), ("state", "shop"), ("item",), ("item", "state")]
    hierarchy = summing_matrix(TABLE, levels)
    bottom = np.random.default_rng(0).normal(size=(4, 6))
    nodes = hierarchy.with_sums(bottom)
    frame = TABLE.assign(x=bottom[0])
    expected = [frame.x.sum()]
    for level in levels[1:]:
        expected += frame.groupby(list(level)).x.sum().to_list()
    np.testing.assert_allclose(nodes[0, :-6], expected, rtol=1e-14)
    np.testing.assert_allclose(hierarchy.A.to_dense() @ nodes.T, 0, atol=1e-14)
    found = [label for level, label in hierarchy.labels if level == ("state", "shop")]
    assert found == list(frame.groupby(["state", "shop"]).groups)


def test_a_mapping_and_no_level():
    hierarchy = summing_matrix({"item": ["a", "b"]}, [])
    assert hierarchy.A.shape == (0, 2) and hierarchy.labels == []


@pytest.mark.parametrize(
    "names",
    [
        [0, 1],
        ["a", 1],
        [("x", "a"), ("x", "b")],
        [pd.Timestamp(2020, 1, 1), pd.Timestamp(2021, 1, 1)],
    ],
)
def test_names_of_any_kind(names):
    frame = pd.DataFrame([["n", "p"], ["n", "q"], ["s", "q"]], columns=pd.Index(names))
    for table in (frame, dict(zip(names, frame.to_numpy().T, strict=True))):
        hierarchy = summing_matrix(table, [(names[0],), tuple(names)])
        assert hierarchy.labels == [
            ((names[0],), ("n",)),
            ((names[0],), ("s",)),
            (tuple(names), ("n", "p")),
            (tuple(names), ("n", "q")),
            (tuple(names), ("s", "q")),
        ]


def test_a_structured_array():
    table = np.array([("n", 2), ("s", 1), ("n", 1)], dtype=[("state", "U1"), ("shop", int)])
    hierarchy = summing_matrix(table, [("state",), ("shop",)])
    np.testing.assert_array_equal(
        hierarchy.S.toarray(), [[1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    )


@pytest.mark.parametrize("dtype", ["object", "string", "category", "str"])
def test_columns_of_pandas(dtype):
    found = summing_matrix(TABLE.astype(dtype), [("state", "item")])
    expected = summing_matrix(
        {"state": list("nnssss"), "item": list("ababab")}, [("state", "item")]
    )
    np.testing.assert_array_equal(found.S.toarray(), expected.S.toarray())
    assert found.labels == expected.labels


@pytest.mark.parametrize(
    "column",
    [
        ["x", None, "y"],
        [1, None, 2],
        [1.0, np.nan, 2.0],
        np.array([1.0, np.nan, 2.0]),
        np.ma.masked_array([1, 2, 3], mask=[False, True, False]),
        np.array(["2020", "NaT", "2021"], "M8[D]"),
        pd.Series(["x", None, "y"], dtype="string"),
        pd.Series(["x", None, "y"], dtype="category"),
        pd.Series([1, None, 2], dtype="Int64"),
    ],
)
def test_labels_that_are_missing_are_refused(column):
    with pytest.raises(ConstraintError, match="got none in column 'a' at 1"):
        summing_matrix({"a": column}, [("a",)])


@pytest.mark.parametrize(
    "table, levels, message",
    [
        ({"a": [1, 2], "b": [1]}, [()], "one length"),
        ({"a": [1, 2]}, [("b",)], "names of columns"),
        ({}, [()], "one length"),
        ([["a", "b"]], [()], "data frame, a structured array or a mapping"),
        (np.ones((2, 2)), [()], "data frame, a structured array or a mapping"),
        (pd.concat([TABLE, TABLE], axis=1), [("state",)], r"column 'state', got shape \(6, 2\)"),
        ({"a": 5}, [()], r"column 'a', got shape \(\)"),
        ({"a": [1, 2]}, ["a"], r"names of columns for each level, got 'a'; write \('a',\)"),
        ({0: [1, 2]}, [0], r"names of columns for each level, got 0; write \(0,\)"),
        ({"a": [1, "1", 2]}, [("a",)], "one kind, .* column 'a', got int and str"),
        ({0: [1, 2], "a": [1, 2]}, [("b",)], r"\[0, 'a'\], got 'b'"),
    ],
)
def test_what_does_not_fit_is_refused(table, levels, message):
    with pytest.raises(ConstraintError, match=message):
        summing_matrix(table, levels)
