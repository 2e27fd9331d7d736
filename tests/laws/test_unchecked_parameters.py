"""Parameters that nothing has checked, since validation is off or a trace hides them: where they
make no law, no answer is that of another law."""

import numpy as np
import pytest

from tests.adapters import each_backend

N = 4
ONES = np.ones(N, int)
OVERLAPPING = np.array([[1, 1, 1, 0], [0, 1, 0, 1]])
X = np.array([1.0, 0.0, 1.0, 0.0])


def positive(value):
    return np.full(N, value)


def one_of_them(value):
    return np.array([0.5, value, 0.5, 0.5])


def student(library, df, **kw):
    ones = np.ones(N)
    return library.ConstrainedMultivariateStudentT(df, 0.0, scale=ones, A=ones, k=2.0, **kw)


def law(name):
    return lambda library, value, A=ONES, k=2, **kw: getattr(library, name)(value, A, k, **kw)


def table(value):
    return np.array([[0.3, value, 0.7 - value]] * N)


POISSON, BERNOULLI = law("ConstrainedPoisson"), law("ConstrainedBernoulli")
CATEGORICAL = law("ConstrainedCategorical")
WRONG = {
    "df": (student, np.array(-1.0), np.array(5.0)),
    "rate": (POISSON, one_of_them(-1.0), one_of_them(1.0)),
    "rates": (POISSON, positive(-1.0), positive(1.0)),
    "infinite rate": (POISSON, one_of_them(np.inf), one_of_them(1.0)),
    "rate of two rows": (
        lambda library, value, **kw: POISSON(library, value, OVERLAPPING, [2, 0], **kw),
        one_of_them(-1.0),
        one_of_them(1.0),
    ),
    "probs above 1": (BERNOULLI, one_of_them(1.5), one_of_them(0.4)),
    "probs below 0": (BERNOULLI, one_of_them(-0.5), one_of_them(0.4)),
    "probs of two rows": (
        lambda library, value, **kw: BERNOULLI(library, value, OVERLAPPING, [2, 0], **kw),
        one_of_them(1.5),
        one_of_them(0.4),
    ),
    "category": (CATEGORICAL, table(-0.2), table(0.2)),
    "categories": (CATEGORICAL, -table(0.2), table(0.2)),
    "log odds": (
        lambda library, value, **kw: library.ConstrainedBernoulli(logits=value, A=ONES, k=2, **kw),
        one_of_them(np.nan),
        one_of_them(0.3),
    ),
}
ANSWERS = ("mean", "variance", "covariance", "entropy", "constraint_log_prob")


def answers(backend, law):
    found = {"log_prob": backend.log_prob(law, X)}
    found |= {name: backend.value(law, name) for name in ANSWERS}
    if hasattr(law, "marginal_log_prob"):
        found["marginals"] = np.exp(backend.value(law, "marginal_log_prob"))
    return found


@each_backend
@pytest.mark.parametrize("name", WRONG)
def test_answers_are_not_those_of_another_law(backend, name):
    make, wrong, _ = WRONG[name]
    law = make(backend.library, backend.array(wrong), validate_args=False)
    for answer, found in answers(backend, law).items():
        assert (np.isnan(found) | (found == -np.inf)).all(), answer
    try:
        draw = backend.numpy(backend.sample(law, 0, (3,)))
    except ValueError as error:  # PyTorch knows it
        assert "positive probability" in str(error)
    else:
        assert (np.isnan(draw) | (draw == -1)).all()


@each_backend
@pytest.mark.parametrize("name", WRONG)
def test_the_others_of_a_batch_are_right(backend, name):
    make, wrong, right = WRONG[name]
    batch = make(backend.library, backend.array([right, wrong, right]), validate_args=False)
    alone = make(backend.library, backend.array(right), validate_args=True)
    for (answer, found), expected in zip(
        answers(backend, batch).items(), answers(backend, alone).values(), strict=True
    ):
        np.testing.assert_allclose(found[[0, 2]], [expected] * 2, rtol=1e-9, err_msg=answer)
        assert (np.isnan(found[1]) | (found[1] == -np.inf)).all(), answer


@each_backend
@pytest.mark.parametrize("name", ["df", "rates", "probs above 1", "categories"])
def test_a_trace_hides_them(backend, name):
    """A parameter that an optimiser took out of its range, in the program of a user."""
    make, wrong, right = WRONG[name]

    def score(parameters):
        return make(backend.library, parameters).log_prob(backend.array(X)).sum()

    if backend.name == "jax":
        import jax

        found = [float(jax.jit(score)(value)) for value in (wrong, right)]
    else:
        import torch

        values = backend.array([wrong, right])
        found = torch.func.vmap(score)(values).tolist()
    assert not np.isfinite(found[0]) and np.isfinite(found[1])
