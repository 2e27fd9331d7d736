"""Discrete laws inside of torch.func: derivatives and vmap, over parameters and over values."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from pyro_constrained import (
    ConstrainedBernoulli,
    ConstrainedCategorical,
    ConstrainedPoisson,
    ConstraintError,
    GroupSum,
    ParameterError,
)
from tests.discrete_oracles import DiscreteProblem
from tests.finite_differences import slope_at
from tests.on_pyro.models import tensor

LAWS = {
    "bernoulli": ConstrainedBernoulli,
    "poisson": ConstrainedPoisson,
    "categorical": ConstrainedCategorical,
}
ROUTING = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 2]])
STRUCTURES = {
    "one sum": (np.ones(5, int), 2),
    "groups": (np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]), [1, 2]),
    "rows": (ROUTING, [2, 1]),
    "redundant": (np.vstack([ROUTING, ROUTING.sum(0)]), [2, 1, 3]),
    "equal columns": (np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]), [2, 1]),
    "free variable": (np.array([[1, 1, 1, 1, 0]]), [2]),
}
TABLE = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0],
                  [0, 0, 1, 0, 0, 1]])  # fmt: skip
VALUE = np.array([0.3, 0.6, 0.45, 0.7, 0.2])
WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0, 0.7, -0.4])


@dataclass(frozen=True, eq=False)
class Case:
    """A law at a parameter, with its oracle."""

    family: str
    value: np.ndarray
    A: np.ndarray
    k: list[int] | int

    @cached_property
    def problem(self) -> DiscreteProblem:
        return DiscreteProblem(
            self.family, self.value, np.atleast_2d(self.A), np.atleast_1d(self.k)
        )

    def problem_at(self, value: np.ndarray) -> DiscreteProblem:
        """Another parameter on the same fiber."""
        moved = replace(self.problem, params=value)
        moved.__dict__["points"] = self.problem.points
        return moved

    @cached_property
    def x(self) -> torch.Tensor:
        """Points of the fiber."""
        points = self.problem.points[self.problem.pmf > 0]
        return tensor(points[:: max(1, len(points) // 3)][:3].astype(float))

    def law(self, value, **options):
        return LAWS[self.family](value, self.A, self.k, **options)

    @property
    def parameter(self) -> torch.Tensor:
        return tensor(self.value)

    @property
    def parameters(self) -> torch.Tensor:
        return torch.stack([self.parameter, self.parameter.flip(0), 0.9 * self.parameter])


def case(family: str, structure: str) -> Case:
    A, k = STRUCTURES[structure]
    value = VALUE
    if family == "categorical":
        value = np.stack([VALUE, 0.8 - VALUE / 2, VALUE**2], -1)
    return Case(family, value, A, k)


def weighted(*parts):
    """One number of vectors, matrices and tables ``(..., n)``, ``(..., n, n)``, ``(..., n, U)``."""
    return sum((part * (1 + np.arange(part.shape[-1])) ** 0.5).sum() for part in parts)


def weighted_in(*parts):
    return sum(
        (part * torch.arange(1, 1 + part.shape[-1], dtype=part.dtype).sqrt()).sum()
        for part in parts
    )


def has_tables(case: Case) -> bool:
    return case.family != "poisson" or np.atleast_2d(case.A).any(0).all()


def table_and_entropy(law, case):
    if not has_tables(case):
        return weighted_in(law.mean)
    return weighted_in(law.marginal_log_prob().exp()) + law.entropy()


def oracle_of_table_and_entropy(problem, case):
    if not has_tables(case):
        return weighted(problem.mean)
    sizes = {"bernoulli": 2, "categorical": 3}
    num_values = sizes.get(case.family, 1 + problem.points.max())
    return weighted(problem.marginals(num_values)) + problem.entropy


QUANTITIES: dict[str, tuple[Callable, Callable]] = {
    "evidence": (lambda law, case: law.constraint_log_prob(), lambda p, case: p.log_partition),
    "score": (
        lambda law, case: law.log_prob(case.x[0]),
        lambda p, case: np.log(p.pmf[(p.points == case.x[0].numpy()).all(-1)][0]),
    ),
    "moments": (
        lambda law, case: weighted_in(law.mean, law.variance, law.covariance),
        lambda p, case: weighted(p.mean, p.variance, p.covariance),
    ),
    "table and entropy": (table_and_entropy, oracle_of_table_and_entropy),
    "divergence": (
        lambda law, case: torch.distributions.kl_divergence(
            law, case.law(0.5 * case.parameter + 0.2)
        ),
        lambda p, case: p.divergence(case.problem_at(0.5 * case.value + 0.2)),
    ),
}
each_case = pytest.mark.parametrize("structure", STRUCTURES)
each_family = pytest.mark.parametrize("family", LAWS)
QUICK = "one sum", "rows"
each_quantity = pytest.mark.parametrize(
    ("structure", "quantity"),
    [
        pytest.param(
            s, q, marks=() if s in QUICK or q in ("evidence", "score") else pytest.mark.slow
        )
        for s in STRUCTURES
        for q in QUANTITIES
    ],
)


def function_of(case: Case, quantity: str):
    return lambda value: QUANTITIES[quantity][0](case.law(value), case)


def eager_gradient(function, value):
    leaf = value.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@each_family
@each_quantity
def test_derivatives(family, structure, quantity):
    """Those of eager autograd, and of the oracle by differences."""
    one = case(family, structure)
    function, oracle = function_of(one, quantity), QUANTITIES[quantity][1]
    expected = eager_gradient(function, one.parameter)
    for derivative in (grad, jacrev, jacfwd):
        close(derivative(function)(one.parameter), expected)
    slope = slope_at(lambda value: oracle(one.problem_at(value), one), one.value)
    np.testing.assert_allclose(expected, slope, rtol=1e-6, atol=1e-6)


@each_family
@each_quantity
def test_vmap_over_parameters(family, structure, quantity):
    one = case(family, structure)
    function = function_of(one, quantity)
    close(
        vmap(function)(one.parameters),
        torch.stack([function(value) for value in one.parameters]),
    )
    slopes = torch.stack([eager_gradient(function, value) for value in one.parameters])
    close(vmap(grad(function))(one.parameters), slopes)
    if quantity in ("evidence", "score"):
        close(grad(lambda values: vmap(function)(values).sum())(one.parameters), slopes)


@each_case
@each_family
@pytest.mark.parametrize("validate", [True, False])
def test_vmap_over_values(family, structure, validate):
    """Of a law that is made outside, and of one that is made inside."""
    one = case(family, structure)
    expected = torch.stack([one.law(one.parameter).log_prob(x) for x in one.x])
    law = one.law(one.parameter, validate_args=validate)
    close(vmap(law.log_prob)(one.x), expected)
    close(law.log_prob(one.x), expected)
    inside = vmap(lambda value, x: one.law(value, validate_args=validate).log_prob(x))
    close(inside(one.parameter.expand(len(one.x), *one.parameter.shape), one.x), expected)


@each_family
def test_values_off_the_support_under_vmap(family):
    """They cannot be looked at: no error, but the density of laws that are not validated."""
    one = case(family, "rows")
    found = vmap(one.law(one.parameter).log_prob)(torch.cat([one.x, one.x + 1]))
    assert found[: len(one.x)].isfinite().all() and (found[len(one.x) :] == -torch.inf).all()


@each_family
@pytest.mark.parametrize(
    ("structure", "quantity"),
    [
        ("one sum", "evidence"),
        pytest.param("one sum", "moments", marks=pytest.mark.slow),
        ("equal columns", "evidence"),
        pytest.param("equal columns", "moments", marks=pytest.mark.slow),
    ],
)
def test_hessian(family, structure, quantity):
    """Against differences of the gradient, in each order of the two modes."""
    one = case(family, structure)
    function, direction = function_of(one, quantity), one.parameter.sin()
    slope = slope_at(
        lambda value: float((eager_gradient(function, tensor(value)) * direction).sum()), one.value
    )
    for second in (hessian, lambda f: jacrev(jacrev(f)), lambda f: jacfwd(jacfwd(f))):
        found = second(function)(one.parameter).flatten(-one.value.ndim)
        np.testing.assert_allclose(found @ direction.flatten(), slope, rtol=1e-6, atol=1e-5)


@each_case
@each_family
@pytest.mark.parametrize("quantity", ["evidence", "moments"])
def test_gradients_that_are_mapped_over(family, structure, quantity):
    """By the map of ``torch.autograd``, which knows PyTorch's own operations only."""
    one = case(family, structure)
    function = function_of(one, quantity)
    batched = torch.autograd.functional.hessian(function, one.parameter, vectorize=True)
    close(batched, torch.autograd.functional.hessian(function, one.parameter))


