import torch
from scipy.stats import multivariate_normal

from pyro_constrained import ConstrainedMultivariateNormal

Sigma = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.0]], dtype=torch.float64)
A = torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
law = ConstrainedMultivariateNormal(torch.zeros(3, dtype=torch.float64), Sigma, A, [6.0])

x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
singular = multivariate_normal(law.mean, law.covariance, allow_singular=True)
print(f"{singular.logpdf(x):.8f} {law.log_prob(x):.8f}")  # -3.74724309 -3.74724309
