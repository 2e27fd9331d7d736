import torch

from pyro_constrained import ConstrainedNormal, ConstraintError

law = ConstrainedNormal(torch.zeros(3), torch.ones(3), torch.ones(3), 6.0)
measured = torch.tensor([1.0, 2.0, 3.01])  # obeys the law only to a hundredth
try:
    law.log_prob(measured)
except ConstraintError as error:
    print(str(error)[:67])  # value: expected A x = k within the relative tolerance 1.0e-04, got

print(f"{law.log_prob(law.project(measured)):.4f}")  # -2.8479

# Or: a wider tolerance, or no check, where the density off the subspace is zero.
wide = ConstrainedNormal(torch.zeros(3), torch.ones(3), torch.ones(3), 6.0, support_tolerance=1e-2)
free = ConstrainedNormal(torch.zeros(3), torch.ones(3), torch.ones(3), 6.0, validate_args=False)
print(f"{wide.log_prob(measured):.4f} {free.log_prob(measured):.4f}")  # -2.8479 -inf