@each_family
@pytest.mark.parametrize("structure", QUICK)
def test_forward_mode_without_torch_func(family, structure):
    one = case(family, structure)
    function = function_of(one, "moments")
    tangent = torch.ones_like(one.parameter)
    with forward_ad.dual_level():
        moved = function(forward_ad.make_dual(one.parameter, tangent))
        found = forward_ad.unpack_dual(moved).tangent
    close(found, jvp(function, (one.parameter,), (tangent,))[1])


@each_case
@each_family
def test_draws_under_vmap(family, structure):
    one = case(family, structure)
    support = one.law(one.parameter).support
    draws = vmap(lambda value: one.law(value).sample((20,)), randomness="different")
    found = draws(one.parameter.expand(2, *one.parameter.shape))
    assert support.check(found).all() and not torch.equal(*found)
    law = one.law(one.parameter)
    found = vmap(lambda _: law.sample(), randomness="different")(torch.zeros(20))
    assert support.check(found).all() and (found != found[0]).any()


@each_family
@pytest.mark.parametrize("structure", ["one sum", "rows"])
def test_marginal_expectation_under_vmap(family, structure):
    one = case(family, structure)

    def draw(value):
        law = one.law(value, gradient_estimator="marginal_expectation")
        return law.rsample() @ tensor(WEIGHTS[:5])

    def mean(value):
        return one.law(value).mean @ tensor(WEIGHTS[:5])

    slopes = torch.stack([eager_gradient(mean, value) for value in one.parameters])
    close(vmap(grad(draw), randomness="different")(one.parameters), slopes)


