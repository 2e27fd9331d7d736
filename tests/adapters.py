"""The two backends behind one small face: NumPy in, NumPy out.

Only what the laws and the parity tests need; behaviour particular to one framework is tested in
that framework's own folder.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest

from constrained_core.walk.scan import scan_of
from tests.cases import Groups

Arrays = Mapping[str, np.ndarray]


class Backend(ABC):
    """Builds laws from cases and evaluates them."""

    name: str
    package: str
    count_dtype: str
    """Of draws of discrete laws, where the parameters are float64."""

    def __repr__(self) -> str:
        return self.name

    @property
    def library(self) -> Any:
        return import_module(self.package)

    @abstractmethod
    def array(self, value: Any, dtype: str = "float64") -> Any: ...

    @abstractmethod
    def numpy(self, value: Any) -> np.ndarray: ...

    @abstractmethod
    def sample(self, law: Any, seed: int, shape: tuple[int, ...] = ()) -> Any:
        """A native draw, reparametrised where the law can."""

    @abstractmethod
    def gradients(self, function: Callable[[Mapping[str, Any]], Any], at: Arrays) -> Arrays:
        """Gradients of a scalar function of named arrays."""

    @abstractmethod
    def kl(self, p: Any, q: Any) -> Any: ...

    @abstractmethod
    def from_base(
        self, law: Any, noise: Callable[[tuple[int, ...]], np.ndarray], dtype: str = "float64"
    ) -> Any:
        """The native value of a site of this law under ``auto_reparam``, from white noise of the
        shape that the site asks for."""

    @abstractmethod
    def value_and_slope(self, function: Callable[[Any], Any]) -> Callable[[float], Any]:
        """A native scalar function of a number, as one that gives its value and derivative."""

    @abstractmethod
    def on_support(self, law: Any, x: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def base_law(self, family: str, params: np.ndarray) -> Any:
        """The framework's own law ``poisson``, ``bernoulli`` or ``categorical``, ``to_event(1)``,
        of rates or probabilities."""

    @abstractmethod
    def walk(self, sampler: Any, seed: int, num_draws: int, **options: Any) -> np.ndarray:
        """Draws ``(chains, draws, n)`` of a ``FiberSampler``."""

    @abstractmethod
    def walk_step(
        self, sampler: Any, points: np.ndarray, directions: Any, uniform: np.ndarray
    ) -> tuple[np.ndarray, Any]:
        """One step of its chains from points ``(chains, p)`` with given random numbers.

        ``directions`` are those of one chain, which all share; None for the first ones. Returned
        are the points and the next directions of the first chain.
        """

    def constraint(self, A: Any, dtype: str = "float64") -> Any:
        """What a user passes for A: a concrete array of this framework, or a GroupSum."""
        if isinstance(A, Groups):
            return self.library.GroupSum(A.index, A.num_groups, weights=A.weights)
        return self.array(A, dtype) if isinstance(A, np.ndarray) else A

    def law(self, case: Any, dtype: str = "float64", **changed: Any) -> Any:
        """The law of a case; `changed` replaces parameters, A or k, or adds options."""
        arguments = {name: self.array(value, dtype) for name, value in case.params.items()}
        arguments |= {"A": case.A, "k": self.array(case.k, dtype)} | changed
        arguments["A"] = self.constraint(arguments["A"], dtype)
        return getattr(self.library, case.law)(**arguments)

    def draws(self, law: Any, seed: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        return self.numpy(self.sample(law, seed, shape))

    def counts(self, value: Any) -> Any:
        """Values of a discrete law."""
        return self.array(value, self.count_dtype)

    def log_prob(self, law: Any, x: np.ndarray, dtype: str = "float64") -> np.ndarray:
        return self.numpy(law.log_prob(self.array(x, dtype)))

    def loss(self, law: Any, name: str, target: np.ndarray) -> np.ndarray:
        """expected_l1, expected_l2, crps; also residual and project, of the same shape of call."""
        return self.numpy(getattr(law, name)(self.array(target)))

    def value(self, law: Any, name: str) -> np.ndarray:
        """A property, or a method without arguments."""
        found = getattr(law, name)
        return self.numpy(found() if callable(found) else found)


def _base_law(distributions: Any, family: str, params: Any) -> Any:
    if family == "poisson":
        return distributions.Poisson(params).to_event(1)
    law = {"bernoulli": distributions.Bernoulli, "categorical": distributions.Categorical}[family]
    return law(probs=params).to_event(1)


class TorchBackend(Backend):
    name = "torch"
    package = "pyro_constrained"
    count_dtype = "float64"

    def __init__(self) -> None:
        self.torch = import_module("torch")

    def array(self, value, dtype="float64"):
        return self.torch.tensor(np.asarray(value), dtype=getattr(self.torch, dtype))

    def numpy(self, value):
        return self.torch.as_tensor(value).numpy(force=True)

    def sample(self, law, seed, shape=()):
        self.torch.manual_seed(seed)
        draw = law.rsample if law.has_rsample else law.sample
        return draw(self.torch.Size(shape))

    def gradients(self, function, at):
        leaves = {name: self.array(value).requires_grad_() for name, value in at.items()}
        value = function(leaves)
        if not value.requires_grad:
            return {name: np.zeros_like(value) for name, value in at.items()}
        found = self.torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, map(self.numpy, found), strict=True))

    def kl(self, p, q):
        return self.torch.distributions.kl_divergence(p, q)

    def from_base(self, law, noise, dtype="float64"):
        pyro = import_module("pyro")
        model = pyro.poutine.reparam(
            lambda: pyro.sample("x", law), config=self.library.auto_reparam
        )
        base = pyro.poutine.trace(model).get_trace().nodes["x_base"]["value"]
        given = {"x_base": self.array(noise(tuple(base.shape)), dtype)}
        return pyro.poutine.condition(model, data=given)()

    def value_and_slope(self, function):
        def run(t: float) -> tuple[float, float]:
            given = self.array(t).requires_grad_()
            value = function(given)
            (slope,) = self.torch.autograd.grad(value, given)
            return float(value.detach()), float(slope)

        return run

    def on_support(self, law, x):
        return self.numpy(law.support.check(self.array(x)))

    def base_law(self, family, params):
        return _base_law(import_module("pyro.distributions"), family, self.array(params))

    def walk(self, sampler, seed, num_draws, **options):
        self.torch.manual_seed(seed)
        return self.numpy(sampler.run(num_draws, **options))

    def walk_step(self, sampler, points, directions, uniform):
        kernel, plan = import_module("pyro_constrained.kernels.walk.steps"), sampler._plan
        scan = scan_of(plan) if directions is None else directions.copy()
        weights = kernel.bind_weights(plan, sampler._parameter)
        x = np.array(points.T)
        kernel.step(weights, x, scan.next(uniform[0].tolist()), uniform[:, 1:3].T)
        return x.T, scan


class JaxBackend(Backend):
    name = "jax"
    package = "numpyro_constrained"
    count_dtype = "int64"

    def __init__(self) -> None:
        self.jax = import_module("jax")
        self.kl_divergence = import_module("numpyro.distributions").kl_divergence
        self._steps: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def array(self, value, dtype="float64"):
        return self.jax.numpy.asarray(value, dtype=dtype)

    def numpy(self, value):
        return np.asarray(value)

    def sample(self, law, seed, shape=()):
        return law.sample(self.jax.random.PRNGKey(seed), shape)

    def gradients(self, function, at):
        found = self.jax.grad(function)({name: self.array(value) for name, value in at.items()})
        return {name: np.asarray(value) for name, value in found.items()}

    def kl(self, p, q):
        return self.kl_divergence(p, q)

    def from_base(self, law, noise, dtype="float64"):
        numpyro = import_module("numpyro")
        model = numpyro.handlers.reparam(
            lambda: numpyro.sample("x", law), config=self.library.auto_reparam
        )
        seeded = numpyro.handlers.seed(model, self.jax.random.key(0))
        shape = numpyro.handlers.trace(seeded).get_trace()["x_base"]["value"].shape
        return numpyro.handlers.substitute(model, {"x_base": self.array(noise(shape), dtype)})()

    def value_and_slope(self, function):
        compiled = self.jax.jit(self.jax.value_and_grad(function))
        return lambda t: tuple(map(float, compiled(self.array(t))))

    def on_support(self, law, x):
        return self.numpy(law.support(self.array(x)))

    def base_law(self, family, params):
        return _base_law(import_module("numpyro.distributions"), family, self.array(params))

    def walk(self, sampler, seed, num_draws, **options):
        return self.numpy(sampler.run(self.jax.random.PRNGKey(seed), num_draws, **options))

    def walk_step(self, sampler, points, directions, uniform):
        kernel, plan = import_module("numpyro_constrained.kernels.walk.steps"), sampler._plan
        if directions is None:
            directions = kernel.first_directions(plan, 1)
        if directions is not None:
            directions = self.jax.tree.map(lambda part: part[0], directions)
        weights = kernel.bind_weights(plan, sampler._parameter)

        def step(point: Any, directions: Any, uniform: Any) -> Any:
            return kernel._step(plan, weights, (point, directions), uniform)

        if plan not in self._steps:
            self._steps[plan] = self.jax.jit(self.jax.vmap(step, (0, None, 0)))
        moved, after = self._steps[plan](
            self.array(points, "int64"), directions, self.array(uniform)
        )
        return self.numpy(moved), after


BACKENDS = tuple(
    kind()
    for kind, framework in ((TorchBackend, "pyro"), (JaxBackend, "numpyro"))
    if find_spec(framework)
)
"""Those installed; importing them here lets conftest make them strict."""

each_backend = pytest.mark.parametrize("backend", BACKENDS, ids=repr)


each_quick_backend = pytest.mark.parametrize(
    "backend",
    [
        pytest.param(backend, marks=[pytest.mark.slow] * (backend.name == "jax"), id=repr(backend))
        for backend in BACKENDS
    ],
)
"""JAX is slow where it compiles half a minute; other tests hold it in part, parity to PyTorch."""


def each_case(cases: tuple[Any, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=repr)


def each_law(cases: tuple[Any, ...], compiled: tuple[Any, ...]) -> pytest.MarkDecorator:
    """Each backend with each case. JAX compiles for seconds: cases not `compiled` are slow there.

    `compiled` must have a case of each kind; tests/parity holds JAX to PyTorch on the others, on a
    few of them only in `make test-slow`.
    """
    pairs = [(backend, case) for case in cases for backend in BACKENDS]
    is_slow = [backend.name == "jax" and case not in compiled for backend, case in pairs]
    parameters = [
        pytest.param(*pair, id=f"{pair[1]}-{pair[0]}", marks=[pytest.mark.slow] * slow)
        for pair, slow in zip(pairs, is_slow, strict=True)
    ]
    return pytest.mark.parametrize(("backend", "case"), parameters)


@lru_cache(maxsize=256)
def shared_law(backend: Backend, case: Any) -> Any:
    """One float64 instance per case for the tests that only read it."""
    return backend.law(case)


def assert_close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    """Equal shapes, and equal to a figure relative to the largest entry of an event, at least 1."""
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=relative, atol=relative)


def assert_close_in(unit: np.ndarray | float, found, expected, relative: float) -> None:
    """As assert_close, in units of `unit`: for quantities that carry the scale of the law."""
    assert_close(np.asarray(found) / unit, np.asarray(expected) / unit, relative)
