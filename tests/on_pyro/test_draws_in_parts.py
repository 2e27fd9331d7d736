"""Draws of sparse laws are made few at once; they are those that are made together."""

import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
)

A = sparse.csr_array(np.array([[1.0, 1, 1, 0, 0], [0, 0, 1, -1, 2]]))
K, SCALE = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
LAWS = {
    "normal": lambda batch: ConstrainedNormal(torch.zeros(*batch, 5), SCALE, A, K),
    "low rank": lambda batch: ConstrainedLowRankMultivariateNormal(
        torch.zeros(*batch, 5), torch.ones(5, 1), SCALE, A, K
    ),
    "Student-t": lambda batch: ConstrainedMultivariateStudentT(
        torch.full(batch, 5.0), torch.zeros(5), scale=SCALE, A=A, k=K
    ),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("batch", [(), (3,), (30,), (0,)])
@pytest.mark.parametrize("shape", [(50,), (10, 5), (1,), ()])
def test_equal(name, batch, shape):
    law = LAWS[name](batch)
    torch.manual_seed(0)
    draws = law.sample(shape)
    torch.manual_seed(0)
    together = law.rsample(shape) if name == "Student-t" else _at_once(law, shape)
    assert draws.shape == (*shape, *batch, 5)
    assert (draws - together).abs().amax().item() <= 1e-12 if draws.numel() else True


def _at_once(law, shape):
    conditional = law._conditional
    return conditional.draw(torch.randn(*shape, *law.batch_shape, conditional.noise_size))


def test_a_gradient_takes_them_together():
    loc = torch.zeros(5, requires_grad=True)
    draws = ConstrainedNormal(loc, SCALE, A, K).rsample((50,))
    (gradient,) = torch.autograd.grad(draws.sum(), loc)
    rows = A.toarray() * SCALE.numpy()
    free = np.eye(5) - rows.T @ np.linalg.solve(rows @ rows.T, rows)
    expected = 50 * (SCALE.numpy() @ free) / SCALE.numpy()
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-11)
