"""Settings of the tests of NumPyro's machinery."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def quick_compilation() -> Iterator[None]:
    """These tests mostly wait for compilers, so that XLA leaves out what only makes programs fast.
    Digits are checked with all optimisations, in tests/laws and tests/parity."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
