import torch

from pyro_constrained import ConstrainedGMRF, fields

# f(region, model = "besag", graph = g, scale.model = TRUE, constr = TRUE)
edges = [[0, 1], [1, 2], [2, 3], [3, 0], [3, 4]]
field = fields.besag(edges, scaled=True)
law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)
print(law.variance)  # tensor([0.9227, 1.0410, 0.9227, 0.5678, 1.9873], dtype=torch.float64)
print(f"{law.variance.log().mean().exp():.4f}")  # 1.0000

# extraconstr = list(A = matrix(c(1, 0, 0, 0, -1), 1), e = 1): one more row
rows = torch.cat([torch.ones(1, 5), torch.tensor([[1.0, 0, 0, 0, -1]])])
law = ConstrainedGMRF(0.0, field.precision, rows, torch.tensor([0.0, 1.0]))
print(law.mean)  # tensor([ 0.3714, 0.2286, 0.0857, -0.0571, -0.6286], dtype=torch.float64)
