"""Saddle-point matrices K = [[Q, A'], [A, 0]] against dense algebra."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from constrained_core.errors import ParameterError
from constrained_core.linear.residual import ResidualOf
from constrained_core.linear.saddle import (
    SaddlePattern,
    precision_noise,
    saddle_inverse,
    saddle_inverse_tangent,
    saddle_log_det,
    saddle_solve,
)
from tests.intrinsic_fields import INTRINSIC_FIELDS
from tests.laws.exact import fractions, log, solve

KINDS = ("proper", "diagonal", "intrinsic", "identity", "indefinite")


def lattice(*shape):
    """Precision of differences of neighbours, singular along constants."""
    chains = [
        sparse.diags_array([-np.ones(n - 1)] * 2, offsets=[-1, 1], shape=(n, n)) for n in shape
    ]
    total = sparse.csr_array((1, 1))
    for chain in chains:
        own = chain - sparse.diags_array(chain.sum(0))
        left, right = sparse.eye_array(total.shape[0]), sparse.eye_array(own.shape[0])
        total = sparse.kron(total, right) + sparse.kron(left, own)
    return total.tocsr()


def random_case(seed):
    """A precision Q and rows A of many kinds, small enough for dense algebra."""
    rng = np.random.default_rng(seed)
    n, kind = int(rng.integers(1, 40)), KINDS[seed % 5]
    noise = sparse.random_array((n, n), density=rng.uniform(0.02, 0.3), rng=rng)
    eye = sparse.eye_array(n)
    if kind == "proper":
        Q = noise @ noise.T + rng.uniform(0.01, 1) * eye
    elif kind == "diagonal":
        Q = sparse.diags_array(10.0 ** rng.uniform(-2, 2, n))
    elif kind == "intrinsic":  # of any number of components
        weights = abs(noise + noise.T)
        Q = sparse.diags_array(weights.sum(0)) - weights
    elif kind == "identity":
        Q = eye
    else:
        Q = noise + noise.T + rng.uniform(0, 3) * eye
    r = int(rng.integers(0, max(1, n // 2) + 1))
    A = sparse.csr_array(
        (rng.random((r, n)) < 0.3) * (1.0 if seed % 2 else rng.uniform(0.5, 2, (r, n)))
    )
    return Q.tocsr(), A


def pattern_of(Q, A):
    Q, A = sparse.coo_array(Q), sparse.coo_array(A)
    index = [part.astype(np.int64) for part in (Q.row, Q.col, A.row, A.col)]
    return SaddlePattern(*index, Q.shape[0], A.shape[0]), Q.data, A.data


def dense(Q, A):
    corner = np.zeros((A.shape[0], A.shape[0]))
    return np.block([[Q.toarray(), A.toarray().T], [A.toarray(), corner]])


def smallest_on_null_space(Q, A):
    """The smallest eigenvalue of Q on the null space of A; None if rows depend on each other."""
    r, n = A.shape
    if r and np.linalg.matrix_rank(A.toarray()) < r:
        return None
    basis = np.linalg.svd(A.toarray())[2][r:].T if r else np.eye(n)
    values = np.linalg.eigvalsh(basis.T @ Q.toarray() @ basis)
    return values.min() if len(values) else 1.0


def close(found, expected, condition):
    """Up to rounding times the condition of K; derivatives have its square in them."""
    size = np.abs(expected).max(initial=1e-300)
    assert np.abs(found - expected).max(initial=0.0) <= 1e-13 * condition * size


@pytest.mark.parametrize("seed", range(300))
def test_against_dense_algebra(seed):
    Q, A = random_case(seed)
    pattern, q, a = pattern_of(Q, A)
    smallest = smallest_on_null_space(Q, A)
    if smallest is None or smallest < 1e-9:
        with pytest.raises(ParameterError, match="positive definite on the null space"):
            saddle_log_det(pattern, q, a)
        assert np.isnan(saddle_log_det(pattern, q, a, strict=False))
        return
    K = dense(Q, A)
    inverse, condition = np.linalg.inv(K), np.linalg.cond(K)
    rng = np.random.default_rng(seed)
    right = rng.standard_normal((3, pattern.size))
    close(saddle_solve(pattern, q, a, right), right @ inverse, condition)
    gap = saddle_log_det(pattern, q, a) - np.linalg.slogdet(K)[1]
    assert abs(gap) <= 1e-13 * condition * pattern.size
    row, column = pattern.inverse_entries
    close(np.concatenate(saddle_inverse(pattern, q, a)), inverse[row, column], condition)
    direction = rng.standard_normal(Q.shape)
    direction = (direction + direction.T)[pattern.q_row, pattern.q_column]
    da = rng.standard_normal(a.shape)
    moved = pattern.filled(pattern.values(direction, da)).toarray()
    tangent = np.concatenate(saddle_inverse_tangent(pattern, q, a, direction, da))
    close(tangent, -(inverse @ moved @ inverse)[row, column], condition**2)


@pytest.mark.parametrize("holds_all", [False, True])
@pytest.mark.parametrize("seed", [s for s in range(60) if KINDS[s % 5] != "indefinite"])
def test_noise_has_the_precision_as_covariance(seed, holds_all):
    Q, A = random_case(seed)
    smallest = smallest_on_null_space(Q, A)
    if holds_all or smallest is None or smallest < 1e-9:
        A = sparse.eye_array(Q.shape[0]).tocsr()  # a law for any Q
    pattern, q, a = pattern_of(Q, A)
    assert_noise_conditions_to_the_law(pattern, q, a)


def assert_noise_conditions_to_the_law(pattern, q, a, relative=1e-12):
    """K^-1 [w; 0] has the conditional covariance C, whatever of that of w is of A."""
    K = pattern.filled(pattern.values(q, a)).toarray()
    n, condition = pattern.num_variables, np.linalg.cond(K)
    inverse = np.linalg.inv(K)
    C, rounding = inverse[:n, :n], 1e-15 * condition * abs(inverse).max()
    roots = precision_noise(pattern, q, a, np.eye(pattern.size)) @ C
    allowed = max(relative, 1e-15 * condition) * abs(C).max() + rounding
    np.testing.assert_allclose(roots.T @ roots, C, rtol=0, atol=allowed)


SUMS = {
    "one sum": np.ones((1, 400)),
    "sums of lines": np.kron(np.eye(20), np.ones(20)),
    "sums of pairs": np.kron(np.eye(200), np.ones(2)),
    "two values": np.eye(400)[[3, 57]],
}


@pytest.mark.parametrize("rows", SUMS)
@pytest.mark.parametrize("diagonal", [1e-2, 1e-12, 0.0])
def test_noise_whatever_comes_first(rows, diagonal):
    """By a factor of K where its variables come before its rows, and of Q elsewhere."""
    Q, A = lattice(20, 20) + diagonal * sparse.eye_array(400), sparse.csr_array(SUMS[rows])
    pattern, q, a = pattern_of(Q, A)
    scale = np.array([1.0, 3e5])
    roots = precision_noise(pattern, q * scale[:, None], a, np.eye(pattern.size)[:, None])
    for i in range(2):
        assert_noise_conditions_to_the_law(pattern, q * scale[i], a, 1e-10)
        found = roots[:, i].T @ roots[:, i] / scale[i]
        null = np.linalg.svd(SUMS[rows])[2][len(SUMS[rows]) :]
        expected = null @ Q.toarray() @ null.T  # of A, nothing is asked
        np.testing.assert_allclose(null @ found @ null.T, expected, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tau", [1.0, 0.3, 1e-4])
@pytest.mark.parametrize("name", INTRINSIC_FIELDS)
def test_noise_of_an_intrinsic_field_whatever_rounding_does(name, tau, dtype):
    """Eigenvalues of Q that are zero are rounded to negative ones, in the values of a single
    precision by far: the law on the null space of A has them all the same."""
    field = INTRINSIC_FIELDS[name]
    rows = np.atleast_2d(field.A.to_dense())
    ranks = [0, *(np.linalg.matrix_rank(rows[: i + 1]) for i in range(len(rows)))]
    Q = sparse.csr_array(field.precision.to_dense())
    pattern, q, a = pattern_of(Q, sparse.csr_array(rows[np.diff(ranks) > 0]))
    q = (q.astype(dtype) * np.asarray(tau, dtype)).astype(float)
    assert_noise_conditions_to_the_law(pattern, q, a, 1e-9)


def test_one_factor_serves_the_noise_of_a_proper_field_with_one_sum(monkeypatch):
    Q = lattice(10, 40) + sparse.eye_array(400)  # no other test chooses its order
    pattern, q, a = pattern_of(Q, sparse.csr_array(SUMS["one sum"]))
    monkeypatch.setattr("constrained_core.linear.completed_root.factor_of_precision", None)
    precision_noise(pattern, q, a, np.ones(401))


def test_no_noise_of_an_indefinite_precision():
    for A in (sparse.csr_array((0, 2)), sparse.csr_array([[0.0, 1.0]])):
        pattern, q, a = pattern_of(sparse.diags_array([1.0, -1.0]), A)
        with pytest.raises(ParameterError, match=r"precision_root|positive definite on"):
            precision_noise(pattern, q, a, np.ones(pattern.size))
        assert np.isnan(precision_noise(pattern, q, a, np.ones(pattern.size), strict=False)).all()


@pytest.mark.parametrize("islands", [2, 3, 20])
def test_free_directions_are_counted(islands):
    Q = sparse.block_diag([lattice(3, 2)] * islands).tocsr()
    one_sum = sparse.csr_array(np.ones((1, 6 * islands)))
    pattern, q, a = pattern_of(Q, one_sum)
    with pytest.raises(ParameterError, match=f"leaves {islands - 1} direction"):
        saddle_log_det(pattern, q, a)
    each = sparse.kron(sparse.eye_array(islands), np.ones((1, 6))).tocsr()
    pattern, q, a = pattern_of(Q, each)
    expected = np.linalg.slogdet(dense(Q, each))[1]
    np.testing.assert_allclose(saddle_log_det(pattern, q, a), expected, rtol=1e-12)


def test_negative_directions_are_counted():
    pattern, q, a = pattern_of(
        sparse.diags_array([1.0, -1.0, -2.0]), sparse.csr_array([[1.0, 0.0, 0.0]])
    )
    with pytest.raises(ParameterError, match="negative along 2 directions"):
        saddle_log_det(pattern, q, a)


@pytest.mark.parametrize("order", [1, 2])
def test_random_walk(order):
    """What ties an intrinsic field down is found where no pivot is small by itself."""
    n = 300
    D = sparse.csr_array(np.diff(np.eye(n), order, axis=0))
    A = sparse.csr_array(np.stack([np.ones(n), np.arange(n) / n])[:order])
    pattern, q, a = pattern_of(D.T @ D, A)
    values, vectors = np.linalg.eigh((D.T @ D).toarray())
    np.testing.assert_allclose(
        saddle_log_det(pattern, q, a),
        np.log(values[order:]).sum()
        + np.linalg.slogdet((A @ vectors[:, :order]) @ (A @ vectors[:, :order]).T)[1],
        rtol=1e-8,
    )
    variance = saddle_inverse(pattern, q, a)[0][pattern.q_row == pattern.q_column]
    expected = np.diagonal((vectors[:, order:] / values[order:]) @ vectors[:, order:].T)
    np.testing.assert_allclose(np.sort(variance), np.sort(expected), rtol=1e-6)


def test_a_field_of_two_thousand_nodes():
    """Large blocks, batches of small ones, and a late row."""
    Q = lattice(50, 40)
    A = sparse.csr_array(np.ones((1, 2000)))
    pattern, q, a = pattern_of(Q, A)
    inverse = np.linalg.inv(dense(Q, A))
    row, column = pattern.inverse_entries
    found = np.concatenate(saddle_inverse(pattern, q, a))
    np.testing.assert_allclose(found, inverse[row, column], atol=1e-12)


def test_batches_share_an_order():
    Q, A = lattice(4, 3) + sparse.eye_array(12), sparse.csr_array(np.ones((1, 12)))
    pattern, q, a = pattern_of(Q, A)
    factor = np.array([1.0, 4.0])[:, None]
    right = np.random.default_rng(0).standard_normal((5, 2, 13))
    solution = saddle_solve(pattern, q * factor, a, right)
    for i in range(2):
        expected = right[:, i] @ np.linalg.inv(dense(Q * factor[i, 0], A))
        np.testing.assert_allclose(solution[:, i], expected, atol=1e-13)


def test_values_of_very_different_size():
    """Digits are kept where scales are 1e-6 and 1e6, as in the dense laws."""
    rng = np.random.default_rng(1)
    A = sparse.csr_array(rng.integers(-1, 2, (4, 12)).astype(float))
    scale = 10.0 ** rng.uniform(-6, 6, 12)
    pattern, q, a = pattern_of(sparse.diags_array(scale**-2), A)
    gram = (A.toarray() * scale**2) @ A.toarray().T
    expected = np.linalg.slogdet(gram)[1] - 2 * np.log(scale).sum()
    np.testing.assert_allclose(saddle_log_det(pattern, q, a), expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_residuals_are_those_of_twice_the_precision(seed):
    """Against fractions, where terms of a row cancel to a share of 1e-20."""
    rng = np.random.default_rng(seed)
    matrix = sparse.random_array((12, 12), density=0.4, rng=rng) + sparse.eye_array(12)
    x = rng.normal(size=(2, 12)) * 10.0 ** rng.uniform(-5, 5, 12)
    right = x @ matrix.toarray().T
    found = ResidualOf(sparse.csr_array(matrix))(x, right)
    exact = [
        [
            Fraction(b) - sum(Fraction(m) * Fraction(v) for m, v in zip(row, vector, strict=True))
            for row, b in zip(matrix.toarray(), values, strict=True)
        ]
        for vector, values in zip(x, right, strict=True)
    ]
    exact = np.array(exact, float)
    size = np.abs(x) @ np.abs(matrix.toarray()).T
    assert (np.abs(found - exact) <= 1e-15 * np.abs(exact) + 1e-30 * size).all()


@pytest.mark.parametrize("decades", [4, 8, 20])
@pytest.mark.parametrize("seed", range(4))
def test_scales_that_differ(seed, decades):
    """Determinant, solution and selected inverse against fractions: nothing is squared away."""
    rng = np.random.default_rng(seed)
    rows = (rng.random((5, 12)) < 0.4) * rng.choice([-1.0, 1.0, 2.0], (5, 12))
    rows[np.arange(5), np.arange(5)] = 1.0
    A = sparse.csr_array(rows * 10.0 ** rng.uniform(-decades / 2, decades / 2, 12))
    pattern, q, a = pattern_of(sparse.eye_array(12), A)
    right = rng.normal(size=17)
    K = fractions(dense(sparse.eye_array(12), A))
    unit = fractions(np.eye(17))
    columns = [[*one, Fraction(b)] for one, b in zip(unit, right, strict=True)]
    solved, determinant = solve(K, columns)
    assert float(saddle_log_det(pattern, q, a)) == pytest.approx(log(abs(determinant)), rel=1e-13)
    expected = np.array([float(row[-1]) for row in solved])
    found = saddle_solve(pattern, q, a, right)
    np.testing.assert_allclose(found[:12], expected[:12], rtol=1e-12)
    diagonal = saddle_inverse(pattern, q, a)[0][np.argsort(pattern.q_row)]
    np.testing.assert_allclose(diagonal, [float(solved[i][i]) for i in range(12)], rtol=1e-12)


@pytest.mark.parametrize(("order", "n"), [(1, 20_000), (2, 3000), (3, 300)])
def test_solutions_where_rounding_is_large(order, n):
    """Of integers, which are exact: what one solution misses by 4e-7 is refined away."""
    pattern, q, a = of_walk(order, n)
    expected = np.random.default_rng(0).integers(-3, 4, pattern.size).astype(float)
    right = pattern.filled(pattern.values(q, a)) @ expected
    found = saddle_solve(pattern, q, a, right)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


def test_a_walk_of_which_nothing_is_left_is_refused():
    """Its variances had been wrong by 5 to 16%, without a word."""
    pattern, q, a = of_walk(3, 3000)
    with pytest.raises(ParameterError, match=r"may be wrong by .* fewer points, a lower order"):
        saddle_log_det(pattern, q, a)
    assert np.isnan(saddle_log_det(pattern, q, a, strict=False))


def of_walk(order, n):
    D = sparse.identity(n, format="csr", dtype=float)
    for _ in range(order):
        D = D[1:] - D[:-1]
    powers = np.arange(-(n // 2), n - n // 2)[:, None] ** np.arange(order)
    return pattern_of(D.T @ D, sparse.csr_array(powers.T.astype(float)))


def test_what_is_not_finite_is_refused():
    pattern, q, a = pattern_of(sparse.eye_array(2), sparse.csr_array([[1.0, 1.0]]))
    with pytest.raises(ParameterError, match="finite"):
        saddle_solve(pattern, q * np.nan, a, np.zeros(3))
    alone, *_ = pattern_of(sparse.eye_array(2), sparse.csr_array((0, 2)))
    with pytest.raises(ParameterError, match="finite"):
        precision_noise(alone, q * np.nan, a[:0], np.ones(2))
    assert np.isnan(precision_noise(alone, q * np.nan, a[:0], np.ones(2), strict=False)).all()
    assert np.isnan(saddle_solve(pattern, q * np.nan, a, np.zeros(3), strict=False)).all()
