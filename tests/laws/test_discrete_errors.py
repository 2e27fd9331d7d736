"""What discrete laws refuse, and that the message helps."""

import numpy as np
import pytest

from constrained_core.errors import (
    ConstraintError,
    InfeasibleConstraintError,
    IntractableConstraintError,
    UnboundedSupportError,
)
from tests.adapters import each_backend
from tests.cases import Groups
from tests.discrete_cases import BERNOULLI, CATEGORICAL, POISSON, DiscreteCase, named

NAN, INF = float("nan"), float("inf")
PARAMS = {
    POISSON: {"rate": np.ones(4)},
    BERNOULLI: {"probs": np.full(4, 0.5)},
    CATEGORICAL: {"probs": np.full((4, 3), 1 / 3)},
}
each_family = pytest.mark.parametrize("law", PARAMS)
ROWS = np.array([[1, 1, 0, 0], [0, 1, 1, 1]])
MARGINS = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])


def build(backend, law, A=ROWS, k=(1, 1), **changed):
    params = {n: v for n, v in (PARAMS[law] | changed).items() if v is not None}
    case = DiscreteCase("", law, params, np.asarray(A), np.asarray(k))
    return backend.law(case, validate_args=True)


def message(raised: pytest.ExceptionInfo) -> str:
    return str(raised.value)


@each_backend
@each_family
@pytest.mark.parametrize("changed, word", [
    ({"k": [1.5, 1]}, "k"), ({"k": [NAN, 1]}, "k"), ({"k": [INF, 1]}, "k"),
    ({"A": ROWS / 2}, "A"), ({"A": ROWS * NAN}, "A"),
], ids=["half k", "NaN k", "infinite k", "half A", "NaN A"])  # fmt: skip
def test_numbers_that_are_not_whole(backend, law, changed, word):
    with pytest.raises(ConstraintError, match=word):
        build(backend, law, **changed)


@each_backend
@each_family
@pytest.mark.parametrize("k", [[-1, 1], [[1, 1], [1, -2]]])
def test_negative_k(backend, law, k):
    with pytest.raises(InfeasibleConstraintError, match="-"):
        build(backend, law, k=k)


@each_backend
@each_family
def test_negative_k_is_fine_with_negative_entries(backend, law):
    A = np.array([[1, -1, 0, 0], [1, 1, 1, 1]])
    assert backend.draws(build(backend, law, A=A, k=[-1, 3]), 0) @ A[0] == -1


@each_backend
@each_family
def test_no_lattice_point_by_divisibility(backend, law):
    with pytest.raises(InfeasibleConstraintError, match="2"):
        build(backend, law, A=[[2, 2, 0, 4]], k=[3])


@each_backend
@each_family
def test_rows_that_disagree(backend, law):
    A = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    with pytest.raises(InfeasibleConstraintError, match="2"):
        build(backend, law, A=A, k=[1, 1, 3])


@each_backend
def test_no_point_within_reach(backend):
    with pytest.raises(InfeasibleConstraintError):
        build(backend, BERNOULLI, A=np.ones((1, 4)), k=[5])
    with pytest.raises(InfeasibleConstraintError):
        build(backend, CATEGORICAL, A=np.ones((1, 4)), k=[9])
    with pytest.raises(InfeasibleConstraintError):
        build(backend, POISSON, A=[[3, 5, 0, 0], [0, 0, 1, 1]], k=[4, 1])


@each_backend
def test_one_element_of_a_batch_is_named(backend):
    with pytest.raises(InfeasibleConstraintError, match="1"):
        build(backend, BERNOULLI, A=np.ones((1, 4)), k=[[2], [7], [3]])


@each_backend
def test_unbounded_fiber_names_a_direction(backend):
    with pytest.raises(UnboundedSupportError) as raised:
        build(backend, POISSON, A=[[1, -1, 0, 0], [0, 0, 1, 1]], k=[0, 2])
    assert "x" in message(raised) or "1" in message(raised)


@each_backend
def test_too_large_gives_numbers_and_a_way_out(backend):
    rng = np.random.default_rng(0)
    A = rng.integers(0, 50, (3, 60))
    case = DiscreteCase("", POISSON, {"rate": np.ones(60)}, A, A @ np.full(60, 8))
    with pytest.raises(IntractableConstraintError) as raised:
        backend.law(case)
    assert any(char.isdigit() for char in message(raised))


@each_backend
@pytest.mark.parametrize("law, changed, word", [
    (POISSON, {"rate": np.array([1, -1.0, 1, 1])}, "rate"),
    (POISSON, {"rate": np.array([1, NAN, 1, 1])}, "rate"),
    (POISSON, {"rate": np.array([1, INF, 1, 1])}, "rate"),
    (BERNOULLI, {"probs": np.array([0.5, 1.5, 0.5, 0.5])}, "probs"),
    (BERNOULLI, {"probs": np.array([0.5, -0.1, 0.5, 0.5])}, "probs"),
    (BERNOULLI, {"probs": np.array([0.5, NAN, 0.5, 0.5])}, "probs"),
    (CATEGORICAL, {"probs": np.full((4, 3), -1.0)}, "probs"),
    (CATEGORICAL, {"probs": np.full((4, 3), NAN)}, "probs"),
])  # fmt: skip
def test_parameters_out_of_range(backend, law, changed, word):
    with pytest.raises(ConstraintError, match=word):
        build(backend, law, **changed)


