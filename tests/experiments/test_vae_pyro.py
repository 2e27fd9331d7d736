"""Image VAEs in Pyro: the same models as in NumPyro, and a short run."""

from dataclasses import replace
from itertools import product

import jax.numpy as jnp
import numpy as np
import pyro
import pytest
import torch
from numpyro.infer.util import log_density
from pyro import poutine

from experiments.images.data import load
from experiments.vae import comparison
from experiments.vae.settings import Settings
from experiments.vae.training import scaling_of
from experiments.vae_pyro.__main__ import METHODS, main

pytestmark = pytest.mark.rank_promotion("allow")  # nets work on batches

SETTINGS = replace(Settings().shortened(), code=2, top_code=3, hidden=5)


def log_prob_in_pyro(program, codes, *arguments):
    """Of a model or guide at given codes."""
    there = {name: torch.as_tensor(code) for name, code in codes.items()}
    return poutine.trace(poutine.condition(program, there)).get_trace(*arguments).log_prob_sum()


@pytest.mark.parametrize("name", METHODS)
def test_nets_and_models_are_those_of_numpyro(name, rng):
    split = load("digits", num_test=10)
    method = comparison.METHODS[name](8, 4, SETTINGS).trained_as
    vae, x = METHODS[name](method, split), split.test
    codes = {"z": rng.normal(size=(10, SETTINGS.code))}
    if method.has_ladder:
        codes["top"] = rng.normal(size=(10, SETTINGS.top_code))
    images, parameters = torch.as_tensor(x), vae.to_jax()
    k = vae.sums_of(images)
    known = method.read(jnp.asarray(x), scaling_of(method, split))
    np.testing.assert_allclose(k, known.k, rtol=1e-12)

    arguments = parameters, jnp.asarray(x), known
    for program, steps in product(("model", "guide"), (0, SETTINGS.joint_steps)):
        vae.steps = steps
        found = log_prob_in_pyro(getattr(vae, program), codes, images, k)
        expected, _ = log_density(getattr(method.at_step(steps), program), arguments, {}, codes)
        np.testing.assert_allclose(found.item(), expected, rtol=1e-10)
    pyro.clear_param_store()


def test_short_run_goes_on_where_it_was(tmp_path):
    torch.set_default_dtype(torch.float32)  # of the critic; put back by the strict setting
    command = ["--short", "--folder", str(tmp_path), "--only", "ours"]
    first, again = main(command), main(command)
    assert list(first["method"]) == [name for name in METHODS if "ours" in name]
    assert first.equals(again)  # seconds included
    assert first["violation"].max() < 1e-4
    assert (tmp_path / "vae_pyro.png").stat().st_size > 10_000
