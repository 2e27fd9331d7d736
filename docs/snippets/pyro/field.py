import pyro
import pyro.distributions as dist
import torch

from pyro_constrained import ConstrainedGMRF, auto_reparam, fields

# Counts along a line of eight places, with a smooth effect that sums to zero.
field = fields.besag([[i, i + 1] for i in range(7)], scaled=True)
print(field.precision)  # SparseMatrix(shape=(8, 8), 22 entries)
print(field.A)  # GroupSum(8 variables, num_groups=1, unweighted)


@pyro.poutine.reparam(config=auto_reparam)
def model(counts, expected):
    level = pyro.sample("level", dist.Normal(0.0, 1.0))
    tau = pyro.sample("tau", dist.Gamma(2.0, 1.0))
    Q = field.precision.with_values(tau * torch.tensor(field.precision.values))
    D = field.root.with_values(tau.sqrt() * torch.tensor(field.root.values))
    law = ConstrainedGMRF(0.0, Q, field.A, field.k, precision_root=D)
    effect = pyro.sample("effect", law)
    rate = expected * (level + effect).exp()
    pyro.sample("counts", dist.Poisson(rate).to_event(1), obs=counts)


pyro.set_rng_seed(0)
counts = torch.tensor([3.0, 5.0, 4.0, 8.0, 9.0, 7.0, 2.0, 1.0])
trace = pyro.poutine.trace(model).get_trace(counts, torch.full((8,), 5.0))
print(bool(abs(trace.nodes["effect"]["value"].sum()) < 1e-5))  # True
