import pyro.distributions as dist
import torch

from pyro_constrained import FiberSampler

# A 4 x 4 table with margins of 900: more than 10^23 tables, too many for a sum over them.
rows, columns = torch.eye(4).repeat_interleave(4, 1), torch.eye(4).repeat(1, 4)
margins = torch.cat([rows, columns])
base = dist.Poisson(torch.linspace(1.0, 3.0, 16) ** 2).to_event(1)
sampler = FiberSampler(base, margins, torch.full((8,), 900.0))
print(sampler.connectivity.is_connected)  # True

torch.manual_seed(0)
draws = sampler.run(num_draws=400, num_chains=2, warmup=100, thinning=2)
print(tuple(draws.shape), bool((draws @ margins.T == 900).all()))  # (2, 400, 16) True
found = sampler.diagnostics()
print(bool(found.ess.min() > 200), bool(found.r_hat.max() < 1.05))  # True True
