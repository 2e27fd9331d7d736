import pyro
import pyro.distributions as dist
import torch

from pyro_constrained import ConstrainedNormal, ConstrainedPoisson, auto_reparam


# k changes from call to call: reparametrise the latent site.
@pyro.poutine.reparam(config=auto_reparam)
def model(k):
    return pyro.sample("x", ConstrainedNormal(0.0, torch.ones(4), torch.ones(4), k))


pyro.set_rng_seed(0)
print([f"{model(torch.tensor(k)).sum():.4f}" for k in (1.0, 2.0)])  # ['1.0000', '2.0000']


# k was measured with noise: sample it, and observe the measurement.
@pyro.poutine.reparam(config=auto_reparam)
def noisy(measured):
    k = pyro.sample("k", dist.Normal(0.0, 10.0))
    pyro.sample("measured", dist.Normal(k, 0.5), obs=measured)
    return pyro.sample("x", ConstrainedNormal(0.0, torch.ones(4), torch.ones(4), k))


# Counts: one plan for all k up to k_max, made once.
totals = torch.tensor([3.0, 5.0])
law = ConstrainedPoisson(torch.tensor([1.0, 2.0]), torch.ones(2), totals, k_max=10)
print(law.mean[1])  # tensor([1.6667, 3.3333])
