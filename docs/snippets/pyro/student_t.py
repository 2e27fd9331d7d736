import torch

from pyro_constrained import ConstrainedMultivariateStudentT, GroupSum

loc, scale = torch.zeros(5), torch.ones(5)
law = ConstrainedMultivariateStudentT(4.0, loc, A=torch.ones(5), k=1.0, scale=scale)
far = ConstrainedMultivariateStudentT(4.0, loc, A=torch.ones(5), k=30.0, scale=scale)
print(law.mean, law.stddev[0])  # tensor([0.2000, 0.2000, 0.2000, 0.2000, 0.2000]) tensor(1.0583)
print(far.mean, far.stddev[0])  # tensor([6., 6., 6., 6., 6.]) tensor(7.0048)

# A heavy-tailed factor for each group, instead of one for all.
groups = GroupSum([0, 0, 0, 1, 1], num_groups=2)
k = torch.tensor([0.0, 30.0])
each = ConstrainedMultivariateStudentT(4.0, loc, A=groups, k=k, scale=scale, per_group=True)
print(each.stddev)  # tensor([0.9428, 0.9428, 0.9428, 8.6987, 8.6987])
