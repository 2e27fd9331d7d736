import io
import pickle

import torch
from torch import nn

from pyro_constrained import ConstrainedNormal


class Head(nn.Module):
    """A network whose output law obeys a sum; A and k are buffers and travel with it."""

    def __init__(self, size):
        super().__init__()
        self.loc, self.scale = nn.Linear(3, size), nn.Parameter(torch.zeros(size))
        self.register_buffer("A", torch.ones(size))

    def forward(self, features, k):
        return ConstrainedNormal(self.loc(features), self.scale.exp(), self.A, k)


torch.manual_seed(0)
head, features = Head(4), torch.ones(3)
file = io.BytesIO()
torch.save(head.state_dict(), file)
again = Head(4)
again.load_state_dict(torch.load(io.BytesIO(file.getvalue())))
law, same = head(features, 1.0), again(features, 1.0)
print(torch.equal(law.mean, same.mean), f"{law.mean.sum():.4f}")  # True 1.0000

# A law itself can be pickled.
copy = pickle.loads(pickle.dumps(law))
print(torch.equal(copy.mean, law.mean))  # True
