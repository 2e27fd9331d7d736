import torch

from pyro_constrained import ConstrainedNormal

loc, scale = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 2.0])
law = ConstrainedNormal(loc, scale, A=torch.ones(3), k=6.0)
print(law.mean)  # tensor([1.5000, 1.5000, 3.0000])
print(law.stddev)  # tensor([0.9129, 0.9129, 1.1547])

# Exact expected losses, without a sample: absolute error, squared error, CRPS.
target = torch.tensor([1.0, 2.0, 3.0])
print(law.expected_l1(target))  # tensor([0.8350, 0.8350, 0.9213])
print(law.expected_l2(target))  # tensor([1.0833, 1.0833, 1.3333])
print(law.crps(target))  # tensor([0.3199, 0.3199, 0.2698])

# A measurement that misses the sum: the nearest point of the subspace.
print(law.project(torch.tensor([1.0, 2.0, 3.3])))  # tensor([0.9000, 1.9000, 3.2000])
