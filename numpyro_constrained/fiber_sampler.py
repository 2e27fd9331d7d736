"""``FiberSampler``: Markov chains on fibers that are too large for exact answers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.nn import log_sigmoid, log_softmax

from constrained_core.checks.laws import no_draws, no_sampler
from constrained_core.walk.connectivity import Connectivity
from constrained_core.walk.diagnostics import Diagnostics, diagnose
from constrained_core.walk.plan import plan_walk
from constrained_core.walk.weights import CountWeights, TableWeights
from numpyro_constrained.kernels.arrays.log_space import safe_log
from numpyro_constrained.kernels.walk.steps import bind_weights, first_directions, walk

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
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpyro.distributions as dist
        >>> base = dist.Poisson(jnp.array([1.0, 2.0, 3.0])).to_event(1)
        >>> sampler = FiberSampler(base, jnp.array([[1, 1, 0], [0, 1, 1]]), jnp.array([40, 60]))
        >>> sampler.connectivity.is_connected
        True
        >>> sampler.run(jax.random.key(0), 100, num_chains=2).shape
        (2, 100, 3)
    """

    def __init__(self, base_distribution: Any, A: Any, k: Any, *, moves: Any = None) -> None:
        self.base_dist = base_distribution
        self._parameter = _parameter(base_distribution)
        known = np.asarray(self._parameter)
        weights = TableWeights(known) if known.ndim == 2 else CountWeights(known)
        self._plan = plan_walk(A, k, weights, moves)
        self._first = self._plan.start
        self._draws: Array | None = None

    @property
    def connectivity(self) -> Connectivity:
        """Whether the moves are known to reach all of the fiber, and why."""
        return self._plan.connectivity

    def run(
        self,
        key: Array,
        num_draws: int = 1000,
        num_chains: int = 4,
        warmup: int = 500,
        thinning: int = 1,
    ) -> Array:
        """Draws ``(num_chains, num_draws, n)`` of chains that start at different points.

        Args:
            key: random key.
            num_draws: draws of each chain.
            num_chains: number of chains, which run at the same time.
            warmup: sweeps before the first draw. A sweep has as many steps as the fiber dimensions.
            thinning: sweeps from one draw to the next.
        """
        plan, weights = self._plan, bind_weights(self._plan, self._parameter)
        seed_key, walk_key, free_key = jax.random.split(key, 3)
        seed = int(jax.random.randint(seed_key, (), 0, 2**31 - 1))
        start = jnp.asarray(plan.starts(num_chains, seed))
        draws = jnp.repeat(start[:, None], num_draws, 1)
        if plan.num_steps:
            state = start[:, plan.active], first_directions(plan, num_chains)
            # Warmup is kept and dropped: one compilation instead of two.
            kept, steps = -(-warmup // thinning) + num_draws, thinning * plan.num_steps
            _, points = walk(plan, weights, state, kept, steps, walk_key)
            draws = draws.at[..., plan.active].set(points[:, -num_draws:])
        self._draws = self._with_free(draws, self.base_dist, free_key)
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
        return diagnose(np.asarray(self._draws), self._plan.active)

    def move(
        self, key: Array, value: Array, base_distribution: Any = None, num_sweeps: int = 1
    ) -> Array:
        """A point further along the walk, ``(n,)``: one Gibbs update.

        Works under jit and vmap.

        Args:
            key: random key.
            value: ``(n,)`` the point; one that is not on the fiber is replaced by a start.
            base_distribution: of the same family, with the parameters of the moment.
            num_sweeps: length of the walk.
        """
        plan = self._plan
        base = self.base_dist if base_distribution is None else base_distribution
        weights = bind_weights(plan, _parameter(base))
        walk_key, free_key = jax.random.split(key)
        x = jnp.where(self._is_inside(value), value, self._first).astype(jnp.result_type(int))
        if plan.num_steps:
            # As many exchanges as a basis has columns, so that every basis can be met.
            steps = num_sweeps * max(plan.num_steps, len(plan.matrix) + 1)
            state = x[None, plan.active], first_directions(plan, 1)
            _, points = walk(plan, weights, state, 1, steps, walk_key)
            x = x.at[plan.active].set(points[0, 0])
        return self._with_free(x, base, free_key).astype(value.dtype)

    def gibbs_fn(
        self, site: str, base_distribution: Callable[[dict], Any], num_sweeps: int = 1
    ) -> Callable[..., dict]:
        """The ``gibbs_fn`` of ``HMCGibbs`` for a latent site whose rates are made of other sites.

        In the model the site has the base law, ``numpyro.sample(site, Poisson(rate).to_event(1))``:
        the walk keeps it on the fiber, from the first step on.

        Args:
            site: name of the site.
            base_distribution: from the values of the other sites to the base law.
            num_sweeps: length of the walk at every update.

        Example:
            >>> import jax
            >>> import jax.numpy as jnp
            >>> import numpyro
            >>> import numpyro.distributions as dist
            >>> from numpyro.infer import MCMC, NUTS, HMCGibbs
            >>> def model():
            ...     scale = numpyro.sample("scale", dist.Gamma(2.0, 1.0))
            ...     numpyro.sample("x", dist.Poisson(scale * jnp.ones(3)).to_event(1))
            >>> A, k = jnp.array([[1, 1, 0], [0, 1, 1]]), jnp.array([6, 8])
            >>> sampler = FiberSampler(dist.Poisson(jnp.ones(3)).to_event(1), A, k)
            >>> update = sampler.gibbs_fn(
            ...     "x", lambda sites: dist.Poisson(sites["scale"] * jnp.ones(3)).to_event(1)
            ... )
            >>> kernel = HMCGibbs(NUTS(model), gibbs_fn=update, gibbs_sites=["x"])
            >>> mcmc = MCMC(kernel, num_warmup=5, num_samples=5, progress_bar=False)
            >>> mcmc.run(jax.random.key(0))
            >>> bool((mcmc.get_samples()["x"] @ A.T == k).all())
            True
        """

        def update(rng_key: Array, gibbs_sites: dict, hmc_sites: dict) -> dict:
            base = base_distribution(hmc_sites)
            return {site: self.move(rng_key, gibbs_sites[site], base, num_sweeps)}

        return update

    def _is_inside(self, value: Array) -> Array:
        plan = self._plan
        is_counted = np.setdiff1d(np.arange(len(self._first)), plan.free)
        low, high = plan.bounds[:, is_counted]
        part = value[is_counted]
        sums = (jnp.asarray(plan.matrix[:, is_counted]) * part).sum(-1)
        return (sums == plan.k).all() & ((part >= low) & (part <= high)).all()

    def _with_free(self, draws: Array, base: Any, key: Array) -> Array:
        """Draws whose variables in no row come from the base law."""
        free = self._plan.free
        if not free.size:
            return draws
        fresh = base.sample(key, draws.shape[:-1])[..., free]
        return draws.at[..., free].set(fresh.astype(draws.dtype))


def _parameter(base_distribution: Any) -> Array:
    """``(n,)`` rates, or ``(n, C)`` log weights."""
    base, shape = base_distribution, base_distribution.event_shape
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    reader = _READERS.get(type(base))
    if reader is None or len(shape) != 1 or base_distribution.batch_shape:
        raise no_sampler(base, shape, base_distribution.batch_shape)
    parameter = reader(base)
    return jnp.broadcast_to(parameter, shape + parameter.shape[len(base.batch_shape) :])


def _pair(logits: Array) -> Array:
    return jnp.stack([log_sigmoid(-logits), log_sigmoid(logits)], -1)


def _log_probs(probs: Array) -> Array:
    return jnp.stack([safe_log(1 - probs), safe_log(probs)], -1)


_READERS: dict[type, Callable[[Any], Array]] = {
    dist.Poisson: lambda base: base.rate,
    dist.discrete.BernoulliProbs: lambda base: _log_probs(base.probs),
    dist.discrete.BernoulliLogits: lambda base: _pair(base.logits),
    dist.discrete.CategoricalProbs: lambda base: safe_log(base.probs),
    dist.discrete.CategoricalLogits: lambda base: log_softmax(base.logits, -1),
}
