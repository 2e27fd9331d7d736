"""Laws with a concrete A of two parameters, to be run in other ways than eagerly."""

import torch

from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
    ConstrainedNormal,
    GroupSum,
)
from tests.on_pyro.models import tensor

A, K = tensor([[1.0, 0.5, -1.0, 0.0], [0.0, 1.0, -1.0, 2.0]]), tensor([1.0, 0.5])
REDUNDANT, REDUNDANT_K = torch.cat([A, A.sum(0, keepdim=True)]), tensor([1.0, 0.5, 1.5])
GROUPS, ONES = GroupSum([0, 0, 1, 1], num_groups=2), torch.ones(4, dtype=torch.float64)
MIXING = tensor(
    [[1.0, 0.3, 0.0, -0.2], [0.1, 0.8, 0.2, 0.0], [0.5, 0.0, 1.1, 0.4], [0, -0.6, 0, 1]]
)
FACTOR = MIXING[:, :2]
LOC, SCALE = tensor([0.1, -0.2, 0.3, 0.0]), tensor([1.0, 0.5, 2.0, 1.5])
WEIGHTS = tensor([1.0, -2.0, 0.5, 3.0])


def covariance(scale: torch.Tensor) -> torch.Tensor:
    root = MIXING * scale
    return root @ root.mT + scale.diag_embed()


NORMAL, MVN, STUDENT = (
    ConstrainedNormal,
    ConstrainedMultivariateNormal,
    ConstrainedMultivariateStudentT,
)
LAWS = {
    "diagonal": lambda loc, scale, **kw: NORMAL(loc, scale, A, K, **kw),
    "number": lambda loc, scale, **kw: NORMAL(loc, scale[..., :1], A, K, **kw),
    "redundant": lambda loc, scale, **kw: NORMAL(loc, scale, REDUNDANT, REDUNDANT_K, **kw),
    "groups": lambda loc, scale, **kw: NORMAL(loc, scale, GROUPS, K, **kw),
    "row": lambda loc, scale, **kw: NORMAL(loc, scale, ONES, 0.7, **kw),
    "dense": lambda loc, scale, **kw: MVN(loc, covariance(scale), A, K, **kw),
    "dense groups": lambda loc, scale, **kw: MVN(loc, covariance(scale), GROUPS, K, **kw),
    "precision": lambda loc, scale, **kw: MVN(
        loc, A=A, k=K, precision_matrix=covariance(scale), **kw
    ),
    "low rank": lambda loc, scale, **kw: ConstrainedLowRankMultivariateNormal(
        loc, FACTOR * scale[..., :1, None], scale, A, K, **kw
    ),
    "student": lambda loc, scale, **kw: STUDENT(
        scale[..., 1] + 3, loc, A=A, k=K, scale=scale, **kw
    ),
    "student groups": lambda loc, scale, **kw: STUDENT(
        scale[..., 1] + 3, loc, A=GROUPS, k=K, scale=scale, per_group=True, **kw
    ),
    "student dense": lambda loc, scale, **kw: STUDENT(
        scale[..., 1] + 3, loc, torch.linalg.cholesky(covariance(scale)), A, K, **kw
    ),
}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
