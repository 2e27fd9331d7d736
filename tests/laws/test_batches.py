"""A batch of laws is the law of each of its members, whatever in it is a batch, also where the
size of the batch is that of something else: what is aligned with the wrong dimension fits then."""

from itertools import combinations

import numpy as np
import pytest

from tests.adapters import BACKENDS, assert_close
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
