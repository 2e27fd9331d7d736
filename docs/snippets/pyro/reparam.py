import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from pyro_constrained import ConstrainedNormal, auto_reparam


@pyro.poutine.reparam(config=auto_reparam)
def model(seen):  # parts of a total that is itself unknown
    total = pyro.sample("total", dist.Normal(10.0, 5.0))
    parts = pyro.sample("parts", ConstrainedNormal(3.0, torch.ones(3), torch.ones(3), total))
    pyro.sample("seen", dist.Normal(parts[:2], 0.1).to_event(1), obs=seen)


pyro.set_rng_seed(0)
seen = torch.tensor([2.0, 5.0])
guide = AutoNormal(model)
svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
losses = [svi.step(seen) for _ in range(20)]

trace = pyro.poutine.trace(model).get_trace(seen)
total, parts = trace.nodes["total"]["value"], trace.nodes["parts"]["value"]
print(bool(torch.isclose(parts.sum(), total)))  # True
print(sorted(site for site in guide()))  # ['parts_base', 'total']
