import pyro.distributions as dist
import torch

from pyro_constrained import ConstrainedMultivariateNormal, constrain

base = dist.Normal(torch.zeros(3), torch.tensor([1.0, 1.0, 2.0])).to_event(1)
law = constrain(base, torch.ones(3), 6.0)
print(type(law).__name__, law.mean)  # ConstrainedNormal tensor([1., 1., 4.])

counts = dist.Poisson(torch.tensor([1.0, 2.0, 3.0])).to_event(1)
print(constrain(counts, torch.ones(3), 6).mean)  # tensor([1., 2., 3.])


# A law of one's own: a stationary autoregression, by its dense covariance.
class Autoregression(dist.TorchDistribution):
    arg_constraints = {}

    def __init__(self, size, correlation):
        self.size, self.correlation = size, correlation
        super().__init__(torch.Size(), torch.Size((size,)))


@constrain.register(Autoregression)
def constrain_autoregression(base, A, k, **kw):
    time = torch.arange(base.size)
    covariance = base.correlation ** (time[:, None] - time).abs()
    return ConstrainedMultivariateNormal(torch.zeros(base.size), covariance, A, k, **kw)


walk = constrain(Autoregression(5, 0.8), torch.ones(5), 10.0)
print(walk.mean)  # tensor([1.8565, 2.0721, 2.1428, 2.0721, 1.8565])
