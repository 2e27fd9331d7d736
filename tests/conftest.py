"""One strict setting for every test: float64, seeds, no silent rank promotion, clean stores.

A framework is touched only if the test's own module imported it, so that tests of the core and of
one package run where the other framework is not installed.
"""

import gc
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import import_module
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.long_compilations import compiles_long

SEED = 20240229
TORCH_DEVICE = os.environ.get("TORCH_DEVICE")
"""Where PyTorch makes the tensors of tests; JAX takes its own from JAX_PLATFORMS."""
MAX_RESIDENT = 5e9

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "true")  # read when JAX is first imported

QUICK_COMPILATION = [
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_llvm_force_inline_before_split=false",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
]
"""Tests mostly wait for compilers: XLA leaves out what only makes programs fast, in half the time.
`make test-optimised` tests with its own settings, as do the examples, which run as readers run
them."""
if platform.machine() in ("x86_64", "AMD64"):
    # Without optimisations, a value that two fused loops compute anew may be rounded in two ways,
    # with a fused multiply-add and without: draws are then corrected by what another point misses.
    # AVX has no such instruction.
    QUICK_COMPILATION += ["--xla_backend_optimization_level=0", "--xla_cpu_max_isa=AVX"]
if os.environ.get("XLA_FLAGS") is None:  # "" for the settings of XLA
    os.environ["XLA_FLAGS"] = " ".join(QUICK_COMPILATION)

_RELAXED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "default", max_examples=12, deadline=None, derandomize=True, suppress_health_check=_RELAXED
)
settings.register_profile(
    "thorough", max_examples=300, deadline=None, derandomize=False, suppress_health_check=_RELAXED
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config: pytest.Config) -> None:
    _share_compilations(config)
    config.addinivalue_line(
        "markers",
        "rank_promotion(mode): JAX rank promotion for one test ('raise' unless said), "
        "for NumPyro code of its own that promotes",
    )


@pytest.hookimpl(tryfirst=True)  # before markers are selected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if compiles_long(item.nodeid):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What importing has left lives to the end: the garbage collector need not look at it again."""
    if "jax" in sys.modules:
        _share_contexts()
    gc.collect()
    gc.freeze()


def _share_contexts(computations: int = 100) -> None:
    """One context of MLIR serves a hundred computations; JAX makes one for each, which takes a
    quarter of the time in which a small one is compiled.

    A computation that is met while another one is built keeps a context of its own: in a common
    one, its operations would be inserted into those of the other. The function is JAX's own and
    may go with a release: tests then take longer, nothing else.
    """
    mlir = import_module("jax._src.interpreters.mlir")
    make = getattr(mlir, "make_ir_context", None)
    if make is None:
        return
    served = count()
    numbered = lru_cache(maxsize=1)(lambda number: make())

    def is_building() -> bool:
        try:
            return mlir.ir.Context.current is not None
        except ValueError:  # no context is in use
            return False

    mlir.make_ir_context = lambda: (
        make() if is_building() else numbered(next(served) // computations)
    )


def _share_compilations(config: pytest.Config) -> None:
    """JAX compiles each small computation once for all workers and later runs."""
    if hasattr(config, "cache"):  # absent under -p no:cacheprovider
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@contextmanager
def _strict_traces() -> Iterator[None]:
    """Raise what the tracer of PyTorch has warned of; as an error in C++ it is noticed by luck."""
    with warnings.catch_warnings(record=True) as told:
        yield
    assert not told, [f"{each.filename}:{each.lineno}: {each.message}" for each in told]


@contextmanager
def _strict_torch(default: str) -> Iterator[None]:
    torch = sys.modules["torch"]
    before = torch.get_default_dtype()
    laws = torch.distributions.Distribution
    validates = laws._validate_args
    torch.set_default_dtype(getattr(torch, default))
    torch.manual_seed(SEED)
    if TORCH_DEVICE:
        torch.set_default_device(TORCH_DEVICE)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        # torch.compile turns the validation of distributions off for the whole process.
        laws.set_default_validate_args(validates)


@contextmanager
def _strict_pyro() -> Iterator[None]:
    pyro = sys.modules["pyro"]
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


@contextmanager
def _strict_jax(rank_promotion: str) -> Iterator[None]:
    jax = sys.modules["jax"]
    jax.config.update("jax_enable_x64", True)
    with jax.numpy_rank_promotion(rank_promotion):
        yield


@pytest.fixture(autouse=True)
def strict(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("rank_promotion")
    promotion = marker.args[0] if marker else "raise"
    with ExitStack() as stack:
        if "torch" in sys.modules:
            # Laws of double precision take no digits from the default that users have.
            default = "float32" if "laws" in request.path.parts else "float64"
            stack.enter_context(_strict_torch(default))
            stack.enter_context(_strict_traces())
        if "pyro" in sys.modules:
            stack.enter_context(_strict_pyro())
        if "jax" in sys.modules:
            stack.enter_context(_strict_jax(promotion))
        yield


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """Thousands of compiled computations stay in memory, up to a bound; then modules that follow
    read them from disk."""
    yield
    if "jax" in sys.modules and _resident_bytes() > MAX_RESIDENT:
        sys.modules["jax"].clear_caches()


def _resident_bytes() -> float:
    """Memory of this process; infinite where the system does not tell."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return float("inf")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)
