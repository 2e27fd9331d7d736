import torch

from pyro_constrained import ConstrainedNormal, GroupSum

# Charges of five atoms in two molecules, each molecule neutral.
molecule = torch.tensor([0, 0, 0, 1, 1])
law = ConstrainedNormal(
    loc=torch.tensor([0.5, 0.4, -1.2, 0.7, -0.6]),
    scale=torch.tensor([0.1, 0.1, 0.3, 0.1, 0.1]),
    A=GroupSum(molecule, num_groups=2),
    k=torch.zeros(2),
)
print(law.mean)  # tensor([ 0.5273, 0.4273, -0.9545, 0.6500, -0.6500])

# Weighted sums: masses that balance, here with coefficients 2 and 1.
weights = torch.tensor([2.0, 1.0, 1.0])
balance = GroupSum([0, 0, 0], num_groups=1, weights=weights)
law = ConstrainedNormal(0.0, torch.ones(3), balance, torch.tensor([6.0]))
print(law.mean)  # tensor([2., 1., 1.])
