"""What is computed outside of a trace is compiled as one; inside, helpers are plain functions."""

from threading import Thread

import jax
import jax.numpy as jnp

from numpyro_constrained.kernels.arrays.eager import as_one, is_traced


def test_transformations_are_traces():
    assert not is_traced()
    assert jax.jit(is_traced)() and jax.vmap(lambda x: x * is_traced())(jnp.ones(2)).all()
    assert jax.grad(lambda x: x * is_traced())(1.0) == 1.0
    seen = []
    thread = Thread(target=lambda: seen.append(is_traced()))
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_helper_is_compiled_outside_of_a_trace_alone():
    bodies = []

    @as_one
    def double(x, by=2.0):
        bodies.append(is_traced())
        return by * x

    for _ in range(3):
        assert double(jnp.ones(3)).sum() == 6.0
    assert bodies == [True]  # once, when it was compiled
    assert double(jnp.ones(3), by=3.0).sum() == 9.0
    program = str(jax.make_jaxpr(double)(jnp.ones(3)))
    assert "jit" not in program
