"""``exact_bits``: how many bits an exact product with the scaled rows takes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained_core import plan_constraint
from constrained_core.linear.plan import DensePlan
from constrained_core.linear.structure import exact_product_bits
from tests.core import exact
from tests.core.matrices import MATRICES, integer_matrices, scaled_matrices

MANTISSA = 53


def check_exact(rows: np.ndarray, bits: int, rng: np.random.Generator) -> None:
    """Sums in any order equal the rational ones, for integers of the bits that are left."""
    largest = 2 ** (MANTISSA - bits)
    for _ in range(5):
        vector = rng.integers(-largest, largest, rows.shape[-1], endpoint=True).astype(np.float64)
        for order in (np.arange(len(vector)), rng.permutation(len(vector))):
            partial = np.cumsum(rows[:, order] * vector[order], axis=-1)
            for row, total in zip(rows, partial[:, -1], strict=True):
                assert Fraction(float(total)) == exact.dot(row, vector)


@given(matrix=scaled_matrices(), seed=st.integers(0, 100))
def test_products_with_integer_rows_are_exact(matrix: np.ndarray, seed: int):
    plan = plan_constraint(matrix)
    if isinstance(plan, DensePlan) and plan.rank:
        assert 0 < plan.exact_bits <= 10
        check_exact(plan.rows, plan.exact_bits, np.random.default_rng(seed))


@given(matrix=integer_matrices(), exponent=st.integers(-40, 40))
def test_bits_do_not_depend_on_powers_of_two(matrix: np.ndarray, exponent: int):
    assert exact_product_bits(np.ldexp(matrix, exponent)) == exact_product_bits(matrix)


@given(seed=st.integers(0, 1000))
def test_a_split_vector_is_multiplied_exactly(seed: int):
    """High parts on a grid of the largest entry: as a kernel splits a draw of reals."""
    rng = np.random.default_rng(seed)
    rows = plan_constraint(MATRICES["margins"].matrix).rows
    bits = exact_product_bits(rows)
    value = rng.normal(size=rows.shape[-1]) * 10.0 ** rng.integers(-6, 7)
    _, exponent = np.frexp(np.abs(value).max())
    unit = np.ldexp(1.0, exponent - (MANTISSA - bits))
    high = np.round(value / unit) * unit
    for row, total in zip(rows, rows @ high, strict=True):
        assert Fraction(float(total)) == exact.dot(row, high)
    np.testing.assert_array_equal(high + (value - high), value)
    assert np.abs(value - high).max() <= unit / 2


KNOWN = {
    "one": ([[1.0]], 1),
    "three ones": ([[1.0, 1.0, 1.0]], 2),
    "four ones": ([[1.0, 1.0, 1.0, 1.0]], 3),
    "seven": ([[7.0, 0.0]], 3),
    "a half beside four": ([[4.0, 0.5]], 4),
    "the row that needs most": ([[1.0, 1.0], [1.0, 9.0]], 4),
    "no rows": (np.zeros((0, 3)), 0),
}


@pytest.mark.parametrize("rows, bits", KNOWN.values(), ids=KNOWN)
def test_known_rows(rows, bits: int):
    assert exact_product_bits(np.array(rows)) == bits


def test_arbitrary_reals_need_more_than_a_mantissa_leaves(rng):
    assert exact_product_bits(rng.normal(size=(3, 8))) > MANTISSA - 3
    assert exact_product_bits(np.array([[0.1, 0.2, 0.3]])) > MANTISSA - 3


def test_entries_far_apart_need_many_bits():
    assert exact_product_bits(np.array([[2.0**40, 1.0]])) == 41
