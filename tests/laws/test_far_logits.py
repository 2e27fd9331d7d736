"""Log odds far from those given the sums: of variables that are masked by -1e9 or the least number
of the dtype, as rows of a padded batch are, and of all of them, whose offset cancels."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from tests.adapters import each_backend

N = 6
LOGITS = np.array([0.3, -1.0, 2.0, 0.5, -4.0, 1.5])
LEAST = {dtype: float(np.finfo(dtype).min) for dtype in ("float32", "float64")}
FILLS = (-1e4, -1e6, -1e9, -1e30, "least", -np.inf, 1e9, "largest")
MASKED = {"last": [5], "some": [0, 3], "most": [0, 1, 2, 4]}
DIGITS = {"float32": 1e-5, "float64": 1e-12}


def fill_of(fill, dtype):
    return {"least": LEAST[dtype], "largest": -LEAST[dtype]}.get(fill, fill)


def enumerated(logits, masked, value, A, k):
    """Points, their log masses, and the log probability of the sum, if masked variables have the
    value."""
    points = np.array(list(itertools.product((0, 1), repeat=len(logits))), float)
    points = points[(points[:, masked] == value).all(-1)]
    points = points[points @ A == k]
    open_ones = np.setdiff1d(np.arange(len(logits)), masked)
    weights = points[:, open_ones] @ logits[open_ones]
    normaliser = np.logaddexp(0, logits[open_ones]).sum()
    return points, log_softmax(weights), logsumexp(weights) - normaliser


@each_backend
@pytest.mark.parametrize("dtype", DIGITS)
@pytest.mark.parametrize("family", ["groups", "trellis", "categorical"])
@pytest.mark.parametrize("where", MASKED)
def test_masked_variables_are_left_out(backend, where, family, dtype):
    masked = MASKED[where]
    A = np.array([1, 2, 1, 1, 2, 1]) if family == "trellis" else np.ones(N, int)
    for fill in (fill_of(fill, dtype) for fill in FILLS):
        value = int(fill > 0)
        logits = LOGITS.copy()
        logits[masked] = fill
        open_sums = np.delete(A, masked).cumsum()[:-1]
        for k in value * A[masked].sum() + np.unique(open_sums):
            law = made(backend, family, logits, A, k, dtype)
            points, masses, total = enumerated(LOGITS, masked, value, A, k)
            values = points.astype(int) if family == "categorical" else points
            values = backend.counts(values) if backend.name == "jax" else backend.array(values)
            found = {
                "log_prob": (backend.numpy(law.log_prob(values)), masses),
                "constraint_log_prob": (backend.value(law, "constraint_log_prob"), total),
                "mean": (backend.value(law, "mean"), np.exp(masses) @ points),
                "entropy": (backend.value(law, "entropy"), -np.exp(masses) @ masses),
            }
            for name, (figure, expected) in found.items():
                np.testing.assert_allclose(
                    figure,
                    expected,
                    rtol=DIGITS[dtype],
                    atol=DIGITS[dtype],
                    err_msg=f"{name}, {fill}, {k}",
                )


def made(backend, family, logits, A, k, dtype):
    library = backend.library
    if family == "categorical":
        table = np.stack([np.zeros(N), logits], -1)
        return library.ConstrainedCategorical(logits=backend.array(table, dtype), A=A, k=int(k))
    return library.ConstrainedBernoulli(logits=backend.array(logits, dtype), A=A, k=int(k))


OFFSETS = {
    "all but one": (np.full(1000, -50.0), 999),
    "three of ten": (np.full(1000, 50.0), 300),
    "wide": (8 * np.random.default_rng(0).normal(size=512), 10),
    "none": (8 * np.random.default_rng(1).normal(size=512), 0),
    "far": (np.random.default_rng(2).normal(size=1000) - 30, 500),
}


def log_weights_of_sums(logits):
    """``(n + 1, n + 1)`` log of what the first variables weigh together, by number and sum."""
    found = np.full((len(logits) + 1, len(logits) + 1), -np.inf)
    found[:, 0] = 0.0
    for i, logit in enumerate(logits):
        found[i + 1, 1:] = np.logaddexp(found[i, 1:], found[i, :-1] + logit)
    return found


def inclusion_probabilities(logits, k):
    before, after = log_weights_of_sums(logits), log_weights_of_sums(logits[::-1])[::-1]
    # The others have k - 1, some of them before and some after.
    others = before[:-1, :k] + after[1:, :k][:, ::-1]
    return np.exp(logits + logsumexp(others, -1) - before[-1, k]) if k else np.zeros(len(logits))


@each_backend
@pytest.mark.parametrize("name", OFFSETS)
def test_offsets_cancel_in_single_precision(backend, name):
    """Log masses, entropies and divergences have the digits of their own size, not of logits."""
    logits, k = OFFSETS[name]
    logits = logits.astype(np.float32)
    nearby = logits + np.float32(0.1) * np.sin(np.arange(len(logits)), dtype=np.float32)
    exact = logits.astype(float)
    total, mean = log_weights_of_sums(exact)[-1, k], inclusion_probabilities(exact, k)
    order = np.random.default_rng(3).permutation(len(logits))
    point = np.zeros(len(logits))
    point[order[:k]] = 1.0
    ones = np.ones(len(logits), int)
    law, other = (
        backend.library.ConstrainedBernoulli(logits=backend.array(row, "float32"), A=ones, k=k)
        for row in (logits, nearby)
    )
    for value in (point.astype(np.float32), point):
        found = backend.numpy(law.log_prob(backend.array(value, str(value.dtype))))
        np.testing.assert_allclose(found, point @ exact - total, rtol=5e-5, atol=1e-5)
    np.testing.assert_allclose(
        backend.value(law, "entropy"), total - mean @ exact, rtol=5e-6, atol=1e-5
    )
    change = log_weights_of_sums(nearby.astype(float))[-1, k] - total
    divergence = change - mean @ (nearby - logits)
    np.testing.assert_allclose(backend.numpy(backend.kl(law, other)), divergence, atol=2e-4)


@each_backend
@pytest.mark.parametrize("offset", [1e4, -1e9, "least"])
def test_an_offset_of_all_categories(backend, offset):
    """Equal log weights are uniform probabilities, however large: PyTorch's log_softmax, and its
    categorical law, round log(2) away beside them."""
    for dtype in DIGITS:
        logits = np.full((4, 2), fill_of(offset, dtype))
        law = backend.library.ConstrainedCategorical(
            logits=backend.array(logits, dtype), A=np.ones(4, int), k=2
        )
        total = np.log(6 / 16)
        np.testing.assert_allclose(
            backend.value(law, "constraint_log_prob"), total, rtol=DIGITS[dtype]
        )


@each_backend
def test_gradients_of_a_padded_batch(backend):
    """Matched case-control strata of different sizes: the slope is that of the strata alone."""
    sizes, cases = np.array([6, 4, 3]), np.array([3, 3, 2])
    rng = np.random.default_rng(0)
    covariate = rng.normal(size=(3, N))
    y = np.array([[1, 0, 1, 0, 1, 0], [1, 1, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0]], float)
    is_there = np.arange(N) < sizes[:, None]

    def exact(beta):
        rows = zip(covariate, y, sizes, cases, strict=True)
        total = 0.0
        for x, outcome, size, count in rows:
            subsets = np.array(list(itertools.combinations(x[:size] * beta, count)))
            total += outcome @ x * beta - logsumexp(subsets.sum(-1))
        return total

    expected = (exact(0.7 + 1e-5) - exact(0.7 - 1e-5)) / 2e-5
    for fill in (-1e9, LEAST["float32"], -np.inf):
        offset = backend.array(np.where(is_there, 0.0, fill), "float32")
        x = backend.array(np.where(is_there, covariate, 0.0), "float32")

        def score(given, offset=offset, x=x):
            law = backend.library.ConstrainedBernoulli(
                logits=x * given["beta"] + offset, A=np.ones(N, int), k=cases
            )
            return law.log_prob(backend.array(y, "float32")).sum()

        slope = backend.gradients(score, {"beta": np.array(0.7, np.float32)})["beta"]
        np.testing.assert_allclose(slope, expected, rtol=1e-5)
        # In a program that cannot look at logits, as a sampler's step.
        both = backend.array(np.array([0.2, 0.7]), "float32")
        found = mapped_slopes(backend, lambda beta, score=score: score({"beta": beta}), both)
        np.testing.assert_allclose(found[1], expected, rtol=1e-5)


def mapped_slopes(backend, function, at):
    if backend.name == "jax":
        import jax

        return backend.numpy(jax.jit(jax.vmap(jax.grad(function)))(at))
    from torch.func import grad, vmap

    return backend.numpy(vmap(grad(function))(at))
