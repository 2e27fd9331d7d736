import torch

from pyro_constrained import ConstrainedCategorical

# Three dice, values 0 to 5, that show 12 in all.
law = ConstrainedCategorical(torch.ones(3, 6) / 6, torch.ones(3), 12)
print(law.marginal_log_prob()[0].exp())  # tensor([0.0000, 0.0000, 0.1000, 0.2000, 0.3000, 0.4000])
print(law.mean, law.variance)  # tensor([4.0000, 4.0000, 4.0000]) tensor([1.0000, 1.0000, 1.0000])
print(f"{law.constraint_log_prob().exp():.6f}", len(law.enumerate_support()))  # 0.0463 10

# Levels with coefficients: the first counts twice.
weighted = ConstrainedCategorical(torch.ones(3, 6) / 6, torch.tensor([2, 1, 1]), 12)
print(weighted.mean)  # tensor([3.3529, 2.6471, 2.6471])
