import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from numpyro_constrained import ConstrainedNormal, auto_reparam


def parts_of_a_total(seen):  # the total is itself unknown
    total = numpyro.sample("total", dist.Normal(10.0, 5.0))
    parts = numpyro.sample("parts", ConstrainedNormal(3.0, jnp.ones(3), jnp.ones(3), total))
    numpyro.sample("seen", dist.Normal(parts[:2], 0.1).to_event(1), obs=seen)


model = numpyro.handlers.reparam(parts_of_a_total, config=auto_reparam)
seen = jnp.array([2.0, 5.0])
guide = AutoNormal(model)
svi = SVI(model, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
result = svi.run(jax.random.key(0), 20, seen, progress_bar=False)

trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace(seen)
total, parts = trace["total"]["value"], trace["parts"]["value"]
print(bool(jnp.isclose(parts.sum(), total)))  # True
draw = guide.sample_posterior(jax.random.key(1), result.params)
print(sorted(draw))  # ['parts', 'parts_base', 'total']
