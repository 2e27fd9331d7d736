"""A step of a sampler to values that make no law is a rejected step, as with Pyro's own laws.

Steps are far too large, so that factorisations fail on the way.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_value

from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedNormal,
    ConstraintError,
    auto_reparam,
)
from tests.on_pyro.models import tensor

A, K = tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0]]), tensor([1.0, 0.5])
ROW, ZEROS, DATA = tensor(np.ones(4)), tensor(np.zeros(4)), tensor([0.4, 0.1, 0.5, 0.2])
IDENTITY, DIRECTION = tensor(np.eye(4)), tensor([1.0, -0.5, 0.3, 2.0])
MVN = ConstrainedMultivariateNormal


def positive(u):
    """Over- and underflows soon."""
    return (100 * u).exp()


def symmetric(u):
    """Positive definite near u = 0 only."""
    return IDENTITY + u[:, None] * DIRECTION + DIRECTION[:, None] * u


LAWS = {
    "scale": lambda u: ConstrainedNormal(ZEROS, positive(u), A, K),
    "scale of a row": lambda u: ConstrainedNormal(ZEROS, positive(u), ROW, 1.0),
    "covariance": lambda u: MVN(ZEROS, symmetric(u), A, K),
    "precision": lambda u: MVN(ZEROS, A=A, k=K, precision_matrix=symmetric(u)),
    "tril": lambda u: MVN(ZEROS, A=A, k=K, scale_tril=torch.diag(positive(u))),
    "low rank": lambda u: ConstrainedLowRankMultivariateNormal(
        ZEROS, positive(u)[:, None], positive(-u), A, K
    ),
}


@pytest.mark.parametrize("is_reparametrised", [True, False], ids=["reparam", "plain"])
@pytest.mark.parametrize("validate", [True, False], ids=["validated", "unvalidated"])
@pytest.mark.parametrize("name", LAWS)
def test_a_chain_outlives_them(name, validate, is_reparametrised):
    failures = []

    def law(u):
        try:
            found = LAWS[name](u)
        except ConstraintError as error:
            failures.append(error)
            raise
        if not found.mean.isfinite().all():
            failures.append(None)
        return found

    def model():
        u = pyro.sample("u", dist.Normal(ZEROS, 0.03).to_event(1))
        x = pyro.sample("x", law(u))
        pyro.sample("y", dist.Normal(x, 0.3).to_event(1), obs=DATA)

    if is_reparametrised:
        model = poutine.reparam(model, config=auto_reparam)
    for seed in range(3):
        pyro.set_rng_seed(seed)
        with pyro.validation_enabled(validate):
            kernel = NUTS(
                model,
                step_size=2.0,
                adapt_step_size=False,
                max_tree_depth=4,
                init_strategy=init_to_value(values={"u": ZEROS}),
            )
            chain = MCMC(kernel, num_samples=8, warmup_steps=0, disable_progbar=True)
            chain.run()
        assert all(part.isfinite().all() for part in chain.get_samples().values())
    assert failures, "steps were not too large"
    errors = [error for error in failures if error is not None]
    assert all(isinstance(error, torch.linalg.LinAlgError) for error in errors)
