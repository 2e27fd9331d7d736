import pyro
import pyro.distributions as dist
import torch

from pyro_constrained import ConstrainedNormal


def model(y):  # two-way effects, each of which sums to zero
    level = pyro.sample("level", dist.Normal(0.0, 5.0))
    rows = pyro.sample("rows", ConstrainedNormal(0.0, torch.ones(3), torch.ones(3), 0.0))
    columns = pyro.sample("columns", ConstrainedNormal(0.0, torch.ones(4), torch.ones(4), 0.0))
    mean = level + rows[:, None] + columns
    return pyro.sample("y", dist.Normal(mean, 0.5).to_event(2), obs=y)


pyro.set_rng_seed(0)
trace = pyro.poutine.trace(model).get_trace(torch.zeros(3, 4))
print(f"{abs(trace.nodes['rows']['value'].sum()):.4f}")  # 0.0000
print(f"{abs(trace.nodes['columns']['value'].sum()):.4f}")  # 0.0000

# Interactions that sum to zero along both directions: one site, rank 3 + 4 - 1.
both = torch.cat([torch.eye(3).repeat_interleave(4, 1), torch.eye(4).repeat(1, 3)])
law = ConstrainedNormal(0.0, torch.ones(12), both, torch.zeros(7))
print(law.rank, f"{law.variance[0]:.4f}")  # 6 0.5000
