"""Image VAEs in Pyro: the same models as in NumPyro, and a short run."""

from dataclasses import replace

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

SETTINGS = replace(Settings().shortened(), code=2, hidden=5)


@pytest.mark.parametrize("name", METHODS)
def test_nets_and_models_are_those_of_numpyro(name, rng):
    split = load("digits", num_test=10)
    method = comparison.METHODS[name](8, 4, SETTINGS).trained_as
    vae, x, z = METHODS[name](method, split), split.test, rng.normal(size=(10, 2))
    images, parameters = torch.as_tensor(x), vae.to_jax()
    k = vae.sums_of(images)
    known = method.read(jnp.asarray(x), scaling_of(method, split))
    np.testing.assert_allclose(k, known.k, rtol=1e-12)

    model = poutine.condition(vae.model, {"z": torch.as_tensor(z)})
    found = poutine.trace(model).get_trace(images, k).log_prob_sum()
    arguments = parameters, jnp.asarray(x), known
    expected, _ = log_density(method.model, arguments, {}, {"z": jnp.asarray(z)})
    np.testing.assert_allclose(found.item(), expected, rtol=1e-10)

    guide = poutine.condition(vae.guide, {"z": torch.as_tensor(z)})
    found = poutine.trace(guide).get_trace(images, k).log_prob_sum()
    expected, _ = log_density(method.guide, arguments, {}, {"z": jnp.asarray(z)})
    np.testing.assert_allclose(found.item(), expected, rtol=1e-10)
    pyro.clear_param_store()


def test_short_run_goes_on_where_it_was(tmp_path):
    torch.set_default_dtype(torch.float32)  # of the critic; put back by the strict setting
    command = ["--short", "--folder", str(tmp_path), "--only", "ours"]
    first, again = main(command), main(command)
    assert list(first["method"]) == ["ours, likelihood"]
    assert first.equals(again)  # seconds included
    assert first["violation"].max() < 1e-4
    assert (tmp_path / "vae_pyro.png").stat().st_size > 10_000
