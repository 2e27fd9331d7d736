"""NUTS with its clock told apart: compilation, warm-up, sampling."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array, lax, random
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import NUTS


@dataclass(frozen=True)
class Chains:
    """What NUTS drew, and how long it took.

    Attributes:
        draws: every site by name, ``(chains, draws, ...)``.
        divergences: number of divergent draws.
        leapfrog_steps: of all draws together, warm-up not counted.
        compile_seconds: of the program that made them; later runs use it again.
        warmup_seconds, sampling_seconds: of all chains together, without compilation.

    Seconds are those of the processor, which other work on the machine does not stretch.
    """

    draws: dict[str, np.ndarray]
    divergences: int
    leapfrog_steps: int
    compile_seconds: float
    warmup_seconds: float
    sampling_seconds: float

    @property
    def num_draws(self) -> int:
        """Of all chains together."""
        first = next(iter(self.draws.values()))
        return first.shape[0] * first.shape[1]

    def outcome(self, quantities: Sequence[np.ndarray]) -> dict[str, float]:
        """How good the chains are for some quantities, each ``(chains, draws, ...)``."""
        parts = np.concatenate([part.reshape(*part.shape[:2], -1) for part in quantities], -1)
        effective = float(effective_sample_size(parts).min())
        return {
            "min_ess": effective,
            "min_ess_per_second": effective / self.sampling_seconds,
            "r_hat": float(split_gelman_rubin(parts).max()),
            "divergences": self.divergences,
            "steps_per_draw": self.leapfrog_steps / self.num_draws,
            "step_microseconds": 1e6 * self.sampling_seconds / self.leapfrog_steps,
            "sampling_seconds": self.sampling_seconds,
            "warmup_seconds": self.warmup_seconds,
            "compile_seconds": self.compile_seconds,
        }


class Sampler:
    """NUTS of a model whose arguments are arrays, compiled once.

    Args:
        model: a NumPyro model.
        num_warmup, num_draws, num_chains: per chain; chains run one after the other.
    """

    def __init__(self, model: Callable, num_warmup: int, num_draws: int, num_chains: int) -> None:
        self.num_warmup, self.num_draws, self.num_chains = num_warmup, num_draws, num_chains
        self._kernel = NUTS(model)
        self._compiled: Callable | None = None
        self.compile_seconds = 0.0

    def run(self, seed: int, *arguments: Array) -> Chains:
        """Warm up and draw."""
        keys = random.split(random.key(seed), self.num_chains)
        states = [self._kernel.init(key, self.num_warmup, model_args=arguments) for key in keys]
        block = self._block_program(states[0], arguments)
        begin = time.process_time()
        states = [self._advance(block, state, self.num_warmup, arguments)[0] for state in states]
        warmed = time.process_time()
        chains = [self._advance(block, state, self.num_draws, arguments)[1] for state in states]
        seconds = time.process_time() - warmed
        positions, diverging, steps = jax.tree.map(lambda *parts: np.stack(parts), *chains)
        return Chains(
            draws=self._sites(positions, arguments),
            divergences=int(diverging.sum()),
            leapfrog_steps=int(steps.sum()),
            compile_seconds=self.compile_seconds,
            warmup_seconds=warmed - begin,
            sampling_seconds=seconds,
        )

    def _block_program(self, state: Any, arguments: tuple[Array, ...]) -> Callable:
        """The compiled program of a block of draws; compiled once for warm-up and sampling."""
        if self._compiled is None:
            begin = time.process_time()
            self._compiled = jax.jit(self._block).lower(state, arguments).compile()
            self.compile_seconds = time.process_time() - begin
        return self._compiled

    def _block(self, state: Any, arguments: tuple[Array, ...]) -> tuple:
        def step(state: Any, _: None) -> tuple:
            state = self._kernel.sample(state, arguments, {})
            return state, (state.z, state.diverging, state.num_steps)

        return lax.scan(step, state, length=math.gcd(self.num_warmup, self.num_draws))

    def _advance(self, block: Callable, state: Any, num_draws: int, arguments: tuple) -> tuple:
        """The state after some draws, and the draws."""
        blocks = []
        for _ in range(num_draws // math.gcd(self.num_warmup, self.num_draws)):
            state, drawn = jax.block_until_ready(block(state, arguments))
            blocks.append(drawn)
        return state, jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)

    def _sites(self, positions: dict, arguments: tuple[Array, ...]) -> dict[str, np.ndarray]:
        """Sites of the model, deterministic ones as well, from unconstrained positions."""
        complete = jax.vmap(jax.vmap(self._kernel.postprocess_fn(arguments, {})))
        return {name: np.asarray(site) for name, site in jax.jit(complete)(positions).items()}
