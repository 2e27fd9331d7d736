"""A step through a law with a concrete A is plain tensor algebra, so that ``torch.compile`` and
``torch.export`` take it whole.
"""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from pyro_constrained import (
    ConstrainedLowRankMultivariateNormal,
    ConstrainedNormal,
    ConstraintError,
    GroupSum,
    LinearEqualityTransform,
    SparseMatrix,
)
from tests.on_pyro.concrete import (
    FACTOR,
    GROUPS,
    LAWS,
    LOC,
    MVN,
    NORMAL,
    SCALE,
    STUDENT,
    WEIGHTS,
    A,
    K,
    close,
)


@pytest.fixture
def compiling():
    """From scratch: what other tests compiled is forgotten."""
    torch._dynamo.reset()


def whole(function, backend="aot_eager"):
    return torch.compile(function, fullgraph=True, backend=backend)


def value_and_gradients(function, *given):
    leaves = [part.clone().requires_grad_() for part in given]
    torch.manual_seed(0)
    value = function(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


def step(name, **kw):
    x = LAWS[name](LOC, SCALE).mean

    def run(loc, scale):
        law = LAWS[name](loc, scale, **kw)
        draw = law.rsample((2,)) if not name.startswith("student") else law.mean
        return (
            law.log_prob(x) + law.entropy() + (draw.square() @ WEIGHTS).sum() + law.variance.sum()
        )

    return run


FAST_TO_COMPILE = ("redundant", "groups")


@pytest.mark.parametrize(
    "name",
    [n if n in FAST_TO_COMPILE else pytest.param(n, marks=pytest.mark.slow) for n in LAWS],
)
def test_a_compiled_step_is_one_graph(name, compiling):
    """It builds, draws and scores; the same values, also at other parameters."""
    compiled = whole(step(name))
    for loc, scale in ((LOC, SCALE), (2 * LOC + 1, SCALE.flip(0))):
        expected = value_and_gradients(step(name), loc, scale)
        close(value_and_gradients(compiled, loc, scale), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diagonal", "row", "dense"])
def test_a_compiled_step_with_the_default_backend(name, compiling):
    expected = value_and_gradients(step(name), LOC, SCALE)
    compiled = torch.compile(lambda *p: step(name)(*p), fullgraph=True)
    assert value_and_gradients(compiled, LOC, SCALE)[0].shape == expected[0].shape


STALE = {
    "row": lambda A: NORMAL(LOC, SCALE, A[0], K[0], validate_args=False).mean,
    "dense": lambda A: MVN(LOC, torch.diag(SCALE), A, K, validate_args=False).variance,
    "low rank": lambda A: (
        ConstrainedLowRankMultivariateNormal(LOC, FACTOR, SCALE, A, K, validate_args=False).mean
    ),
    "student": lambda A: STUDENT(5.0, LOC, A=A, k=K, scale=SCALE, validate_args=False).mode,
    "transform": lambda A: LinearEqualityTransform(A[0], K[0])(LOC[:3]),
    "inverse": lambda A: LinearEqualityTransform(A, K).inv(LOC[:4]),
    "elimination": lambda A: LinearEqualityTransform(A, K, "elimination").log_abs_det_jacobian(
        LOC[:2], LOC[:4]
    ),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, torch.clone) for name in STALE),
        ("dense", torch.Tensor.numpy),
        ("transform", torch.Tensor.numpy),
    ],
)
def test_a_compiled_step_is_never_stale(name, kind, compiling):
    """Whatever A is later, another one or the same one changed in place: the plan is of the values
    at compilation, others give NaN, which no other step ever takes for them."""
    given, other = kind(A.clone()), kind(A * torch.tensor([1.0, 2.0, 1.0, 1.0]))
    compiled, expected = whole(STALE[name], "eager"), STALE[name](A)
    close(compiled(given), expected)
    assert compiled(other).isnan().any()
    given[0, 0] = 7.0
    assert compiled(given).isnan().any()
    torch._dynamo.reset()
    close(whole(lambda A: STALE[name](A), "eager")(kind(A.clone())), expected)


class Evaluated(nn.Module):
    """Everything that is asked of a law, of parameters that are trained."""

    def __init__(self, name):
        super().__init__()
        self.name, self.loc, self.scale = name, nn.Parameter(LOC.clone()), nn.Parameter(SCALE)

    def forward(self, x):
        law = LAWS[self.name](self.loc * 1, self.scale.exp())
        figures = [law.log_prob(x), law.constraint_log_prob(), law.mean, law.variance]
        if not self.name.startswith("student"):
            figures += [law.crps(x), law.expected_l1(x)]
        return *figures, law.entropy(), law.project(x), law.residual(law.sample((2,)))


