import torch

from pyro_constrained import ConstrainedMultivariateNormal

# A network's output loc with a covariance, to be brought onto x1 + x2 + x3 = 6.
loc = torch.tensor([1.0, 2.0, 2.0])
Sigma = torch.diag(torch.tensor([0.01, 1.0, 4.0]))
law = ConstrainedMultivariateNormal(loc, Sigma, torch.ones(3), 6.0)

# A projection layer (OptNet with a square loss, a KKT layer, Pinet) answers with the nearest point:
print(law.project(loc))  # tensor([1.3333, 2.3333, 2.3333])
# The conditional law leaves alone what is known well:
print(law.mean)  # tensor([1.0020, 2.1996, 2.7984])

# Projected draws have another law: their deviations are not the conditional ones.
P = torch.eye(3) - torch.ones(3, 3) / 3
print((P @ Sigma @ P).diagonal().sqrt())  # tensor([0.7483, 0.9434, 1.3748])
print(law.stddev)  # tensor([0.0999, 0.8947, 0.8980])
