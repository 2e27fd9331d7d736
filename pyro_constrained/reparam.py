"""Reparametrisations of constrained sites for ``poutine.reparam``."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam.reparam import Reparam

from constrained_core.checks.arguments import check_site
from pyro_constrained.distributions.discrete import ConstrainedDiscrete
from pyro_constrained.distributions.gaussian import ConstrainedGaussian

__all__ = ["ConstrainedNormalReparam", "MarginalExpectationReparam", "auto_reparam"]

_NORMAL = "ConstrainedNormalReparam", "a constrained normal law"
_DISCRETE = "MarginalExpectationReparam", "a constrained discrete law"


class ConstrainedNormalReparam(Reparam):
    """A constrained normal site becomes white noise and a deterministic map of it.

    The site ``NAME`` is replaced by ``NAME_base`` ~ Normal(0, 1) and a deterministic ``NAME`` that
    is smooth in the noise and in every parameter. It stays right when A's values, k, loc or the
    covariance are themselves sampled or learned, or change with the minibatch.

    The noise z has dimension n - r, and ``NAME`` = mean + C z with C C' the covariance of the law,
    where A is fixed: an array of NumPy, a list, a ``GroupSum``, or a tensor of whole numbers.
    Where A moves no such basis is smooth, and that of a sparse A is not sparse; there z has
    dimension n, and ``NAME`` is kriged from it: mu + L z, moved within the covariance to A x = k.

    A guide or MCMC kernel on the site itself would be tied to the subspace that it saw first: its
    values would be off the support ever after (an error under ``validate_args``, a log density of
    -inf and a chain that does not move without), and ``Predictive`` would return them unnoticed.

    Raises:
        ConstraintError: the site is not a constrained normal, or is observed.

    Example:
        >>> import torch
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> def model():
        ...     k = pyro.sample("k", dist.Normal(0.0, 1.0))
        ...     law = ConstrainedNormal(torch.zeros(3), torch.ones(3), torch.ones(3), k)
        ...     return pyro.sample("x", law)
        >>> from pyro_constrained import ConstrainedNormal
        >>> with pyro.poutine.reparam(config={"x": ConstrainedNormalReparam()}):
        ...     trace = pyro.poutine.trace(model).get_trace()
        >>> trace.nodes["x_base"]["value"].shape
        torch.Size([2])
    """

    def apply(self, msg: Any) -> Any:
        name, value, is_observed = msg["name"], msg["value"], msg["is_observed"]
        fn, event_dim = self._unwrap(msg["fn"])
        fits = isinstance(fn, ConstrainedGaussian)
        check_site(*_NORMAL, name, fn, fits, is_observed)
        law = fn._conditional
        base = dist.Normal(fn.loc.new_zeros(()), 1.0)
        base = base.expand(fn.batch_shape + (law.base_size,)).to_event(1)
        given = None if value is None else law.to_base(value)
        noise = pyro.sample(
            f"{name}_base",
            self._wrap(base, event_dim),
            obs=given,
            infer={"is_observed": is_observed},
        )
        # Where a value is given to start from, a replayed noise takes its place (Laplace).
        if value is None or noise is not given:
            value = law.from_base(noise)
        fixed = dist.Delta(value, event_dim=event_dim).mask(False)
        return {"fn": fixed, "value": value, "is_observed": True}


class MarginalExpectationReparam(Reparam):
    """A constrained discrete site is drawn exactly, with the gradient of its constrained mean.

    ELBOs then differentiate through the draw instead of weighting scores: low variance, biased for
    functions that are not linear (for Bernoulli: SIMPLE, Ahmed et al. 2023). It is for the guide
    whose site is drawn, and does what ``gradient_estimator="marginal_expectation"`` does.

    Raises:
        ConstraintError: the site is not a constrained discrete law, or is observed.

    Example:
        >>> import torch
        >>> import pyro
        >>> from pyro_constrained import ConstrainedBernoulli
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> def guide():
        ...     return pyro.sample("x", ConstrainedBernoulli(logits=logits, A=torch.ones(3), k=1))
        >>> with pyro.poutine.reparam(config={"x": MarginalExpectationReparam()}):
        ...     x = guide()
        >>> x.requires_grad
        True
    """

    def apply(self, msg: Any) -> Any:
        name = msg["name"]
        fn, event_dim = self._unwrap(msg["fn"])
        fits = isinstance(fn, ConstrainedDiscrete)
        check_site(*_DISCRETE, name, fn, fits, msg["is_observed"])
        fn = self._wrap(fn.with_estimator("marginal_expectation"), event_dim)
        return {"fn": fn, "value": msg["value"], "is_observed": False}


def auto_reparam(site: Any = None) -> Any:
    """Configuration of ``poutine.reparam`` that picks the right reparametrisation of each site.

    Constrained normal sites that are latent get ``ConstrainedNormalReparam``; discrete ones keep
    the estimator that they ask for, and all others are left alone.

    Example:
        >>> import pyro
        >>> model = lambda: None
        >>> model = pyro.poutine.reparam(model, config=auto_reparam)
    """
    if site is None:
        return auto_reparam
    law = site["fn"]
    while isinstance(law, torch.distributions.Independent):
        law = law.base_dist
    is_latent = not site["is_observed"]
    return (
        ConstrainedNormalReparam() if is_latent and isinstance(law, ConstrainedGaussian) else None
    )
