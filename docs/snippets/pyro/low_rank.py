import torch

from pyro_constrained import ConstrainedLowRankMultivariateNormal

# Six returns that move with one market factor, in a portfolio whose weighted sum is known.
market = torch.tensor([[1.2], [1.0], [0.8], [0.5], [0.3], [0.1]])
weights = torch.tensor([0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
law = ConstrainedLowRankMultivariateNormal(
    loc=torch.zeros(6), cov_factor=market, cov_diag=0.2 * torch.ones(6), A=weights, k=0.5
)
print(law.mean)  # tensor([0.7413, 0.6105, 0.4942, 0.3053, 0.1889, 0.0725])
print(law.stddev)  # tensor([0.3317, 0.4026, 0.4000, 0.4365, 0.4366, 0.4420])

# The value of one more measurement: without it the deviations are these.
print(law.base_dist.variance**0.5)  # tensor([1.2806, 1.0954, 0.9165, 0.6708, 0.5385, 0.4583])
print(f"{law.entropy():.4f} {law.constraint_log_prob():.4f}")  # 3.0921 -0.9174
