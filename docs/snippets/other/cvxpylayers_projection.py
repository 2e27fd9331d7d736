import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer

point, nearest = cp.Parameter(3), cp.Variable(3)
problem = cp.Problem(cp.Minimize(cp.sum_squares(nearest - point)), [cp.sum(nearest) == 6])
layer = CvxpyLayer(problem, parameters=[point], variables=[nearest])
(found,) = layer(torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64))
print(found)  # tensor([1.3333, 2.3333, 2.3333], dtype=torch.float64)
