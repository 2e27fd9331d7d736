"""What a user may pass: last dimensions of one, frames, arrays that change later; and what not."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

import constrained_core
from constrained_core import ConstraintError, SparseMatrix
from tests.adapters import BACKENDS, assert_close, each_backend
from tests.cases import LOW_RANK, MVN, NORMAL, STUDENT, Groups
from tests.discrete_cases import BERNOULLI, POISSON
from tests.laws.input_laws import LOC, ONES, ROOT, WHOLE, N, each_law, laws

TWO = np.array([[1.0, 1, 1, 0, 0, 0], [0, 0, 1, 1, -1, 2]])

# name -> law, what is stretched with its range, the other parameters, k
STRETCHED = {
    "loc": (NORMAL, (-1.0, 1.0), {"scale": np.linspace(0.5, 1.5, N)}, 0.5),
    "scale": (NORMAL, (0.5, 2.0), {"loc": LOC}, 0.5),
    "loc of a dense law": (MVN, (-1.0, 1.0), {"scale_tril": ROOT}, 0.5),
    "cov_diag": (LOW_RANK, (0.5, 2.0), {"loc": LOC, "cov_factor": ROOT[:, :2]}, 0.5),
    "scale of a t": (STUDENT, (0.5, 2.0), {"loc": LOC, "df": np.array(5.0)}, 0.5),
    "rate": (POISSON, (0.5, 2.0), {}, 4),
    "probs": (BERNOULLI, (0.2, 0.7), {}, 3),
    "logits": (BERNOULLI, (-1.0, 1.0), {}, 3),
}
QUICK = ["scale", "rate"]
"""JAX compiles for seconds: the others are slow there."""

each_stretched = pytest.mark.parametrize("name", STRETCHED)


def values(backend, name: str, size: int, batch: tuple[int, ...] = (5,)):
    """Of the stretched parameter, with a last dimension of `size`."""
    low, high = STRETCHED[name][1]
    drawn = np.random.default_rng(1).uniform(low, high, (*batch, 1))
    return np.repeat(drawn, size, -1)


def stretched_law(backend, name: str, value, **changed):
    law, _, params, k = STRETCHED[name]
    given = {key: backend.array(part) for key, part in params.items()}
    given |= {name.split()[0]: value, "A": np.ones(N, int), "k": k} | changed
    return getattr(backend.library, law)(**given)


def a_point(name: str) -> np.ndarray:
    if STRETCHED[name][0] in (POISSON, BERNOULLI):
        return np.array([1, 0, 1, 0, 1, 0]) + (STRETCHED[name][0] == POISSON) * np.eye(6)[0]
    return np.array([0.5, -1, 1, 2, -2, 0.0])


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        pytest.param(
            backend,
            name,
            id=f"{backend}-{name}",
            marks=[pytest.mark.slow] * (backend.name == "jax" and name not in QUICK),
        )
        for backend in BACKENDS
        for name in STRETCHED
    ],
)
def test_a_last_dimension_of_one_stands_for_all(backend, name):
    one, full = values(backend, name, 1), values(backend, name, N)
    short = stretched_law(backend, name, backend.array(one))
    long = stretched_law(backend, name, backend.array(full))
    assert tuple(short.batch_shape) == tuple(long.batch_shape) == (5,)
    is_discrete = STRETCHED[name][0] in (POISSON, BERNOULLI)
    x = a_point(name)
    value = backend.counts(x) if is_discrete else backend.array(x)
    expected = backend.numpy(long.log_prob(value))
    assert_close(backend.numpy(short.log_prob(value)), expected, 1e-12)
    assert_close(backend.value(short, "mean"), backend.value(long, "mean"), 1e-12)
    assert backend.draws(short, 0).shape == (5, N)

    def total(given):
        law = stretched_law(backend, name, given["value"])
        return (law.log_prob(value) + (law.mean**3).sum(-1)).sum()

    found = backend.gradients(total, {"value": one})["value"]
    expected = backend.gradients(total, {"value": full})["value"].sum(-1, keepdims=True)
    assert_close(found, expected, 1e-10 * (1 + np.abs(expected).max()))


@each_backend
@each_stretched
def test_other_sizes_are_refused(backend, name):
    for size in (2, N - 1, N + 1):
        with pytest.raises(ConstraintError, match=name.split()[0]):
            stretched_law(backend, name, backend.array(values(backend, name, size)))


@each_backend
def test_matrices_are_not_stretched(backend):
    for name in ("covariance_matrix", "precision_matrix", "scale_tril"):
        make = backend.library.ConstrainedMultivariateNormal
        with pytest.raises(ConstraintError, match=name):
            make(backend.array(LOC), A=ONES, k=0.0, **{name: backend.array(np.ones((1, 1)))})


def sparse_matrices(backend):
    yield from (kind(WHOLE) for kind in (sparse.csr_array, sparse.coo_array, sparse.csc_matrix))
    if backend.name == "torch":
        yield backend.array(WHOLE).to_sparse()
    else:
        from jax.experimental.sparse import BCOO

        yield BCOO.fromdense(backend.array(WHOLE))


@each_backend
@each_law
def test_sparse_matrices_are_taken(backend, law):
    dense = laws(backend)[law](WHOLE, np.array([2, 2]))
    for A in sparse_matrices(backend):
        found = laws(backend)[law](A, np.array([2, 2]))
        assert_close(backend.value(found, "mean"), backend.value(dense, "mean"), 1e-12)
        assert_close(backend.value(found, "variance"), backend.value(dense, "variance"), 1e-12)


@each_backend
@each_law
def test_data_frames(backend, law):
    pandas = pytest.importorskip("pandas")
    A, k = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 2]]), np.array([2, 2])
    frame = pandas.DataFrame(A, index=["north", "south"], columns=list("abcdef"))
    found = laws(backend)[law](frame, pandas.Series(k, index=frame.index))
    expected = laws(backend)[law](A, k)
    assert_close(backend.value(found, "mean"), backend.value(expected, "mean"), 1e-14)
    np.testing.assert_array_equal(backend.numpy(found.A), A)
    with pytest.raises(ConstraintError, match="A: expected an array of numbers"):
        laws(backend)[law](frame.astype(str), k)


@each_backend
def test_parameters_of_frames_keep_their_digits(backend):
    """A frame has a dtype, as an array has, where a list takes that of others."""
    pandas = pytest.importorskip("pandas")
    scale = pandas.Series(np.linspace(0.1, 0.7, N))
    found = backend.library.ConstrainedNormal(0.0, scale, np.ones(N), 1.0)
    expected = backend.library.ConstrainedNormal(0.0, scale.to_numpy(), np.ones(N), 1.0)
    np.testing.assert_array_equal(backend.numpy(found.scale), scale)
    assert_close(backend.value(found, "variance"), backend.value(expected, "variance"), 0)


@each_backend
@each_law
@pytest.mark.parametrize("which", ["A", "k"])
def test_masked_entries_are_refused(backend, law, which):
    given = {"A": np.ones((1, N)), "k": np.ones(1)}
    given[which] = np.ma.masked_equal(given[which], 1.0)
    with pytest.raises(ConstraintError, match=f"{which}: expected numbers everywhere, got a mask"):
        laws(backend)[law](given["A"], given["k"])
    no_mask = np.ma.masked_equal(np.ones((1, N)), 0.0)
    assert backend.value(laws(backend)[law](no_mask, np.ones(1)), "mean").shape == (N,)


@each_backend
@pytest.mark.parametrize("A", [1, 1.0, np.array(1.0), np.int64(1), "native"])
def test_a_number_is_no_matrix(backend, A):
    A = backend.array(1.0) if isinstance(A, str) else A
    one, library = backend.array(np.ones(1)), backend.library
    for make in (
        lambda: library.ConstrainedNormal(one, one, A, 1.0),
        lambda: library.ConstrainedMultivariateNormal(one, one[None], A, 1.0),
        lambda: library.ConstrainedMultivariateStudentT(3.0, one, A=A, k=1.0, scale=one),
        lambda: library.ConstrainedPoisson(one, A, 1),
        lambda: library.transforms.LinearEqualityTransform(A, 1.0),
        lambda: library.constraints.linear_equality(A, 1.0),
        lambda: library.explain(A),
        lambda: library.explain(A, 1.0),
    ):
        with pytest.raises(ConstraintError, match=r"A: expected shape .* or \(n,\) for one row"):
            make()


@each_backend
def test_entries_given_twice_do_not_overflow(backend):
    """200 + 100 is 44 in bytes."""
    row, column = np.array([0, 0, 0, 1]), np.array([1, 1, 0, 2])
    values = np.array([200, 100, 1, 1], np.uint8)
    if backend.name == "torch":
        where = backend.torch.tensor(np.stack([row, column]))
        native = backend.torch.sparse_coo_tensor(where, backend.torch.tensor(values), (2, 3))
    else:
        from jax.experimental.sparse import BCOO

        where = backend.jax.numpy.asarray(np.stack([row, column], -1))
        native = BCOO((backend.jax.numpy.asarray(values), where), shape=(2, 3))
    for A in (native, sparse.coo_array((values, (row, column)), shape=(2, 3))):
        law = backend.library.ConstrainedNormal(backend.array(np.zeros(3)), 1.0, A, [1.0, 2.0])
        found = SparseMatrix.to_dense(law.A)
        np.testing.assert_array_equal(found, [[1, 300, 0], [0, 0, 1]])


@each_backend
def test_sparse_graphs(backend):
    graph = np.array([[0, 4.0, 1], [4, 0, 0], [1, 0, 0]])
    if backend.name == "torch":
        given = [backend.array(graph).to_sparse()]
    else:
        from jax.experimental.sparse import BCOO, BCSR

        given = [kind.fromdense(backend.array(graph)) for kind in (BCOO, BCSR)]
    for adjacency in given:
        found = backend.library.fields.besag(adjacency).precision.to_dense()
        np.testing.assert_array_equal(found, np.diag(graph.sum(0)) - graph)


@each_backend
@pytest.mark.parametrize("law", ["ConstrainedNormal", "ConstrainedPoisson"])
def test_no_variable(backend, law):
    parameters = [backend.array(np.ones(0))] * (2 if law == "ConstrainedNormal" else 1)
    with pytest.raises(ConstraintError, match="at least one variable"):
        getattr(backend.library, law)(*parameters, np.zeros((1, 0)), np.zeros(1))


@each_backend
@each_law
@pytest.mark.parametrize("which", ["A", "k"])
def test_complex_numbers_are_refused(backend, law, which):
    given = {"A": np.ones((1, N)), "k": np.ones(1)}
    given[which] = given[which] + 0j
    with pytest.raises(ConstraintError, match=f"{which}: expected real numbers"):
        laws(backend)[law](given["A"], given["k"])


@each_backend
@pytest.mark.parametrize("law", [NORMAL, POISSON])
def test_complex_values_are_refused(backend, law):
    """They are on the support, but for an imaginary part."""
    made = laws(backend)[law](np.ones((1, N)), np.array([float(N)]))
    value = backend.array(ONES, "complex128") * (1 + 1j)
    answers = [made.log_prob, made.residual]
    for answer in [*answers, made.project] if law == NORMAL else answers:
        with pytest.raises(ConstraintError, match="value: expected real numbers"):
            answer(value)


@each_backend
def test_support_tolerance_of_zero(backend):
    """Is no tolerance at all, not the default."""
    ones = backend.array(ONES)
    x = np.array([1.0, -1, 2, -2, 0.5, -0.5])
    for tolerance, off in ((0.0, 1e-12), (None, 1e-3)):
        law = backend.library.ConstrainedNormal(
            ones, ones, ONES, 0.0, support_tolerance=tolerance, validate_args=False
        )
        assert np.isfinite(backend.log_prob(law, x))
        assert backend.log_prob(law, x + off * np.eye(N)[0]) == -np.inf
        assert not backend.on_support(law, x + off * np.eye(N)[0])


@each_backend
@pytest.mark.parametrize("number", [1.5, 1.0, "1", None, np.float64(2)])
def test_a_number_of_groups_that_is_not_whole(backend, number):
    with pytest.raises(ConstraintError, match="num_groups"):
        backend.library.GroupSum([0] * N, num_groups=number)
    assert backend.library.GroupSum([0] * N, num_groups=np.int64(1)).num_groups == 1


@each_backend
@pytest.mark.parametrize("law", [NORMAL, MVN])
def test_arrays_that_change_later(backend, law):
    for A, k in ((TWO.copy(), np.array([1.0, 2])), (ONES.copy(), np.array([1.0, -1]))):
        made = laws(backend)[law](A, k)
        kept, sides, before = A.copy(), k.copy(), backend.draws(made, 0)
        A *= 3
        k += 1
        np.testing.assert_array_equal(backend.numpy(made.A), kept)
        np.testing.assert_array_equal(backend.numpy(made.k), sides)
        for fact in ("mean", "covariance"):
            expected = backend.value(laws(backend)[law](kept, sides), fact)
            np.testing.assert_array_equal(backend.value(made, fact), expected)
        np.testing.assert_array_equal(backend.draws(made, 0), before)
        assert np.isfinite(backend.log_prob(made, before)).all()


@each_backend
def test_matrices_of_different_rank(backend):
    """A batch of them is a law; what it cannot do names something that can, which works."""
    A = np.stack([TWO, np.stack([TWO[0], TWO[0]])])
    k = np.array([[1.0, 2], [1, 1]])
    ones = backend.array(ONES)
    law = backend.library.ConstrainedNormal(ones, ones, backend.array(A), backend.array(k))
    x = backend.draws(law, 0)
    np.testing.assert_allclose(np.einsum("bmn,bn->bm", A, x), k, atol=1e-14)
    singles = [
        backend.library.ConstrainedNormal(ones, ones, a, b) for a, b in zip(A, k, strict=True)
    ]
    for fact in ("mean", "variance", "entropy"):
        expected = np.stack([backend.value(single, fact) for single in singles])
        assert_close(backend.value(law, fact), expected, 1e-12)
    expected = [backend.log_prob(s, one) for s, one in zip(singles, x, strict=True)]
    assert_close(backend.log_prob(law, x), np.array(expected), 1e-12)
    with pytest.raises(ConstraintError, match=r"reparam\.auto_reparam"):
        coordinates(backend, law.support)
    # What the message says, in this batch:
    moved = backend.numpy(backend.from_base(law, np.ones))
    np.testing.assert_allclose(np.einsum("bmn,bn->bm", A, moved), k, atol=1e-14)
    assert moved.shape == x.shape


def coordinates(backend, support):
    """A free parametrisation of the support, which has no one dimension."""
    if backend.name == "torch":
        transform = backend.torch.distributions.biject_to(support)
        return transform(backend.array(np.zeros((2, 4))))
    from numpyro.distributions import biject_to

    return biject_to(support)(backend.array(np.zeros((2, 4))))


@each_backend
def test_mode_of_gaussians(backend):
    """The point of largest density: the mean, at which the density falls to all sides."""
    for law in (NORMAL, MVN):
        made = laws(backend)[law](TWO, np.array([1.0, 2]))
        mode = backend.value(made, "mode")
        np.testing.assert_array_equal(mode, backend.value(made, "mean"))
        moved = mode + 0.1 * (backend.draws(made, 0, (20,)) - mode)
        assert (backend.log_prob(made, moved) < backend.log_prob(made, mode)).all()


@each_backend
def test_version(backend):
    assert backend.library.__version__ == constrained_core.__version__
    assert constrained_core.__version__[0].isdigit()


def test_repr_of_a_law_without_leaves():
    """As JAX makes them while it takes pytrees apart."""
    jax, numpyro = pytest.importorskip("jax"), pytest.importorskip("numpyro_constrained")
    ones = jax.numpy.ones(N)
    made = [
        numpyro.ConstrainedNormal(ones, ones, ONES, 2.0),
        numpyro.ConstrainedNormal(ones, ones, numpyro.GroupSum([0] * N, num_groups=1), [2.0]),
        numpyro.ConstrainedMultivariateNormal(ones, jax.numpy.eye(N), TWO, [1.0, 2.0]),
        numpyro.ConstrainedPoisson(ones, ONES, 2),
        numpyro.ConstrainedBernoulli(probs=ones / 2, A=ONES, k=2),
    ]
    for law in made:
        empty = jax.tree.map(lambda leaf: None, law)
        assert type(law).__name__ in repr(empty)
        assert type(law).__name__ in repr(law)


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.split(".")[0])

sys.meta_path.insert(0, Absent())
import {package}
"""


@pytest.mark.parametrize(("package", "blocked", "remedy"), [
    ("pyro_constrained", ["pyro"], "pip install pyro-ppl"),
    ("pyro_constrained", ["pyro", "torch"], "pip install pyro-ppl"),
    ("numpyro_constrained", ["numpyro"], "pip install numpyro"),
    ("numpyro_constrained", ["numpyro", "jax"], "pip install numpyro"),
])  # fmt: skip
def test_a_missing_framework_is_named(package, blocked, remedy):
    code = WITHOUT.format(blocked=blocked, package=package)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and remedy in last
    assert blocked[0] in last or blocked[-1] in last


def test_groups_of_frames():
    """The index of groups may be a column of a frame."""
    pandas = pytest.importorskip("pandas")
    column = pandas.Series([0, 1, 1, 0, 2, 2])
    found = constrained_core.GroupSum(column, num_groups=3).to_dense()
    np.testing.assert_array_equal(found, Groups(column.to_numpy(), 3).dense())
