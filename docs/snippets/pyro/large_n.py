import torch

from pyro_constrained import ConstrainedLowRankMultivariateNormal, ConstrainedNormal, GroupSum

n = 100_000
groups = GroupSum(torch.arange(n) // 10, num_groups=n // 10)
law = ConstrainedNormal(torch.zeros(n), torch.ones(n), groups, torch.ones(n // 10))
torch.manual_seed(0)
x = law.rsample()
print(bool(abs(law.residual(x)).max() < 1e-5), bool(law.log_prob(x) < 0))  # True True
print(law.variance[:2])  # tensor([0.9000, 0.9000])

factor = ConstrainedLowRankMultivariateNormal(
    0.0, torch.ones(n, 1) / 100, torch.ones(n), groups, torch.ones(n // 10)
)
print(factor.mean[:2])  # tensor([0.1000, 0.1000])
