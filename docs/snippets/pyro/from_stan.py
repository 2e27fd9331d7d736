import torch

from pyro_constrained import ConstrainedNormal

# beta ~ normal(0, 2) on a sum_to_zero_vector[5]
law = ConstrainedNormal(0.0, 2.0 * torch.ones(5), torch.ones(5), 0.0)
print(law.stddev[0])  # tensor(1.7889)

# with the scale of Stan's manual, sqrt(N * inv(N - 1)), each beta has deviation 2
law = ConstrainedNormal(0.0, 2.0 * (5 / 4) ** 0.5 * torch.ones(5), torch.ones(5), 0.0)
print(law.stddev[0])  # tensor(2.)
