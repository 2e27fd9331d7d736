import torch

from pyro_constrained import ConstrainedPoisson, IntractableConstraintError

# Both margins of a 3 x 4 table of thousands: a closed form, for rates that are products ...
A = torch.cat([torch.eye(3).repeat_interleave(4, 1), torch.eye(4).repeat(1, 3)])
table = torch.arange(1.0, 13.0) * 500
rate = torch.outer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])).flatten()
law = ConstrainedPoisson(rate, A, A @ table)
print(law.mean[:4])  # tensor([ 961.5385, 1153.8462, 1346.1539, 1538.4615])

# ... one more sum needs a dynamic programme, and these counts are too large for it.
A = torch.cat([A, torch.tensor([[1.0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0]])])
try:
    ConstrainedPoisson(rate, A, A @ table)
except IntractableConstraintError as error:
    print("draw with FiberSampler" in str(error))  # True
