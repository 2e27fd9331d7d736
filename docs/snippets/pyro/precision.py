import torch

from pyro_constrained import ConstrainedNormal

# Half-precision parameters are computed with in float32, under autocast too.
loc = torch.zeros(4, dtype=torch.bfloat16)
with torch.autocast("cpu", dtype=torch.bfloat16):
    law = ConstrainedNormal(loc, torch.ones(4, dtype=torch.bfloat16), torch.ones(4), 2.0)
    x = law.rsample()
print(x.dtype, bool(abs(x.sum() - 2.0) < 1e-5))  # torch.float32 True

# float64 throughout: all parameters of that dtype. Data of another precision are read in it.
law = ConstrainedNormal(torch.zeros(4, dtype=torch.float64), 1.0, torch.ones(4), 2.0)
print(law.rsample().dtype, law.log_prob(x).dtype)  # torch.float64 torch.float64
