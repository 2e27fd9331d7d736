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
    "table, levels, message",
    [
        ({"a": [1, 2], "b": [1]}, [()], "one length"),
        ({"a": [1, 2]}, [("b",)], "names of columns"),
        ({}, [()], "one length"),
    ],
)
def test_what_does_not_fit_is_refused(table, levels, message):
    with pytest.raises(ConstraintError, match=message):
        summing_matrix(table, levels)
