"""``FiberSampler``: Markov chains on fibers that are too large for exact answers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.infer import NUTS
from torch import Tensor
from torch.nn.functional import logsigmoid

from constrained_core.checks.laws import no_draws, no_sampler
from constrained_core.walk.connectivity import Connectivity
from constrained_core.walk.diagnostics import Diagnostics, diagnose
from constrained_core.walk.plan import plan_walk
from constrained_core.walk.scan import scan_of
from constrained_core.walk.weights import CountWeights, TableWeights
from pyro_constrained.fiber_gibbs import FiberGibbs
from pyro_constrained.kernels.arrays.log_space import safe_log
from pyro_constrained.kernels.walk.steps import bind_weights, walk

__all__ = ["FiberSampler"]


class FiberSampler:
    """Draws of independent discrete variables given A x = k, by a walk on the fiber.

    For fibers of any size. Every step takes a direction d with A d = 0 and draws t of ``x + t d``
    exactly from its conditional law, over all t that keep x in range: no step is rejected. Where A
    is unimodular, d is an elementary direction of a basis of columns that changes as the chain
    runs and keeps the large variables, so that moves are as long as they can be; else a move of a
    reduced lattice basis, or a random combination of some. Chains start at points that integer
    programming finds.

    Args:
        base_distribution: ``Poisson``, ``Bernoulli`` or ``Categorical`` with ``to_event(1)``,
            event shape ``(n,)`` and no batch.
        A: ``(m, n)``, ``(n,)`` for one row, or a ``GroupSum``; whole numbers.
        k: ``(m,)``; a number for one row; whole numbers.
        moves: ``(M, n)`` directions to use instead, such as a Markov basis of A.

    Raises:
        InfeasibleConstraintError: the fiber is empty.
        UnboundedSupportError: infinitely many points.
        ConstraintError: a base law of another family or with a batch, shapes that do not fit, moves
            that change A x.

    References:
        Hazelton, McVeagh, van Brunt (2021), *Geometrically aware dynamic Markov bases for
        statistical linear inverse problems*. Diaconis, Sturmfels (1998), *Algebraic algorithms for
        sampling from conditional distributions*.

    Example:
        >>> import torch
        >>> import pyro.distributions as dist
        >>> base = dist.Poisson(torch.tensor([1.0, 2.0, 3.0])).to_event(1)
        >>> A = torch.tensor([[1, 1, 0], [0, 1, 1]])
        >>> sampler = FiberSampler(base, A, torch.tensor([40, 60]))
        >>> sampler.connectivity.is_connected
        True
        >>> sampler.run(100, num_chains=2).shape
        torch.Size([2, 100, 3])
    """

    def __init__(self, base_distribution: Any, A: Any, k: Any, *, moves: Any = None) -> None:
        self.base_dist = base_distribution
        self._parameter = _parameter(base_distribution)
        known = self._parameter.numpy(force=True)
        weights = TableWeights(known) if known.ndim == 2 else CountWeights(known)
        self._plan = plan_walk(A, k, weights, moves)
        self._first = self._plan.start
        self._draws: Tensor | None = None

    @property
    def connectivity(self) -> Connectivity:
        """Whether the moves are known to reach all of the fiber, and why."""
        return self._plan.connectivity

    def run(
        self,
        num_draws: int = 1000,
        num_chains: int = 4,
        warmup: int = 500,
        thinning: int = 1,
    ) -> Tensor:
        """Draws ``(num_chains, num_draws, n)`` of chains that start at different points.

        Args:
            num_draws: draws of each chain.
            num_chains: number of chains, which run at the same time.
            warmup: sweeps before the first draw. A sweep has as many steps as the fiber dimensions.
            thinning: sweeps from one draw to the next.
        """
        plan, weights = self._plan, bind_weights(self._plan, self._parameter)
        seed = int(torch.randint(2**31 - 1, (), device="cpu"))
        start = plan.starts(num_chains, seed)
        draws = np.repeat(start[:, None], num_draws, axis=1)
        if plan.num_steps:
            scan, steps = scan_of(plan), plan.num_steps
            warm = walk(weights, scan, start[:, plan.active], 1, warmup * steps)
            points = walk(weights, scan, warm[:, -1], num_draws, thinning * steps)
            draws[..., plan.active] = points
        self._draws = self._with_free(torch.from_numpy(draws).to(self._parameter), self.base_dist)
        return self._draws

    def diagnostics(self) -> Diagnostics:
        """Effective sample size and R-hat of the last run; NaN for variables that never change.

        Warns with ``FiberSamplerWarning`` where a variable has fewer than 100 effective draws per
        chain, or an R-hat above both 1.01 and what chance explains for so many variables and
        draws: of chains that have mixed, one run in a hundred at most. The message says how far
        off they are and what to do.

        Raises:
            ConstraintError: nothing was run.
            ImportError: ArviZ is not installed.

        References:
            Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), *Rank-normalization, folding, and
            localization: an improved R-hat*. Vats, Knudson (2021), *Revisiting the Gelman-Rubin
            diagnostic*: R-hat for a number of effective draws.
        """
        if self._draws is None:
            raise no_draws()
        return diagnose(self._draws.numpy(force=True), self._plan.active)

    def move(self, value: Tensor, base_distribution: Any = None, num_sweeps: int = 1) -> Tensor:
        """A point further along the walk, ``(n,)``: one Gibbs update.

        For samplers written by hand: between updates of the rates given x, call
        ``x = sampler.move(x, base)``. ``gibbs_kernel`` does so inside of Pyro's ``MCMC``.

        Args:
            value: ``(n,)`` the point; one that is not on the fiber is replaced by a start.
            base_distribution: of the same family, with the parameters of the moment.
            num_sweeps: length of the walk.
        """
        plan = self._plan
        base = self.base_dist if base_distribution is None else base_distribution
        weights = bind_weights(plan, _parameter(base))
        start = value.numpy(force=True) if self._is_inside(value) else self._first
        x = start.astype(self._first.dtype)  # a copy
        if plan.num_steps:
            # As many exchanges as a basis has columns, so that every basis can be met.
            steps = num_sweeps * max(plan.num_steps, len(plan.matrix) + 1)
            x[plan.active] = walk(weights, scan_of(plan), x[None, plan.active], 1, steps)[0, 0]
        return self._with_free(torch.from_numpy(x).to(value), base)

    def gibbs_kernel(
        self,
        model: Callable[..., Any],
        site: str,
        base_distribution: Callable[[dict[str, Tensor]], Any],
        num_sweeps: int = 1,
        make_kernel: Callable[..., Any] = NUTS,
    ) -> FiberGibbs:
        """A kernel of Pyro's ``MCMC`` for a model with a latent site of constrained counts.

        In the model the site has the base law, ``pyro.sample(site, Poisson(rate).to_event(1))``:
        the walk keeps it on the fiber, from the first step on. NUTS moves the other sites given it.
        For variational inference use the exact laws where the fiber is small enough, or sum the
        counts out: ``constraint_log_prob`` of such a law is the likelihood of k.

        Args:
            model: the model.
            site: name of the site.
            base_distribution: from the values of the other sites to the base law.
            num_sweeps: length of the walk at every update.
            make_kernel: ``NUTS``, ``HMC``, or a function of the model that gives it options.

        Raises:
            ConstraintError: a kernel with ``jit_compile``; when run, no other latent site.

        Example:
            >>> import torch
            >>> import pyro
            >>> import pyro.distributions as dist
            >>> from pyro.infer import MCMC
            >>> _ = pyro.set_rng_seed(0)
            >>> def model():
            ...     scale = pyro.sample("scale", dist.Gamma(2.0, 1.0))
            ...     pyro.sample("x", dist.Poisson(scale.expand(3)).to_event(1))
            >>> A, k = torch.tensor([[1, 1, 0], [0, 1, 1]]), torch.tensor([6, 8])
            >>> sampler = FiberSampler(dist.Poisson(torch.ones(3)).to_event(1), A, k)
            >>> kernel = sampler.gibbs_kernel(
            ...     model, "x", lambda sites: dist.Poisson(sites["scale"].expand(3)).to_event(1)
            ... )
            >>> mcmc = MCMC(kernel, num_samples=5, warmup_steps=5, disable_progbar=True)
            >>> mcmc.run()
            >>> bool((mcmc.get_samples()["x"] @ A.T.to(torch.get_default_dtype()) == k).all())
            True
        """
        start = torch.from_numpy(self._first).to(self._parameter)
        return FiberGibbs(self.move, start, model, site, base_distribution, num_sweeps, make_kernel)

    def _is_inside(self, value: Tensor) -> bool:
        plan = self._plan
        is_counted = np.setdiff1d(np.arange(len(self._first)), plan.free)
        low, high = plan.bounds[:, is_counted]
        part = value.numpy(force=True)[is_counted]
        sums = plan.matrix[:, is_counted] @ part
        return bool((sums == plan.k).all() and ((part >= low) & (part <= high)).all())

    def _with_free(self, draws: Tensor, base: Any) -> Tensor:
        """Draws whose variables in no row come from the base law."""
        free = self._plan.free
        if free.size:
            draws[..., free] = base.sample(draws.shape[:-1])[..., free].to(draws)
        return draws


def _parameter(base_distribution: Any) -> Tensor:
    """``(n,)`` rates, or ``(n, C)`` log weights."""
    base, shape = base_distribution, base_distribution.event_shape
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    reader = _READERS.get(type(base))
    if reader is None or len(shape) != 1 or base_distribution.batch_shape:
        raise no_sampler(base, shape, base_distribution.batch_shape)
    parameter = reader(base)
    return parameter.expand(shape + parameter.shape[len(base.batch_shape) :])


def _pair(base: Any) -> Tensor:
    if "logits" in base.__dict__:
        return torch.stack([logsigmoid(-base.logits), logsigmoid(base.logits)], -1)
    return torch.stack([safe_log(1 - base.probs), safe_log(base.probs)], -1)


_READERS: dict[type, Callable[[Any], Tensor]] = {
    dist.Poisson: lambda base: base.rate,
    dist.Bernoulli: _pair,
    dist.Categorical: lambda base: (
        base.logits.log_softmax(-1) if "logits" in base.__dict__ else safe_log(base.probs)
    ),
}