# Certain values


CERTAIN = np.array([0.3, 0.0, 0.4, 1.0, 0.2, 0.6])
ZEROS = {
    "bernoulli": Case("bernoulli", CERTAIN, TABLE, [1, 2, 1, 1, 1]),
    "poisson": Case("poisson", CERTAIN, TABLE, [2, 2, 1, 2, 1]),
    "poisson sum": Case("poisson", np.array([0.3, 0.0, 0.4]), np.ones(3, int), 3),
    "categorical": Case("categorical", np.array([[0.3, 0.7, 0.0], [0.2, 0.5, 0.3], [0, 0.4, 0.6]]),
                        np.ones(3, int), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", ZEROS)
@pytest.mark.parametrize("quantity", ["evidence", "score", "mean"])
def test_derivatives_at_certain_values(name, quantity):
    """Rates of 0 and probabilities of 0 and 1 have derivatives in each mode, alone and mapped."""
    one = ZEROS[name]
    functions = {
        "mean": lambda value: weighted_in(one.law(value).mean),
        "evidence": function_of(one, "evidence"),
        "score": function_of(one, "score"),
    }
    function = functions[quantity]
    oracles = {
        "mean": lambda problem, case: weighted(problem.mean),
        "evidence": QUANTITIES["evidence"][1],
        "score": QUANTITIES["score"][1],
    }
    expected = slope_at(lambda value: oracles[quantity](one.problem_at(value), one), one.value)
    several = torch.stack([one.parameter, 0.5 * one.parameter + 0.1])
    for derivative in (grad, jacrev, jacfwd):
        found = derivative(function)(one.parameter)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        close(vmap(derivative(function))(several)[0], found)


def test_independent_tables():
    """Rates that are products take closed forms in both modes, and the dynamic programme where
    they are mapped."""
    rate = np.outer([0.5, 2.0], [1.0, 0.3, 0.7]).ravel()
    one = Case("poisson", rate, TABLE, [4, 3, 2, 3, 2])
    for quantity in ("evidence", "moments", "table and entropy"):
        function = function_of(one, quantity)
        oracle = QUANTITIES[quantity][1]
        slope = slope_at(lambda value, o=oracle: o(one.problem_at(value), one), rate)
        for derivative in (grad, jacfwd, lambda f: lambda r: vmap(grad(f))(r[None])[0]):
            found = derivative(function)(one.parameter)
            np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-6)
    law = one.law(one.parameter)
    draws = vmap(lambda _: law.sample(), randomness="different")(torch.zeros(20))
    assert law.support.check(draws).all() and (draws != draws[0]).any()


def test_a_law_without_points_under_vmap():
    law = lambda p: ConstrainedBernoulli(p, ROUTING, [2, 1])  # noqa: E731
    probs = tensor([[0.0, 0.0, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5]])
    found = vmap(lambda p: law(p).constraint_log_prob())(probs)
    assert found[0] == -torch.inf and found[1].isfinite()
    with pytest.raises(ParameterError, match="positive probability"):
        vmap(lambda p: law(p).sample(), randomness="different")(probs)


# A and k


@pytest.mark.parametrize("transform", [grad, jacrev, jacfwd, vmap])
def test_forms_of_A_and_k(transform):
    """Lists, arrays, tensors and groups, all of which are concrete."""
    A = STRUCTURES["groups"][0]
    p = tensor(VALUE)
    p = p.expand(2, 5) if transform is vmap else p
    reference = transform(lambda p: ConstrainedPoisson(p, A, [1, 2]).constraint_log_prob())(p)
    matrices = A.tolist(), torch.tensor(A), tensor(A), GroupSum([0, 0, 1, 1, 1], 2)
    for matrix in matrices:
        for k in ([1, 2], np.array([1, 2]), torch.tensor([1, 2]), tensor([1.0, 2.0])):
            found = transform(
                lambda p, A=matrix, k=k: ConstrainedPoisson(p, A, k).constraint_log_prob()
            )(p)
            close(found, reference)


@each_family
def test_a_mapped_k_or_A_is_refused(family):
    one = case(family, "rows")
    A, k = torch.tensor(one.A), torch.tensor(one.k)
    with pytest.raises(ConstraintError, match=r"k: .*torch\.func\.vmap.*batch of k"):
        vmap(lambda k: LAWS[family](one.parameter, A, k).mean)(torch.stack([k, k]))
    with pytest.raises(ConstraintError, match=r"A: .*torch\.func\.vmap"):
        vmap(lambda A: LAWS[family](one.parameter, A, k).mean)(torch.stack([A, A]))


@each_family
def test_what_is_kept_serves_later_laws(family):
    """Plans that are first bound inside of a transform, and answers that a law keeps."""
    A = np.array([[1, 1, 2, 0, 0], [0, 0, 1, 1, 3]])
    one = replace(case(family, "rows"), A=A, k=[2, 1])
    grad(lambda value: weighted_in(one.law(value).mean))(one.parameter)
    law = one.law(one.parameter)
    np.testing.assert_allclose(law.mean, one.problem.mean, atol=1e-12)
    law = one.law(one.parameter.clone().requires_grad_())
    vmap(lambda weight: (law.mean * weight).sum())(torch.ones(2))
    np.testing.assert_allclose(law.covariance.detach(), one.problem.covariance, atol=1e-12)
