"""Cards of laws in notebooks: what they show, wherever a law is, without computing anything."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import sparse

from constrained_core import fields
from tests import cases, discrete_cases
from tests.adapters import each_backend, each_law

VOID = {"br"}
LAWS = (*cases.CASES, *discrete_cases.CASES)
A = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
K = np.array([3.0, 1, 4])


class Page(HTMLParser):
    """Reads a table: every tag is closed, and every line has a label and a text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.cells: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)
        self.close()
        assert not self._open
        self.title = self.cells[0]
        self.lines = dict(zip(self.cells[1::2], self.cells[2::2], strict=True))

    def handle_starttag(self, tag, attributes):
        self.attributes |= {name for name, _ in attributes}
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        assert self._open[-1] in ("th", "td")
        self.cells[-1] += data


def card(law) -> Page:
    return Page(law._repr_html_())


def normal(backend, matrix, k, **options):
    ones = backend.array(np.ones(4))
    return backend.library.ConstrainedNormal(ones, ones, matrix, k, **options)


@each_law(LAWS, (*cases.COMPILED, *discrete_cases.CASES))
def test_every_law_has_one(backend, case):
    law = backend.law(case)
    found = card(law)
    assert found.title == case.law
    assert found.lines["batch, event"] == f"{tuple(law.batch_shape)}, {tuple(law.event_shape)}"
    assert "given A x = k" in found.lines["law"]
    for name in case.params:
        if name in law.__dict__:
            assert f"{name} {tuple(law.__dict__[name].shape)}" in found.lines["parameters"]
    assert found.lines["dtype"].endswith("float64") and "cpu" in found.lines["device"]
    assert found.lines["gradients"] == law.gradient_estimator
    assert found.lines["method"]
    if isinstance(law.rank, int):
        assert found.lines["rank"].startswith(str(law.rank))


@each_backend
def test_rank_and_dropped_rows(backend):
    found = card(normal(backend, backend.array(A), backend.array(K))).lines
    dropped = backend.library.explain(backend.array(A)).redundant_rows.tolist()
    assert found["rank"] == f"2 of 3 rows; redundant and dropped: {dropped[0]}"
    assert found["structure"].startswith("dense rows") and "r x r" in found["method"]
    assert found["A, k"] == "(3, 4), dense; k (3,)"
    counts = backend.library.ConstrainedPoisson(backend.array(np.ones(4)), A, K)
    assert "redundant and dropped: 2" in card(counts).lines["rank"]
    assert card(counts).lines["method"] == "exact: 2 sums over 4 variables, group by group"


@each_backend
def test_forms_of_the_matrix(backend):
    row = card(normal(backend, np.ones(4), 1.0)).lines
    assert row["A, k"] == "(4,), one row; k ()" and row["rank"] == "1"
    groups = card(normal(backend, backend.library.GroupSum([0, 0, 1, 1], 2), K[:2])).lines
    assert groups["A, k"] == "(2, 4), GroupSum; k (2,)" and "groups" in groups["structure"]
    few = card(normal(backend, sparse.csr_array(A), K)).lines
    assert few["A, k"] == "(3, 4), sparse, 8 entries; k (3,)" and "SuperLU" in few["method"]
    walk = fields.random_walk(5, 1)
    law = backend.library.ConstrainedGMRF(0.0, walk.precision, walk.A, walk.k)
    assert card(law).title == "ConstrainedGMRF" and "Q" in card(law).lines["method"]


@each_backend
def test_a_batch_of_matrices(backend):
    same = card(normal(backend, backend.array(np.stack([A, 2 * A])), backend.array(K))).lines
    assert same["rank"] == "2 of 3 rows" and "structure" not in same
    assert "not known when the law is planned" in same["method"]
    other = np.stack([A, A + np.eye(3, 4)])
    several = card(normal(backend, backend.array(other), backend.array(np.zeros(3)))).lines
    assert several["rank"] == "not one number that is known here"


@each_backend
def test_names_are_escaped(backend):
    odd = type("Odd<b>&", (backend.library.ConstrainedNormal,), {"__doc__": "<i>x</i> & more"})
    law = odd(backend.array(np.zeros(4)), backend.array(np.ones(4)), A, K)
    assert "<b>" not in law._repr_html_() and "<i>" not in law._repr_html_()
    assert card(law).title == "Odd<b>&" and card(law).lines["law"] == "<i>x</i> & more"


