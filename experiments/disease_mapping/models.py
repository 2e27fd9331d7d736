"""BYM2: deaths from a spatial effect that sums to zero, and an independent one.

    deaths_i ~ Poisson(expected_i risk_i)
    log risk_i = intercept + sigma (sqrt(share) phi_i + sqrt(1 - share) theta_i)
    theta_i ~ Normal(0, 1),  phi ~ the intrinsic field of the map, scaled to a typical variance of 1

(Riebler, Soerbye, Simpson, Rue 2016, *An intuitive Bayesian spatial model for disease mapping that
accounts for scaling*). The density of phi is that of differences of neighbours; it is proper given
that phi sums to zero. That sum is a law here, and a narrow likelihood in the usual programs
(Morris et al. 2019, *Bayesian hierarchical spatial models: implementing the Besag York Mollie model
in Stan*, width .001 n).
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from constrained_core.fields import Field
from numpyro_constrained import ConstrainedGMRF

Effect = Callable[[], Array]
"""Samples ``(n,)`` spatial effects."""
Model = Callable[[Array, Array], None]

WIDTHS = (0.1, 0.001)


def constrained(field: Field) -> Effect:
    """The field given its sum, exactly."""

    def phi() -> Array:
        law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)
        return numpyro.sample("phi", law)

    return phi


def soft_sum(field: Field, width: float) -> Effect:
    """Differences of neighbours, and a sum that is seen with an error of ``width`` times n."""
    root = field.root
    first, second = (root.column[np.lexsort((root.column, root.row))][i::2] for i in (0, 1))
    weight = np.abs(np.asarray(root.values)[np.lexsort((root.column, root.row))][::2])
    size = root.shape[1]

    def phi() -> Array:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), (size,))
        value = numpyro.sample("phi", flat)
        steps = weight * (value[first] - value[second])
        numpyro.factor("differences", -0.5 * jnp.square(steps).sum())
        numpyro.sample("sum", dist.Normal(value.sum(), width * size), obs=0.0)
        return value

    return phi


def disease_model(effect: Effect) -> Model:
    """Deaths of the counties."""

    def model(expected: Array, deaths: Array) -> None:
        intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        share = numpyro.sample("share", dist.Beta(1.0, 1.0))
        phi = effect()
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0).expand(expected.shape).to_event(1))
        total = jnp.sqrt(share) * phi + jnp.sqrt(1 - share) * theta
        log_risk = numpyro.deterministic("log_risk", intercept + sigma * total)
        mean = expected * jnp.exp(log_risk)
        numpyro.sample("deaths", dist.Poisson(mean).to_event(1), obs=deaths)

    return model


OURS = "ours"
METHODS = (OURS, *(f"soft sum, width {width:g} n" for width in WIDTHS))


def build(method: str, field: Field) -> Model:
    """The model by a method."""
    if method == OURS:
        return disease_model(constrained(field))
    return disease_model(soft_sum(field, WIDTHS[METHODS.index(method) - 1]))
