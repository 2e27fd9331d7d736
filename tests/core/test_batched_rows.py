"""``check_batched_rows``: every matrix of a batch has full row rank."""

import numpy as np
import pytest

from constrained_core import ConstraintError, check_batched_rows


@pytest.mark.parametrize("shape", [
    (3, 2, 5), (2, 3, 4, 4), (4, 1, 3), (0, 2, 3), (3, 0, 4), (2, 5)
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_independent_rows(shape, dtype, rng):
    check_batched_rows(rng.normal(size=shape).astype(dtype))


def test_rows_of_any_scale(rng):
    matrices = rng.normal(size=(5, 3, 6)) * np.array([1e-8, 1.0, 1e8])[:, None]
    check_batched_rows(matrices)


@pytest.mark.parametrize("rank, rows", [
    (1, [[1.0, 2.0, 3.0], [-2.0, -4.0, -6.0]]),
    (1, [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]),
    (1, [[1e8, 2e8, 3e8], [1e-8, 2e-8, 3e-8]]),
], ids=["parallel", "zero", "parallel and badly scaled"])  # fmt: skip
def test_redundant_rows_are_named(rank: int, rows, rng):
    matrices = rng.normal(size=(2, 4, 2, 3))
    matrices[1, 2] = rows
    with pytest.raises(ConstraintError) as raised:
        check_batched_rows(matrices)
    for part in ("independent rows", "(1, 2)", f"rank {rank}", "2 rows", "drop"):
        assert part in str(raised.value)


def test_more_rows_than_columns(rng):
    with pytest.raises(ConstraintError, match="rank 2 with 3 rows"):
        check_batched_rows(rng.normal(size=(4, 3, 2)))


def test_not_finite(rng):
    matrices = rng.normal(size=(2, 3, 5))
    matrices[1, 0, 4] = np.nan
    with pytest.raises(ConstraintError, match=r"got nan at \(1, 0, 4\)"):
        check_batched_rows(matrices)