@each_backend
def test_nothing_is_loaded_and_no_colour_is_set(backend):
    page = normal(backend, A, K)._repr_html_()
    assert card(normal(backend, A, K)).attributes <= {"style", "colspan", "scope"}
    assert not re.search(r"url\(|href|src|<script|<style|(?<![-\w])color:", page)
    grey = re.findall(r"rgba\(([^)]*)\)", page)  # shades of whatever the page has
    assert grey and all(shade.startswith("128,128,128,.") for shade in grey)
    assert set(re.findall(r"background:([a-z]+)", page)) == {"rgba", "transparent"}


@each_backend
def test_after_expand(backend):
    found = card(normal(backend, A, K).expand((5,))).lines
    assert found["batch, event"] == "(5,), (4,)" and "structure" in found


# Where values are not to be looked at


def test_under_transformations_of_torch():
    torch = pytest.importorskip("torch")
    from pyro_constrained import ConstrainedNormal

    pages = []

    def scored(loc, matrix, k):
        law = ConstrainedNormal(loc, torch.ones(4, dtype=loc.dtype), matrix, k)
        pages.append(card(law))
        return law.log_prob(law.mean).sum()

    loc, matrix, k = (torch.tensor(value) for value in (np.zeros(4), A, K))
    torch.func.vmap(scored, (None, 0, None))(loc, torch.stack([matrix, matrix]), k)
    torch.func.vmap(scored, (0, None, None))(torch.stack([loc, loc]), matrix, k)
    torch.func.grad(scored)(loc, matrix, k)
    assert [page.lines["rank"].partition(";")[0] for page in pages] == [
        "not one number that is known here",
        "2 of 3 rows",
        "2 of 3 rows",
    ]
    learned = ConstrainedNormal(loc, torch.ones(4), matrix.clone().requires_grad_(), k)
    assert "not known when the law is planned" in card(learned).lines["method"]
    away = ConstrainedNormal(loc, torch.ones(4), A, K)
    away.loc = away.loc.to("meta")
    assert card(away).lines["device"] == "meta"


def test_under_transformations_of_jax():
    jax = pytest.importorskip("jax")
    from numpyro_constrained import ConstrainedNormal, ConstrainedPoisson

    pages = []

    def scored(law):
        pages.append(card(law))
        return law.log_prob(law.mean)

    def made(loc, matrix, k):
        return scored(ConstrainedNormal(loc, jax.numpy.ones(4), matrix, k))

    loc, k = jax.numpy.zeros(4), jax.numpy.array(K)
    law = ConstrainedNormal(loc, jax.numpy.ones(4), A, k)
    jax.eval_shape(scored, law)
    jax.eval_shape(jax.vmap(made, (None, 0, None)), loc, jax.numpy.stack([A, A]), k)
    jax.eval_shape(made, loc, A, k)
    assert [page.lines["rank"].partition(";")[0] for page in pages] == [
        "2 of 3 rows",
        "not one number that is known here",
        "not one number that is known here",
    ]
    assert "device" not in pages[0].lines  # a tracer is nowhere
    jax.eval_shape(scored, ConstrainedPoisson(jax.numpy.ones(4), A, K))
    assert "2 sums" in pages[-1].lines["method"]


@pytest.mark.parametrize("case", (*cases.COMPILED, *discrete_cases.CASES), ids=repr)
@pytest.mark.parametrize("leaf", [None, 0, object()], ids=["None", "axis", "object"])
def test_of_laws_without_leaves(case, leaf):
    jax = pytest.importorskip("jax")
    from tests.adapters import JaxBackend

    law = JaxBackend().law(case)
    bare = jax.tree.unflatten(jax.tree.structure(law), [leaf] * jax.tree.structure(law).num_leaves)
    found = card(bare)
    assert found.title == case.law and "not known here" in found.lines["A, k"]


@each_backend
def test_nothing_is_computed(backend):
    """What a law makes when it is asked for, it keeps."""
    law = backend.law(cases.named("covariance-dense"))
    if backend.name == "jax":
        import jax

        leaves, tree = jax.tree.flatten(law)
        law = jax.tree.unflatten(tree, leaves)
    kept = dict(law.__dict__)
    page = card(law)
    assert law.__dict__.keys() == kept.keys()
    assert page.lines["rank"].startswith("3")
