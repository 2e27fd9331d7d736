import torch

from pyro_constrained import ConstrainedNormal

x = torch.tensor([0.5, -1.0, 0.2, 0.3])  # sums to zero
law = ConstrainedNormal(0.0, 1.5 * torch.ones(4), torch.ones(4), 0.0)
print(law.log_prob(x), law.variance[0])  # tensor(-4.2799) tensor(1.6875)

# What a ZeroSumNormal cannot say: unequal scales, weights, another sum, a learned scale of each.
law = ConstrainedNormal(
    loc=torch.tensor([0.1, 0.2, 0.3, 0.4]),
    scale=torch.tensor([0.1, 0.5, 0.5, 1.0]),
    A=torch.tensor([1.0, 1.0, 2.0, 2.0]),
    k=3.0,
)
print(law.mean)  # tensor([0.1025, 0.2618, 0.4236, 0.8943])