@each_backend
@each_family
@pytest.mark.parametrize("changed", [
    {"k": [1, 1, 1]}, {"k": 1}, {"A": np.ones((2, 3))}, {"A": np.ones((1, 2, 4))},
    {"A": np.array(1)},
])  # fmt: skip
def test_shapes_that_do_not_fit(backend, law, changed):
    with pytest.raises(ConstraintError):
        build(backend, law, **changed)


@each_backend
def test_groups_with_weights_that_are_not_whole(backend):
    groups = Groups(np.array([0, 0, 1, 1]), 2, np.array([1.0, 0.5, 1, 1]))
    case = DiscreteCase("", POISSON, PARAMS[POISSON], groups, np.array([2, 2]))
    with pytest.raises(ConstraintError):
        backend.law(case)


@each_backend
@each_family
def test_values_off_the_support(backend, law):
    found = build(backend, law)
    for value in ([1, 0, 0, 0], [-1, 2, 0, -1], [0, 0, 0, 0]):
        with pytest.raises(ValueError):
            backend.numpy(found.log_prob(backend.counts(np.array(value))))


@each_backend
def test_one_parameter_is_asked_for(backend):
    for law in (BERNOULLI, CATEGORICAL):
        params = PARAMS[law]["probs"]
        with pytest.raises(ConstraintError, match="logits"):
            build(backend, law, logits=params)
        with pytest.raises(ConstraintError, match="probs"):
            build(backend, law, probs=None)


@each_backend
def test_enumeration_of_different_fibers(backend):
    law = backend.law(named("poisson-batch_k"))
    with pytest.raises(ValueError, match="k"):
        law.enumerate_support()


@each_backend
def test_tables_of_an_unbounded_variable(backend):
    law = backend.law(named("poisson-mixed"))
    with pytest.raises(ConstraintError, match="unbounded"):
        law.marginal_log_prob()
    with pytest.raises(ConstraintError):
        law.enumerate_support()


@each_backend
@pytest.mark.parametrize("A", [np.ones(4, int), MARGINS], ids=["sum", "table"])
def test_tables_of_huge_counts(backend, A):
    """What needs none of them is answered still."""
    k = 10**9 if A.ndim == 1 else [6 * 10**8, 4 * 10**8, 3 * 10**8]
    law = backend.library.ConstrainedPoisson(backend.array(np.ones(4)), A, k)
    for name in ("entropy", "marginal_log_prob"):
        with pytest.raises(IntractableConstraintError, match=f"{name}: .*by draws"):
            getattr(law, name)()
    assert np.isfinite(backend.value(law, "mean")).all()
    assert (backend.draws(law, 0, (3,)) @ A.T == k).all()


IMPOSSIBLE = {
    "poisson groups": (POISSON, {"rate": np.zeros(4)}, np.ones((1, 4)), [2]),
    "poisson trellis": (POISSON, {"rate": np.array([1.0, 0, 0, 0])}, ROWS, [1, 1]),
    "poisson merged": (POISSON, {"rate": np.zeros(4)}, [[1, 1, 0, 0], [0, 0, 1, 2]], [1, 2]),
    "bernoulli groups": (BERNOULLI, {"probs": np.array([0.5, 0, 0, 0])}, np.ones((1, 4)), [2]),
    "bernoulli ones": (BERNOULLI, {"probs": np.array([0.5, 1, 1, 1])}, np.ones((1, 4)), [2]),
    "bernoulli trellis": (BERNOULLI, {"probs": np.array([0.5, 0, 0, 0])}, ROWS, [1, 1]),
    "categorical": (CATEGORICAL, {"probs": np.eye(3)[[0, 0, 0, 1]]}, ROWS, [1, 1]),
}


@each_backend
@pytest.mark.parametrize("estimator", ["score_function", "marginal_expectation"])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_nothing_to_draw(backend, name, estimator):
    """Rates or probabilities of exactly 0 or 1 leave no point."""
    law, params, A, k = IMPOSSIBLE[name]
    case = DiscreteCase("", law, params, np.asarray(A), np.asarray(k))
    found = backend.law(case, validate_args=True, gradient_estimator=estimator)
    assert backend.value(found, "constraint_log_prob") == -INF
    with pytest.raises(ConstraintError, match="positive probability"):
        backend.sample(found, 0)


@each_backend
def test_parameters_that_exclude_the_event(backend):
    """Three of four elements are impossible, and two are asked for."""
    for A in (np.ones((1, 4)), [[1, 1, 1, 1], [1, 2, 1, 1]]):
        case = DiscreteCase("", BERNOULLI, {"probs": np.array([0.5, 0, 0, 0])}, np.asarray(A),
                            np.full(len(A), 2) + np.arange(len(A)))  # fmt: skip
        law = backend.law(case)
        assert backend.value(law, "constraint_log_prob") == -INF
