import torch

from pyro_constrained import ConstrainedGMRF, fields

# An intrinsic field on a 20 x 20 lattice: neighbours differ by a standard normal, the sum is zero.
field = fields.lattice((20, 20))
law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)

torch.manual_seed(0)
x = law.rsample((3,))
print(x.shape[-1], bool(abs(law.residual(x)).max() < 1e-4))  # 400 True
print(law.variance.reshape(20, 20)[0, :3])  # tensor([1.7257, 1.4259, 1.2724], dtype=torch.float64)
print(f"{law.log_prob(0 * law.mean):.4f}")  # -148.4871

# A precision parameter tau multiplies Q, and its square root D; gradients flow to it.
tau = torch.tensor(2.0, requires_grad=True)
Q = field.precision.with_values(tau * torch.tensor(field.precision.values))
scaled = ConstrainedGMRF(0.0, Q, field.A, field.k)
(slope,) = torch.autograd.grad(scaled.log_prob(torch.zeros(400)), tau)
print(f"{slope:.4f}")  # 99.7500
