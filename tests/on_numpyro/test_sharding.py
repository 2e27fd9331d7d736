"""Batches spread over devices: the same numbers, and nothing is gathered.

Devices are made before JAX starts, so that this runs in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    ConstrainedPoisson,
    GroupSum,
)

jax.config.update("jax_enable_x64", True)
assert len(jax.devices()) == 2
rng = np.random.default_rng(0)
batch, n = 4, 6
A, x, loc = rng.normal(size=(2, n)), rng.normal(size=(batch, n)), rng.normal(size=(batch, n))
scale = rng.uniform(0.3, 2, (batch, n))
data = tuple(map(jnp.asarray, (loc, scale, x @ A.T, x)))
groups = GroupSum([0, 0, 1, 1, 1, 0], 2)
def dense(loc, scale, k):
    return ConstrainedMultivariateNormal(loc, scale_tril=scale[..., None] * np.eye(n), A=A, k=k)


LAWS = {
    "rows": lambda loc, scale, k: ConstrainedNormal(loc, scale, A, k),
    "dense": dense,
    "groups": lambda loc, scale, k: ConstrainedNormal(loc, scale, groups, k),
}
mesh = Mesh(np.array(jax.devices()), ("batch",))
spec = PartitionSpec("batch")
spread = tuple(jax.device_put(part, NamedSharding(mesh, spec)) for part in data)


def close(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


for name, build in ((name, LAWS[name]) for name in sys.argv if name in LAWS):
    def scores(loc, scale, k, x):
        law = build(loc, scale, k)
        return law.log_prob(law.project(x)) + law.constraint_log_prob()

    def gradients(*data):
        return jax.value_and_grad(lambda *data: scores(*data).sum(), (0, 1, 2))(*data)

    expected = jax.jit(gradients)(*data)  # on one device
    program = jax.jit(gradients).lower(*spread).compile()
    close(program(*spread), expected)
    text = program.as_text()
    assert not [op for op in ("all-gather(", "all-to-all(", "collective-permute(") if op in text]

    def local(*data):
        return jax.grad(lambda *data: scores(*data).sum(), (0, 1, 2))(*data)

    mapped = jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)
    close(jax.jit(mapped)(*spread), expected[1])
    parts = tuple(part.reshape(2, batch // 2, -1) for part in data)
    close(jax.pmap(scores)(*parts).reshape(-1), jax.jit(scores)(*data))
    print(name, "ok", flush=True)


def drawn(loc, scale, k):
    # Laws are mapped over rows, and the place in the mesh tells k.
    where = jnp.asarray([0.0, 1.0])[jax.lax.axis_index("batch")]

    def one(loc, scale, k):
        law = ConstrainedNormal(loc, scale, A, k + where)
        return law.sample(jax.random.key(0)) + law.mean

    return jax.vmap(one)(loc, scale, k)


def expected_draws(loc, scale, k):
    def one(loc, scale, k):
        law = ConstrainedNormal(loc, scale, A, k)
        return law.sample(jax.random.key(0)) + law.mean

    return jax.vmap(one)(loc, scale, k + np.repeat([0.0, 1.0], batch // 2)[:, None])


mapped = jax.shard_map(drawn, mesh=mesh, in_specs=spec, out_specs=spec)
close(jax.jit(mapped)(*spread[:3]), jax.jit(expected_draws)(*data[:3]))
print("mapped", "ok", flush=True)

# Laws that are recursions: their loops begin with a constant and end with a part of the batch.
members = np.repeat(np.eye(2, dtype=int), 3, 1)
table = np.array([[1, 1, 0, 1, 0, 0], [0, 1, 2, 0, 1, 1]])
DISCRETE = {
    "bernoulli": (
        members,
        lambda w, k: ConstrainedBernoulli(logits=w[..., 0], A=GroupSum([0, 0, 0, 1, 1, 1], 2), k=k),
    ),
    "poisson": (
        table,
        lambda w, k: ConstrainedPoisson(jnp.exp(w[..., 0]), table, k, k_max=[6, 8]),
    ),
}
weights = jnp.asarray(rng.normal(size=(batch, n, 2)))
points = jnp.asarray(rng.integers(0, 2, (batch, n)))
for name, (matrix, build) in ((name, DISCRETE[name]) for name in sys.argv if name in DISCRETE):
    def slope(weights, k, x):
        return jax.grad(lambda weights: build(weights, k).log_prob(x).sum())(weights)

    def local(*data):
        return slope(*data), build(*data[:2]).sample(jax.random.key(0))

    data = weights, points @ matrix.T, points
    mapped = jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)
    found, draws = jax.jit(mapped)(*data)
    close(found, jax.jit(slope)(*data))
    assert (draws @ matrix.T == data[1]).all() and (draws >= 0).all()

    def shared(k):
        # Marginals are a derivative in weights that are the same everywhere.
        return build(weights[0], k).mean

    mapped = jax.shard_map(shared, mesh=mesh, in_specs=spec, out_specs=spec)
    close(jax.jit(mapped)(data[1]), jax.jit(shared)(data[1]))
    print(name, "ok", flush=True)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["dense"], ["poisson"]),
        pytest.param(["rows", "groups"], ["bernoulli"], marks=pytest.mark.slow),
    ],
    ids=["dense", "diagonal"],
)
def test_two_devices_give_the_same_numbers(before, after):
    devices = "--xla_force_host_platform_device_count=2"
    flags = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {devices}"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *before, *after]
    found = subprocess.run(command, env=flags, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.split() == [
        word for name in [*before, "mapped", *after] for word in (name, "ok")
    ]