@pytest.mark.parametrize(
    "name",
    [
        n if n in ("diagonal", "groups", "student") else pytest.param(n, marks=pytest.mark.slow)
        for n in LAWS
    ],
)
def test_a_compiled_module_is_evaluated(name, compiling):
    """It is one graph in training, under no_grad and in inference mode: a compiler does not tell
    which tensors inference mode has made, and was asked."""
    module = Evaluated(name)
    compiled, x = whole(module), LAWS[name](LOC, SCALE).mean
    trained = compiled(x)
    trained[0].backward()
    assert module.scale.grad is not None
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = compiled(x)
            close(found, module(x))
            assert not any(figure.requires_grad for figure in found)


@pytest.mark.parametrize("A", ["groups", "weighted", "sparse"])
def test_a_matrix_that_is_made_in_a_compiled_step(A, compiling):
    """The graph ends there, as NumPy's checks of an index are none of PyTorch's."""
    index, scipy_matrix = np.array([0, 0, 1, 1]), sparse.csr_array(np.eye(2).repeat(2, 1))
    make = {
        "groups": lambda: GroupSum(index, 2),
        "weighted": lambda: GroupSum(index, 2, weights=np.array([1.0, 2.0, 1.0, 0.5])),
        "sparse": lambda: SparseMatrix.of(scipy_matrix),
    }[A]

    def entropy_and_mean(loc, scale):
        law = ConstrainedNormal(loc, scale, make(), K)
        return law.entropy() + law.mean @ WEIGHTS

    expected = value_and_gradients(entropy_and_mean, LOC, SCALE)
    compiled = torch.compile(entropy_and_mean, backend="aot_eager")
    close(value_and_gradients(compiled, LOC, SCALE), expected)


def test_two_laws_in_one_compiled_step(compiling):
    """Neither A has been seen before: the second is kept after the first is read."""
    one, other = (torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, -1.0, t]]) for t in (2.25, 3.25))

    def means(loc):
        return torch.stack(
            [NORMAL(loc, SCALE[:4], matrix, K, validate_args=False).mean for matrix in (one, other)]
        )

    loc = LOC[:4]
    close(whole(means, "eager")(loc), means(loc))


@pytest.mark.parametrize("basis", ["isometry", "elimination"])
@pytest.mark.parametrize("kind", ["rows", "wide", "row", "groups"])
def test_a_transform_in_a_compiled_step_is_one_graph(kind, basis, compiling):
    rows = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 2.0], [1.0, 2.0, 0.0, 2.0]])
    matrix = {
        "rows": rows,
        "wide": torch.cat([rows[:2], torch.linspace(-1, 1, 120).reshape(2, 60).cos()], 1),
        "row": rows[0],
        "groups": GROUPS,
    }[kind]
    side = {"rows": torch.tensor([1.0, 0.5, 1.5]), "row": K[0]}.get(kind, K)
    u = torch.linspace(-1, 1, LinearEqualityTransform(matrix, side).codomain._bound.free_size)

    def there_and_back(u):
        transform = LinearEqualityTransform(matrix, side, basis)
        x = transform(u)
        return x, transform.inv(x), transform.log_abs_det_jacobian(u, x)

    close(whole(there_and_back, "eager")(u), there_and_back(u))


def test_a_compiled_step_over_minibatches_of_k(compiling):
    x = NORMAL(LOC, SCALE, A, K).mean

    @whole
    def score(k):
        return NORMAL(LOC, SCALE, A, k, validate_args=False).constraint_log_prob()

    for k in (K, K + 1):
        close(score(k), NORMAL(LOC, SCALE, A, k).constraint_log_prob())
    assert x.isfinite().all()


class Head(nn.Module):
    """An output layer that keeps a law."""

    def __init__(self, matrix):
        super().__init__()
        self.net, self.matrix = nn.Linear(3, 8), matrix

    def forward(self, z, k):
        loc, raw = self.net(z).chunk(2, -1)
        return NORMAL(loc, nn.functional.softplus(raw), self.matrix, k, validate_args=False).mean


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("matrix", [A.numpy(), GROUPS], ids=["array", "groups"])
def test_export(matrix, compiling):
    head = Head(matrix).double()
    z, k = torch.randn(5, 3), torch.randn(5, 2)
    exported = torch.export.export(head, (z, k)).module()
    close(exported(z + 1, k - 1), head(z + 1, k - 1))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_export_of_a_tensor_A(compiling):
    """As a constant it has values; as an argument it has none."""
    head, given = Head(A).double(), (torch.randn(5, 3), torch.randn(5, 2))
    close(torch.export.export(head, given).module()(*given), head(*given))

    class Free(nn.Module):
        def forward(self, matrix, k):
            return NORMAL(LOC, SCALE, matrix, k).mean

    with pytest.raises(ConstraintError, match="NumPy array"):
        torch.export.export(Free(), (A, K))
