"""``explain`` in both packages: what users give, the same words, and plans that the laws share."""

import contextlib
import io
import re

import numpy as np
import pytest
from scipy import sparse

import constrained_core
from constrained_core import ConstraintError, SparseMatrix
from tests.adapters import BACKENDS, each_backend
from tests.sources import ROOT

A = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
K = np.array([3.0, 2, 4, 1])
GIVEN = {
    "dense": lambda backend: backend.array(A),
    "whole": lambda backend: backend.array(A, "int64"),
    "list": lambda backend: A.tolist(),
    "numpy": lambda backend: A,
    "scipy": lambda backend: sparse.csc_array(A),
    "matrix": lambda backend: SparseMatrix.of(sparse.csr_array(A)),
    "native_values": lambda backend: SparseMatrix.of(sparse.csr_array(A)).with_values(
        backend.array(np.ones(8))
    ),
}
SINGLE = {
    "row": (np.arange(1.0, 5.0), np.array(3.0)),
    "groups": (constrained_core.GroupSum([0, 1, 1, 0], 2), K[:2]),
    "batch_of_k": (A, np.stack([K, 2 * K])),
    "disagrees": (A, K + np.array([0, 0, 0, 1.0])),
    "reals": (A * np.pi, K),
}


@each_backend
@pytest.mark.parametrize("name", GIVEN)
def test_what_is_given_is_read_as_by_the_laws(backend, name):
    found = backend.library.explain(GIVEN[name](backend), backend.array(K))
    is_sparse = name in ("scipy", "matrix", "native_values")
    core = SparseMatrix.of(sparse.csr_array(A)) if is_sparse else A
    assert str(found) == str(constrained_core.explain(core, K))


@pytest.mark.skipif(len(BACKENDS) < 2, reason="needs both frameworks")
@pytest.mark.parametrize("name", SINGLE)
def test_both_packages_say_the_same(name):
    matrix, k = SINGLE[name]
    one, other = (
        backend.library.explain(backend.constraint(matrix), backend.array(k), num_categories=3)
        for backend in BACKENDS
    )
    assert str(one) == str(other) and one._repr_html_() == other._repr_html_()


@each_backend
def test_without_k(backend):
    found = backend.library.explain(backend.array(A))
    assert found.agrees is None and found.rank == 3


@each_backend
def test_single_precision_decides_the_rank(backend):
    nearly = A.copy()
    nearly[3, 3] += 1e-9
    assert backend.library.explain(backend.array(nearly)).rank == 4
    found = backend.library.explain(backend.array(nearly, "float32"))
    assert found.rank == 3 and found.dtype == np.float32


@each_backend
def test_plans_are_those_of_the_laws(backend):
    library, ones = backend.library, backend.array(np.ones(4))
    found = library.explain(backend.array(A), backend.array(K))
    normal = library.ConstrainedNormal(ones, ones, backend.array(A), backend.array(K))
    assert normal._constraint.matrix.plan is found.plan
    # Rates that tell nothing: neither zeros, nor products of a factor for each row and column.
    rates = backend.array([1.0, 2.0, 3.0, 5.0])
    counts = library.ConstrainedPoisson(rates, backend.array(A), backend.array(K))
    assert counts._constraint.plan is found.laws[0].plan


@each_backend
def test_what_cannot_be_explained(backend):
    with pytest.raises(ConstraintError, match="a batch of shape"):
        backend.library.explain(backend.array(np.stack([A, A])))


@each_backend
@pytest.mark.parametrize("which", ["A", "k"])
def test_values_that_are_not_known(backend, which):
    def explained(value):
        arguments = {"A": backend.array(A), "k": backend.array(K)} | {which: value}
        return backend.library.explain(**arguments)

    batch = backend.array(np.stack([A, A] if which == "A" else [K, K]))
    if backend.name == "torch":
        import torch

        transformed = torch.func.vmap(explained)
    else:
        import jax

        transformed = jax.vmap(explained)
    with pytest.raises(ConstraintError, match="expected values that are known, got a traced"):
        transformed(batch)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
def test_sparse_tensors_and_gradients():
    torch = pytest.importorskip("torch")
    from pyro_constrained import explain

    core = constrained_core.explain(SparseMatrix.of(sparse.csr_array(A)), K)
    for matrix in (torch.tensor(A).to_sparse(), torch.tensor(A).to_sparse_csr()):
        assert str(explain(matrix, K)) == str(core)
    learned = explain(torch.tensor(A, requires_grad=True), K)
    assert any("requires a gradient" in note for note in learned.notes)
    values = SparseMatrix.of(sparse.csr_array(A)).with_values(torch.ones(8, requires_grad=True))
    assert any("requires a gradient" in note for note in explain(values).notes)
    assert explain(torch.tensor(A).half()).dtype == np.float32


def test_sparse_arrays_and_constants_of_a_trace():
    jax = pytest.importorskip("jax")
    from jax.experimental.sparse import BCOO, BCSR

    from numpyro_constrained import explain

    core = constrained_core.explain(SparseMatrix.of(sparse.csr_array(A)), K)
    for kind in (BCOO, BCSR):
        assert str(explain(kind.fromdense(A), K)) == str(core)
    ranks = []

    @jax.jit
    def traced(x):
        ranks.append(explain(jax.numpy.array(A), jax.numpy.array(K)).rank)
        return x

    traced(1.0)
    assert ranks == [3]


@each_backend
def test_the_page_shows_what_is_printed(backend):
    """docs/explain.md, up to where it cuts the text short."""
    page = (ROOT / "docs" / "explain.md").read_text()
    code, text = re.search(r"```python\n(.*?)```.*?```text\n(.*?)  \.\.\.", page, re.S).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("pyro_constrained", backend.package), {})
    assert printed.getvalue().startswith(text)
