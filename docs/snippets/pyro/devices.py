import torch

from pyro_constrained import ConstrainedNormal

device = "cuda" if torch.cuda.is_available() else "cpu"
A = torch.ones(2, 6)
A[1, 3:] = 0.0
loc = torch.zeros(512, 6, device=device)  # a batch of laws that share A: it is analysed once
law = ConstrainedNormal(loc, 1.0, A.to(device), torch.tensor([2.0, 1.0], device=device))
x = law.rsample()
print(x.device.type == device)  # True
print(tuple(x.shape))  # (512, 6)
print(bool(abs(law.residual(x)).max() < 1e-5))  # True
