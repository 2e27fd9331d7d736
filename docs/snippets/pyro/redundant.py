import torch

from pyro_constrained import ConstrainedNormal, InfeasibleConstraintError

# Both margins of a 2 x 2 table: four rows, of which three are independent.
margins = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
law = ConstrainedNormal(torch.zeros(4), torch.ones(4), margins, torch.tensor([3.0, 4, 5, 2]))
print(law.rank, law.mean)  # 3 tensor([2.2500, 0.7500, 2.7500, 1.2500])

try:
    ConstrainedNormal(torch.zeros(4), torch.ones(4), margins, torch.tensor([3.0, 4, 5, 9]))
except InfeasibleConstraintError as error:
    print(str(error)[:60])  # A x = k has no solution: row 3 of A depends on other rows, w
