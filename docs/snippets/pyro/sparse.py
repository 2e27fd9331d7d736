import numpy as np
import torch
from scipy import sparse

from pyro_constrained import ConstrainedNormal, SparseMatrix

# A ring of 500 pipes: at each junction the two flows differ by what is drawn there.
n = 500
ring = sparse.eye_array(n, format="csr") - sparse.csr_array(np.roll(np.eye(n), 1, axis=0))
demand = np.zeros(n)
demand[0], demand[250] = 1.0, -1.0
law = ConstrainedNormal(0.0, torch.ones(n), ring, demand)
print(law.rank, law.mean[[0, 100, 250, 400]])  # 499 tensor([ 0.5000, 0.5000, -0.5000, -0.5000])

# Learned coefficients: a static pattern, and values with a gradient.
values = torch.tensor([1.0, 2.0, 1.0], requires_grad=True)
A = SparseMatrix([0, 0, 1], [0, 1, 2], values, (2, 3))
law = ConstrainedNormal(0.0, torch.ones(3), A, torch.tensor([1.0, 1.0]))
(slope,) = torch.autograd.grad(law.constraint_log_prob(), values)
print(slope)  # tensor([-0.1600, -0.3200, 0.0000])
