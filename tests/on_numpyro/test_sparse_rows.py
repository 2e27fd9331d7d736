"""Products of sparse rows, in whichever form: those of their dense matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from constrained_core.sparse import SparseMatrix, SparsePattern
from numpyro_constrained import LinearEqualityTransform
from numpyro_constrained.kernels.linear.sparse_rows import SparseRows

GENERATOR = np.random.default_rng(0)


def entries(form, shape):
    """Whether there is an entry: few in each row, or in most of them, or in one row many."""
    is_entry = GENERATOR.random(shape) < {"short": 0.02, "few": 0.5, "uneven": 0.002}[form]
    if form == "uneven":
        is_entry[0] = True
    is_entry[2] = False
    return is_entry


@pytest.mark.parametrize("form", ["short", "few", "uneven"])
@pytest.mark.parametrize("shape", [(7, 150), (60, 300), (5, 3000)])
def test_products(form, shape):
    matrix = np.where(entries(form, shape), GENERATOR.normal(size=shape), 0.0)
    row, column = GENERATOR.permutation(np.argwhere(matrix)).T
    rows = SparseRows(SparsePattern(row, column, shape), matrix[row, column])
    moved = SparseRows(rows.pattern, jnp.asarray(rows.values))  # whose values may be traced
    for dims in ((), (4,), (2, 3)):
        x, y = (GENERATOR.normal(size=(*dims, size)) for size in reversed(shape))
        for one in (rows, moved):
            np.testing.assert_allclose(one.apply(x), x @ matrix.T, atol=1e-12)
            np.testing.assert_allclose(one.adjoint(y), y @ matrix, atol=1e-12)
            np.testing.assert_allclose(one.absolute().apply(x), x @ abs(matrix).T, atol=1e-12)
    x, y = (GENERATOR.normal(size=size) for size in reversed(shape))
    gradient = jax.jit(jax.grad(lambda x: (rows.apply(x) * y).sum()))(x)
    np.testing.assert_allclose(gradient, y @ matrix, atol=1e-12)


def test_short_rows_do_not_read_variables_of_others():
    row, column = np.repeat(np.arange(3), [2, 1, 3]), np.array([5, 20, 0, 7, 8, 9])
    rows = SparseRows(SparsePattern(row, column, (3, 40)), np.ones(6))
    total = rows.apply(jnp.ones(40).at[0].set(jnp.inf).at[30].set(jnp.nan))
    assert total[::2].tolist() == [2.0, 3.0]
    assert not np.isfinite(total[1])


def network(num_nodes, seed):
    """Balances of a connected network: a path and a few links across, sizes of all scales."""
    rng = np.random.default_rng(seed)
    across = rng.choice(num_nodes, (num_nodes // 4, 2))
    path = np.stack([np.arange(num_nodes - 1), np.arange(1, num_nodes)], -1)
    links = np.concatenate([path, across[across[:, 0] != across[:, 1]]])
    matrix = np.zeros((num_nodes, len(links)))
    np.add.at(matrix, (links[:, 0], np.arange(len(links))), -1.0)
    np.add.at(matrix, (links[:, 1], np.arange(len(links))), 1.0)
    return matrix[1:] * rng.uniform(0.1, 10.0, len(links))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [0, 6])
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_eliminated_networks_balance_to_the_last_bits(form, spread, dtype):
    A = network(60, seed=1).astype(dtype)
    k = (A @ GENERATOR.normal(size=A.shape[1])).astype(dtype)
    pattern = np.argwhere(A).T
    given = A
    if form == "sparse":
        given = SparseMatrix(*pattern, A[tuple(pattern)], A.shape)
    transform = LinearEqualityTransform(given, k, "elimination")
    free = A.shape[1] - A.shape[0]
    scale = 10.0 ** GENERATOR.uniform(-spread, spread, free)
    u = (GENERATOR.normal(size=(20, free)) * scale).astype(dtype)
    x = np.asarray(jax.jit(lambda u: transform(u))(u))
    np.testing.assert_array_equal(transform._inverse(x), u)
    exact, matrix = x.astype(np.longdouble), A.astype(np.longdouble)
    gap, size = abs(exact @ matrix.T - k), abs(exact) @ abs(matrix).T + abs(k)
    assert (gap <= 4 * np.finfo(dtype).eps * size).all()
