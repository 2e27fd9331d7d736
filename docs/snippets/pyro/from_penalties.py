import torch

from pyro_constrained import ConstrainedNormal

loc, scale, A, k = torch.zeros(3), torch.tensor([1.0, 1.0, 3.0]), torch.ones(3), 6.0
law = ConstrainedNormal(loc, scale, A, k)
print(law.mean, law.stddev)  # tensor([0.5455, 0.5455, 4.9091]) tensor([0.9535, 0.9535, 1.2792])


# A narrow likelihood Normal(A x; k, eps) instead: the exact posterior, for three widths.
def penalised(eps):
    precision = torch.diag(scale**-2) + torch.outer(A, A) / eps**2
    mean = torch.linalg.solve(precision, A * k / eps**2)
    return f"{mean.sum() - k:.3f}", f"{torch.linalg.cond(precision):.0f}"


print(penalised(1.0))  # ('-0.500', '11')
print(penalised(0.1))  # ('-0.005', '739')
print(penalised(0.03))  # ('-0.000', '8185')
