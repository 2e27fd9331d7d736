"""Reparametrisations of constrained sites for ``handlers.reparam``."""

from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer.reparam import Reparam

from constrained_core import ConstraintError
from constrained_core.checks.arguments import check_site
from numpyro_constrained.distributions.discrete import ConstrainedDiscrete
from numpyro_constrained.distributions.gaussian import ConstrainedGaussian

__all__ = ["ConstrainedNormalReparam", "MarginalExpectationReparam", "auto_reparam"]

_NORMAL = "ConstrainedNormalReparam", "a constrained normal law"
_DISCRETE = "MarginalExpectationReparam", "a constrained discrete law"


class ConstrainedNormalReparam(Reparam):
    """A constrained normal site becomes white noise and a deterministic map of it.

    The site ``NAME`` is replaced by ``NAME_base`` ~ Normal(0, 1) and a deterministic ``NAME`` that
    is smooth in the noise and in every parameter. It stays right when A's values, k, loc or the
    covariance are themselves sampled or learned, or change with the minibatch.

    The noise z has dimension n - r, and ``NAME`` = mean + C z with C C' the covariance of the law,
    where A is fixed: an array of NumPy, a list, a ``GroupSum``, or a JAX array of whole numbers.
    Where A moves no such basis is smooth; there z has dimension n, and ``NAME`` is kriged from it:
    mu + L z, moved within the covariance to A x = k.

    A guide on the site itself would be tied to the subspace that it saw first.

    Raises:
        ConstraintError: the site is not a constrained normal, or is observed.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> def model():
        ...     k = numpyro.sample("k", dist.Normal(0.0, 1.0))
        ...     law = ConstrainedNormal(jnp.zeros(3), jnp.ones(3), jnp.ones(3), k)
        ...     return numpyro.sample("x", law)
        >>> from numpyro_constrained import ConstrainedNormal
        >>> model = numpyro.handlers.reparam(model, config={"x": ConstrainedNormalReparam()})
        >>> model = numpyro.handlers.seed(model, rng_seed=0)
        >>> numpyro.handlers.trace(model).get_trace()["x_base"]["value"].shape
        (2,)
    """

    def __call__(self, name: str, fn: Any, obs: Any) -> tuple[None, Any]:
        fn, expand_shape, event_dim = self._unwrap(fn)
        fits = isinstance(fn, ConstrainedGaussian)
        check_site(*_NORMAL, name, fn, fits, obs is not None)
        law = fn._conditional
        base = dist.Normal(jnp.zeros((), law.loc.dtype), 1.0)
        base = base.expand(expand_shape + (law.base_size,)).to_event(1)
        noise = numpyro.sample(f"{name}_base", self._wrap(base, expand_shape, event_dim))
        if noise.shape[-1] != law.base_size:
            raise ConstraintError(
                f"{name}_base: expected {law.base_size} entries, got {noise.shape[-1]}: A was "
                "fixed in one run of the model, and sampled or learned in another; give a fixed A "
                "as a NumPy array or a GroupSum, and start a learned one as a JAX array off whole "
                "numbers."
            )
        return None, law.from_base(noise.astype(law.loc.dtype))


class MarginalExpectationReparam(Reparam):
    """A constrained discrete site is drawn exactly, with the gradient of its constrained mean.

    ELBOs then differentiate through the draw, which is floating: low variance, biased for
    functions that are not linear (for Bernoulli: SIMPLE, Ahmed et al. 2023). It is for the guide
    whose site is drawn, and does what ``gradient_estimator="marginal_expectation"`` does.

    Raises:
        ConstraintError: the site is not a constrained discrete law, or is observed.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpyro
        >>> from numpyro_constrained import ConstrainedBernoulli
        >>> def guide(logits):
        ...     return numpyro.sample("x", ConstrainedBernoulli(logits=logits, A=jnp.ones(3), k=1))
        >>> guide = numpyro.handlers.reparam(guide, config={"x": MarginalExpectationReparam()})
        >>> guide = numpyro.handlers.seed(guide, rng_seed=0)
        >>> import jax
        >>> print(jax.grad(lambda logits: guide(logits)[0])(jnp.zeros(3)))
        [ 0.222... -0.111... -0.111...]
    """

    def __call__(self, name: str, fn: Any, obs: Any) -> tuple[Any, Any]:
        fn, expand_shape, event_dim = self._unwrap(fn)
        fits = isinstance(fn, ConstrainedDiscrete)
        check_site(*_DISCRETE, name, fn, fits, obs is not None)
        law = fn.with_estimator("marginal_expectation").expand(expand_shape)
        return self._wrap(law, expand_shape, event_dim), None


def auto_reparam(site: Any = None) -> Any:
    """Configuration of ``handlers.reparam`` that picks the right reparametrisation of each site.

    Constrained normal sites that are latent get ``ConstrainedNormalReparam``; discrete ones keep
    the estimator that they ask for, and all others are left alone.

    Example:
        >>> import numpyro
        >>> model = lambda: None
        >>> model = numpyro.handlers.reparam(model, config=auto_reparam)
    """
    if site is None:
        return auto_reparam
    law = site["fn"]
    while isinstance(law, dist.Independent | dist.ExpandedDistribution):
        law = law.base_dist
    is_latent = not site["is_observed"]
    return (
        ConstrainedNormalReparam() if is_latent and isinstance(law, ConstrainedGaussian) else None
    )
