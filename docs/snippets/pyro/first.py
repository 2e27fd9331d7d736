import pyro
import torch

from pyro_constrained import ConstrainedNormal


def model(k):  # three parts of a whole k, the third one less certain
    loc, scale = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 2.0])
    return pyro.sample("x", ConstrainedNormal(loc, scale, torch.ones(3), k))


pyro.set_rng_seed(0)
x = model(6.0)
print(f"{x.sum():.4f}")  # 6.0000
