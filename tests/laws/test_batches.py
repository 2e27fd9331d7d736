"""A batch of laws is the law of each of its members, whatever in it is a batch, also where the
size of the batch is that of something else: what is aligned with the wrong dimension fits then."""

from itertools import combinations, product

import numpy as np
import pytest

from tests.adapters import BACKENDS, assert_close, each_backend
from tests.cases import PARAMETERS

N, M = 4, 2
COMPILED = {"precision": [("A",)], "low_rank": [("A", "cov_factor")]}
"""What JAX is asked, which compiles each of them."""


def members(kind, size):
    """Parameters of each member of a batch, A and k among them."""
    rng = np.random.default_rng(5)
    given = [
        {"loc": rng.normal(size=N), **PARAMETERS[kind][1](rng, N, (), 1.0)} for _ in range(size)
    ]
    for one in given:
        one["A"] = rng.normal(size=(M, N))
        one["k"] = rng.normal(size=M)
    return given


def subsets(kind):
    """One part, two, and all."""
    names = list(members(kind, 1)[0])
    return [*combinations(names, 1), *combinations(names, 2), tuple(names)]


@pytest.mark.parametrize(
    ("backend", "kind", "batched", "size"),
    [
        pytest.param(backend, kind, which, size, id=f"{backend!r}-{kind}-{'+'.join(which)}-{size}")
        for backend in BACKENDS
        for kind in PARAMETERS
        for which in (subsets(kind) if backend.name == "torch" else COMPILED.get(kind, ()))
        for size in ((M, N) if backend.name == "torch" else (N,))
    ],
)
def test_a_batch_is_its_members(backend, kind, batched, size):
    def law(given):
        given = {name: backend.array(value) for name, value in given.items()}
        return getattr(backend.library, PARAMETERS[kind][0])(**given)

    def answers(one, x):
        found = [backend.value(one, name) for name in ("mean", "variance", "constraint_log_prob")]
        return [*found, backend.log_prob(one, x), backend.loss(one, "project", np.ones(N))]

    each = members(kind, size)
    each = [{**each[0], **{name: one[name] for name in batched}} for one in each]
    alone = [law(one) for one in each]
    points = np.stack([backend.draws(one, 0) for one in alone])
    expected = [np.stack(found) for found in zip(*map(answers, alone, points), strict=True)]
    whole = {**each[0], **{name: np.stack([one[name] for one in each]) for name in batched}}
    for got, right in zip(answers(law(whole), points), expected, strict=True):
        assert_close(np.broadcast_to(got, right.shape), right, 1e-9)


GAUSSIAN = ["covariance", "precision", "diagonal", "low_rank", "field"]
PAIRS_IN_JAX = [("low_rank", "covariance"), ("covariance", "field"), ("low_rank", "field")]
SHAPES = [((), (N,)), ((N,), ()), ((2,), ()), ((), (2,)), ((2,), (N, 1)), ((N, 1), (2,))]
RINGS = np.eye(N) * 3 - np.roll(np.eye(N), 1, 0) - np.roll(np.eye(N), -1, 0)


@pytest.mark.parametrize(
    ("backend", "kind", "other"),
    [
        pytest.param(backend, kind, other, id=f"{backend!r}-{kind}-{other}")
        for backend in BACKENDS
        for kind, other in product(GAUSSIAN, GAUSSIAN)
        if backend.name == "torch" or (kind, other) in PAIRS_IN_JAX
    ],
)
def test_divergences_of_batches_of_other_shapes(backend, kind, other):
    """Those of the members, where one law has more batch dimensions than the other."""
    A, k = np.array([[1.0, 2, 0, -1], [0, 1, 1, 1]]), np.array([0.3, 1.0])

    def parameters(name, seed, shape):
        rng = np.random.default_rng(seed)
        loc = rng.normal(size=(*shape, N))
        if name == "field":
            return {"loc": loc, "values": RINGS * rng.uniform(1, 2, (*shape, 1, 1))}
        return {"loc": loc, **PARAMETERS[name][1](rng, N, shape, 1.0)}

    def law(name, given):
        given = {key: backend.array(value) for key, value in given.items()} | {
            "A": backend.array(A),
            "k": backend.array(k),
        }
        if name == "field":
            values = given.pop("values")
            row, column = RINGS.nonzero()
            given["precision_matrix"] = backend.library.SparseMatrix(
                row, column, values[..., row, column], (N, N)
            )
            return backend.library.ConstrainedGMRF(**given)
        return getattr(backend.library, PARAMETERS[name][0])(**given)

    for shapes in SHAPES if backend.name == "torch" else SHAPES[1:4]:
        p, q = (
            parameters(name, i, shape)
            for i, (name, shape) in enumerate(zip((kind, other), shapes, strict=True))
        )
        found = backend.numpy(backend.kl(law(kind, p), law(other, q)))
        whole = np.broadcast_shapes(*shapes)
        assert found.shape == whole
        for place in np.ndindex(whole):
            one, two = (
                {
                    key: np.broadcast_to(value, whole + value.shape[len(shape) :])[place]
                    for key, value in given.items()
                }
                for given, shape in zip((p, q), shapes, strict=True)
            )
            alone = backend.numpy(backend.kl(law(kind, one), law(other, two)))
            assert_close(found[place], alone, 1e-9)


@each_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_multiple_of_a_row_is_redundant_in_a_batch(backend, size, dtype):
    """Exactly, in each of 4,000 matrices: of 20,000 with two variables JAX took 167 for regular."""
    rng = np.random.default_rng(size)
    rows = rng.normal(size=(4000, size)) * 10 ** rng.uniform(-2, 3, size=(4000, 1))
    matrices = np.stack([rows, rng.choice([-1, 2, 4], size=(4000, 1)) * rows], 1)
    law = backend.library.ConstrainedNormal(
        backend.array(np.zeros(size), dtype),
        backend.array(np.ones(size), dtype),
        backend.array(matrices, dtype),
        backend.array(np.zeros((4000, 2)), dtype),
    )
    ranks = law.rank if isinstance(law.rank, int) else backend.numpy(law.rank)
    assert np.all(ranks == 1)
