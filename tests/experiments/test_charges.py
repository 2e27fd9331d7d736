"""Charge-neutral crystals: merged atoms, batches, laws and scores against plain computations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, multivariate_t
from torch import Tensor

from constrained_core import GroupSum
from experiments.charges.__main__ import main
from experiments.charges.batches import Dataset
from experiments.charges.bonds import adjacency_of
from experiments.charges.crystals import Crystals, taken
from experiments.charges.laws import (
    CompletedNormal,
    GivenCopies,
    GivenNormal,
    GivenStudentT,
    ProjectedNormal,
    Sums,
)
from experiments.charges.merging import Classes, merge_atoms
from experiments.charges.methods import METHODS, TRAININGS, Guess
from experiments.charges.network import ChargeNetwork
from experiments.charges.scoring import View, score
from experiments.charges.sources import neutral
from experiments.charges.timing import measure_law
from pyro_constrained import ConstrainedMultivariateStudentT
from tests.chance import assert_likely, two_sided

FEW = 12


@pytest.fixture(scope="module")
def crystals() -> Crystals:
    """Rings with symmetric copies, one of them with bonds of two lengths, and random graphs."""
    rng = np.random.default_rng(0)
    parts = []
    for number in range(FEW):
        n = int(rng.integers(6, 12)) * 2
        element = np.arange(n) % 2 if number % 2 else rng.integers(0, 3, n)
        ring = np.stack([np.arange(n), (np.arange(n) + 1) % n], -1)
        chords = rng.integers(0, n, (0 if number % 2 else 4, 2))
        ends = np.concatenate([ring, chords])
        length = 1.4 + 0.1 * (number % 3) * (np.arange(len(ends)) % 2)
        parts.append((element, rng.normal(size=n), ends, length))
    atom_start = np.cumsum([0] + [len(part[0]) for part in parts])
    bond_start = np.cumsum([0] + [len(part[2]) for part in parts])
    moved = [part[2] + first for part, first in zip(parts, atom_start[:-1], strict=True)]
    ends = np.concatenate(moved)
    element, charge, length = (np.concatenate([part[i] for part in parts]) for i in (0, 1, 3))
    return neutral(
        Crystals(
            atom_start,
            element,
            charge,
            bond_start,
            ends[:, 0],
            ends[:, 1],
            length,
            ("A", "B", "C"),
            "made up",
        )
    )


def every_atom(crystals: Crystals, bin_width: float) -> Classes:
    """A class for each atom: nothing merged."""
    n = len(crystals.element)
    labelled = merge_atoms(replace(crystals, element=np.arange(n)), bin_width)
    np.testing.assert_array_equal(labelled.element, labelled.of_atom.argsort())
    return replace(labelled, element=crystals.element[labelled.element])


def network(dataset: Dataset) -> ChargeNetwork:
    torch.manual_seed(0)
    usual = torch.tensor(dataset.usual_charge, dtype=torch.float32)
    return ChargeNetwork(usual, dataset.num_features, 8, 3).double()


def as_double(batch):
    return replace(batch, adjacency=batch.adjacency.double(), size=batch.size.double())


def per_atom(dataset: Dataset, order: np.ndarray) -> Tensor:
    batch = as_double(dataset.whole(order))
    return network(dataset)(batch)[0][batch.of_atom].detach()


def test_merging_is_exact(crystals):
    merged, single = merge_atoms(crystals, 0.01), every_atom(crystals, 0.01)
    assert len(merged.size) < len(single.size) == len(crystals.element)
    assert merged.size.sum() == len(crystals.element)
    everything = np.arange(FEW)
    datasets = [Dataset(crystals, classes, everything) for classes in (merged, single)]
    # Usual lengths are medians over classes, which depend on the merging.
    datasets[1].adjacency = adjacency_of(single, datasets[0].usual_length)
    found, expected = (per_atom(dataset, everything) for dataset in datasets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_symmetric_copies_are_merged(crystals):
    ring = crystals.subset(np.array([3]))  # A and B in turn, all bonds alike
    merged = merge_atoms(ring, 0.01)
    assert len(merged.size) == 2 and set(merged.size) == {len(ring.element) // 2}
    assert len(merge_atoms(crystals.subset(np.array([1])), 0.01).size) > 1


def test_batches_are_slices_of_the_whole(crystals):
    dataset = Dataset(crystals, merge_atoms(crystals, 0.01), np.arange(6))
    order = np.random.default_rng(1).permutation(FEW)
    whole = per_atom(dataset, order)
    parts = []
    for first, batch in zip(range(0, FEW, 5), dataset.batches(order, 5), strict=True):
        parts.append(per_atom(dataset, order[first : first + 5]))
        chosen = crystals.subset(order[first : first + 5])
        np.testing.assert_array_equal(batch.charge, chosen.charge)
        np.testing.assert_array_equal(batch.neutral.index, chosen.crystal)
        np.testing.assert_array_equal(batch.last, chosen.atom_start[1:] - 1)
        spread = dataset.charge_spread[chosen.element]
        for c, atom in enumerate(batch.least_sure):
            assert spread[atom] == spread[chosen.crystal == c].max()
            assert chosen.crystal[atom] == c
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-6, atol=1e-7)


def test_taken():
    members, start = taken(np.array([0, 2, 2, 5]), np.array([2, 0, 1]))
    np.testing.assert_array_equal(members, [2, 3, 4, 0, 1])
    np.testing.assert_array_equal(start, [0, 3, 5, 5])


def test_gradients_of_the_network(crystals):
    dataset = Dataset(crystals, merge_atoms(crystals, 0.01), np.arange(FEW))
    batch, net = as_double(dataset.whole(np.arange(3))), network(dataset)
    weights = [net.rounds[0].filter, net.embedding.weight]

    def outputs(*values):
        names = ["rounds.0.filter", "embedding.weight"]
        values = dict(zip(names, values, strict=True))
        return torch.func.functional_call(net, values, (batch,))

    assert torch.autograd.gradcheck(outputs, weights)


LOC = torch.tensor([0.3, -0.2, 0.4, 1.0, -0.5, 0.1, -0.4], dtype=torch.float64)
SCALE = torch.tensor([0.5, 0.2, 0.7, 1.1, 0.4, 0.6, 0.3], dtype=torch.float64)
CHARGE = torch.tensor([0.2, 0.1, -0.3, 0.4, -0.6, 0.5, -0.3], dtype=torch.float64)
DF = torch.tensor(4.0, dtype=torch.float64)
SUMS = Sums(GroupSum([0, 0, 0, 1, 1, 1, 1], 2))
PARTS = [slice(0, 3), slice(3, 7)]


def linear_map(law: str, n: int) -> np.ndarray:
    """What a method does to independent charges."""
    if law == "projected":
        return np.eye(n) - 1 / n
    rows = np.eye(n)
    rows[-1] = -1
    rows[-1, -1] = 0
    return rows


@pytest.mark.parametrize("name", ["projected", "completed"])
def test_laws_of_rivals(name):
    last = torch.tensor([2, 6])
    law = (
        ProjectedNormal(LOC, SCALE, SUMS)
        if name == "projected"
        else CompletedNormal(LOC, SCALE, SUMS, last)
    )
    expected = 0.0
    for part in PARTS:
        rows = linear_map(name, len(LOC[part]))
        mean = rows @ LOC[part].numpy()
        covariance = rows @ np.diag(SCALE[part].numpy() ** 2) @ rows.T
        oracle = multivariate_normal(mean[:-1], covariance[:-1, :-1])
        expected += oracle.logpdf(CHARGE[part].numpy()[:-1])
        np.testing.assert_allclose(law.mean[part], mean, atol=1e-12)
        np.testing.assert_allclose(law.spread[part] ** 2, covariance.diagonal(), atol=1e-12)
    np.testing.assert_allclose(law.log_prob(CHARGE), expected, rtol=1e-10)


def test_law_given_the_sum():
    law, expected = GivenNormal(LOC, SCALE, SUMS), 0.0
    for part in PARTS:
        prior, one = np.diag(SCALE[part].numpy() ** 2), np.ones(len(LOC[part]))
        gain = prior @ one / (one @ prior @ one)
        mean = LOC[part].numpy() - gain * LOC[part].numpy().sum()
        covariance = prior - np.outer(gain, one @ prior)
        oracle = multivariate_normal(mean[:-1], covariance[:-1, :-1])
        expected += oracle.logpdf(CHARGE[part].numpy()[:-1])
        np.testing.assert_allclose(law.mean[part], mean, atol=1e-12)
        np.testing.assert_allclose(law.spread[part] ** 2, covariance.diagonal(), atol=1e-12)
    np.testing.assert_allclose(law.log_prob(CHARGE), expected, rtol=1e-10)


@pytest.mark.parametrize("df", [0.5, 4.0])
def test_student_t_law_of_each_crystal(df):
    """The first n - 1 charges of a crystal, whose squared scale is widened by the surprise."""
    law = GivenStudentT(LOC, SCALE, SUMS, torch.tensor(df, dtype=torch.float64))
    expected = 0.0
    for part in PARTS:
        prior, one = np.diag(SCALE[part].numpy() ** 2), np.ones(len(LOC[part]))
        gap, size = -LOC[part].numpy().sum(), one @ prior @ one
        mean = LOC[part].numpy() + prior @ one * gap / size
        shape = (prior - np.outer(prior @ one, one @ prior) / size) * (df + gap**2 / size)
        shape = shape / (df + 1)
        oracle = multivariate_t(mean[:-1], shape[:-1, :-1], df + 1)
        expected += oracle.logpdf(CHARGE[part].numpy()[:-1])
        np.testing.assert_allclose(law.mean[part], mean, atol=1e-12)
        np.testing.assert_allclose(law.spread[part] ** 2, shape.diagonal(), atol=1e-12)
    np.testing.assert_allclose(law.log_prob(CHARGE), expected, rtol=1e-10)
    assert float(law.marginal_df) == df + 1


def test_law_of_copies_is_that_of_the_package():
    copies = torch.tensor([0, 1, 0, 2, 3, 3, 3])
    loc, scale, within = LOC[copies], SCALE[copies], 0.1 * SCALE[copies]
    law, expected = GivenCopies(loc, scale, SUMS, DF, within, copies), torch.zeros_like(DF)
    for part in PARTS:
        n, squared = len(loc[part]), torch.zeros(7, 7, dtype=torch.float64)
        for one in copies[part].unique():
            among = (copies == one).double()
            mean = torch.outer(among, among) / among.sum()
            squared += mean * among.sum() * SCALE[one] ** 2
            squared += (among.diag() - mean) * (0.1 * SCALE[one]) ** 2
        scale_tril = torch.linalg.cholesky(squared[part, part])
        ones = torch.ones_like(loc[part])
        oracle = ConstrainedMultivariateStudentT(
            DF, loc[part], scale_tril, ones, torch.zeros_like(DF)
        )
        expected = expected + oracle.log_prob(CHARGE[part]) + 0.5 * np.log(n)
        torch.testing.assert_close(law.mean[part], oracle.mean)
        variance = law.spread[part].square() * law.marginal_df / (law.marginal_df - 2)
        torch.testing.assert_close(variance, oracle.variance)
    torch.testing.assert_close(law.log_prob(CHARGE), expected)


def guess(loc: Tensor) -> Guess:
    last = torch.tensor([2, 6])
    return Guess(loc, SCALE, DF, CHARGE, SUMS, last, last - 1, SCALE, torch.arange(len(loc)))


@pytest.mark.parametrize("name", TRAININGS)
def test_losses_have_gradients(name):
    loc = LOC.clone().requires_grad_()
    TRAININGS[name](guess(loc)).backward()
    assert loc.grad.isfinite().all() and loc.grad.any()


@pytest.mark.parametrize("name", METHODS)
def test_predictions_obey_the_law_where_they_should(name):
    law = METHODS[name].law(guess(LOC))
    obeys = float(SUMS(law.mean).abs().max()) < 1e-14
    assert obeys != (name in {"unconstrained", "soft penalty", "semantic loss"})


def test_fitted_scales_are_calibrated():
    """Scales that are log-linear in a feature are found again.

    A fit to as many charges adds no more than their own error to that of a share among charges.
    """
    rng = torch.Generator().manual_seed(0)
    n, groups = 20_000, 500
    sums = Sums(GroupSum(np.repeat(np.arange(groups), n // groups), groups))

    def drawn() -> View:
        feature = torch.randn(n, 1, generator=rng, dtype=torch.float64)
        scale = (0.5 * feature[:, 0] - 2).exp()
        noise = torch.randn(n, generator=rng, dtype=torch.float64)
        loc, last = torch.zeros(n, dtype=torch.float64), torch.arange(groups) * (n // groups)
        truth = Guess(loc, scale, DF, loc, sums, last, last, scale, torch.arange(n))
        charge = truth.law().mean + (noise * scale)
        charge = charge - scale.square() * sums.spread(sums(charge) / sums(scale.square()))
        start = replace(truth, charge=charge, scale=torch.ones_like(scale))
        return View(start, feature, torch.arange(n))

    outcome = score(METHODS["ours, likelihood"], [drawn()], [drawn()])
    levels = np.array([0.1, 0.5, 0.9])
    covered = np.array([outcome[f"fitted_covered_{level:.0f}"] for level in 100 * levels])
    assert_likely(two_sided((covered - levels) / np.sqrt(2 * levels * (1 - levels) / n)))
    assert abs(outcome["trained_covered_90"] - 0.9) > 0.05
    assert outcome["fitted_nll"] < outcome["trained_nll"]


def test_law_of_a_batch_is_that_of_a_loop(crystals):
    dataset = Dataset(crystals, merge_atoms(crystals, 0.01), np.arange(FEW))
    figures = measure_law(dataset.whole(np.arange(FEW)))  # compares the gradients
    assert figures["ratio"] == pytest.approx(figures["loop_ms"] / figures["batch_ms"])


def test_short_mode_on_molecules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONSTRAINED_DATA", str(tmp_path))
    frame = main(["--short", "--folder", str(tmp_path / "results")])
    assert set(METHODS) < set(frame["method"])
    runs = frame.set_index("method").drop("law")
    assert (runs["fitted_mad"] < 1).all()
    bound = runs.drop(["unconstrained", "soft penalty", "semantic loss"])
    assert (bound["fitted_residual"] < 1e-9).all()
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        f"{name}.{kind}" for name in ("charges", "charges_longer") for kind in ("json", "md", "png")
    }
    again = main(["--short", "--folder", str(tmp_path / "results")])
    assert len(again) == len(frame)
