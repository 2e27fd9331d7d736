import pyro
import torch

from pyro_constrained import ConstrainedNormal, ConstrainedPoisson

# Parameters, k and a dense A broadcast; one analysis of A serves the batch.
k = torch.tensor([1.0, 2.0, 3.0])
law = ConstrainedNormal(torch.zeros(3, 4), torch.ones(4), torch.ones(4), k)
print(tuple(law.batch_shape))  # (3,)
print(tuple(law.event_shape))  # (4,)
print(law.mean[:, 0])  # tensor([0.2500, 0.5000, 0.7500])


def model(k):
    with pyro.plate("problems", len(k)):
        return pyro.sample("x", ConstrainedNormal(0.0, torch.ones(4), torch.ones(4), k))


pyro.set_rng_seed(0)
print(model(k).sum(-1))  # tensor([1.0000, 2.0000, 3.0000])

# Counts: A is one matrix, k may differ from element to element.
counts = ConstrainedPoisson(torch.ones(4), torch.ones(4), torch.tensor([2, 5, 9]))
print(tuple(counts.batch_shape), counts.mean[:, 0])  # (3,) tensor([0.5000, 1.2500, 2.2500])
