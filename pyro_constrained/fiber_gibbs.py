"""A kernel of Pyro's ``MCMC`` that takes turns between HMC and a walk on a fiber."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from constrained_core.errors import ConstraintError

__all__ = ["FiberGibbs"]


class FiberGibbs(MCMCKernel):
    """HMC on all other sites given the counts, then a walk of the counts given these.

    Made by ``FiberSampler.gibbs_kernel``.

    Args:
        move: from the counts, a base law and a number of sweeps to the next counts.
        start: ``(n,)`` the first counts.
        model: the model, in which the site has the base law.
        site: name of the site of the counts.
        base_distribution: from the values of the other sites to the base law.
        num_sweeps: length of the walk at every update.
        make_kernel: from a model to the kernel of the other sites, ``NUTS`` or ``HMC``.
    """

    def __init__(
        self,
        move: Callable[[Tensor, Any, int], Tensor],
        start: Tensor,
        model: Callable[..., Any],
        site: str,
        base_distribution: Callable[[dict[str, Tensor]], Any],
        num_sweeps: int,
        make_kernel: Callable[..., Any],
    ) -> None:
        self._move, self._start, self._counts = move, start, start
        self._site, self._base_distribution = site, base_distribution
        self._num_sweeps = num_sweeps

        def given(*args: Any, **kwargs: Any) -> Any:
            return pyro.condition(model, data={site: self._counts})(*args, **kwargs)

        self.model = given
        self._inner = make_kernel(given)
        if getattr(self._inner, "_jit_compile", False):
            raise ConstraintError(
                "gibbs_kernel: expected a kernel that is not compiled, got jit_compile=True, which "
                f"would keep the first value of {site!r} for good; leave it out."
            )

    @property
    def transforms(self) -> dict[str, Any]:
        """Those of the other sites."""
        return self._inner.transforms

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """Of all sites: the other ones unconstrained, as HMC has them."""
        return {**self._inner.initial_params, self._site: self._start}

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        self._start = params.get(self._site, self._start)
        self._inner.initial_params = {k: v for k, v in params.items() if k != self._site}

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Start a run."""
        self._counts = self._start
        self._inner.setup(warmup_steps, *args, **kwargs)
        if not self._inner.initial_params:
            raise ConstraintError(
                f"gibbs_kernel: expected latent sites beside {self._site!r}, got none; without "
                "them FiberSampler.run draws the counts."
            )

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of HMC, then one walk."""
        others = {name: value for name, value in params.items() if name != self._site}
        self._counts = params[self._site]
        self._inner.clear_cache()  # its potential energy is that of other counts
        others = self._inner.sample(others)
        values = {
            name: self.transforms[name].inv(value) if name in self.transforms else value
            for name, value in others.items()
        }
        with torch.no_grad():
            base = self._base_distribution(values)
            self._counts = self._move(self._counts, base, self._num_sweeps)
        return {**others, self._site: self._counts}

    def end_warmup(self) -> None:
        """Pass it on."""
        self._inner.end_warmup()

    def cleanup(self) -> None:
        """Pass it on."""
        self._inner.cleanup()

    def logging(self) -> Any:
        """What HMC says of itself."""
        return self._inner.logging()

    def diagnostics(self) -> dict[str, Any]:
        """What HMC says of itself."""
        return self._inner.diagnostics()
