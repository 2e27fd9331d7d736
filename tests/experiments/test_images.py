"""What experiments on images share: formats, resampling, block sums, measures of quality."""

import gzip
import io
import json
import struct
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.linalg import sqrtm
from scipy.stats import ortho_group
from sklearn.datasets import load_digits

from experiments.images import sources
from experiments.images.critic import trained_critic
from experiments.images.data import DIGIT_LEVELS, load, resampled
from experiments.images.laws import block_sums
from experiments.images.quality import (
    frechet_distance,
    largest_violation,
    manifold_scores,
    score_images,
)
from experiments.images.sources import SOURCES, Source, fetch


def idx_file(values):
    """A file of the MNIST format."""
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def png_file(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="png")
    return file.getvalue()


def test_mnist_format(rng):
    pixels = rng.integers(256, size=(5, 4, 3), dtype=np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    files = [idx_file(part) for part in (pixels[:3], labels[:3], pixels[3:], labels[3:])]
    files[1] = gzip.compress(files[1])
    found = SOURCES["mnist"].decode(files)
    np.testing.assert_array_equal(found.pixels, pixels)
    np.testing.assert_array_equal(found.labels, labels)


def test_sheet_of_digits(rng):
    digits = rng.integers(256, size=(5000, 20, 20), dtype=np.uint8)
    sheet = np.block([[digits[100 * row + column] for column in range(100)] for row in range(50)])
    found = SOURCES["opencv_digits"].decode([png_file(sheet)])
    np.testing.assert_array_equal(found.pixels, digits)
    np.testing.assert_array_equal(np.bincount(found.labels), 500)


def test_sheets_of_colour_images(rng):
    """Grey images in colour keep their levels."""
    images = rng.integers(256, size=(3, 1024), dtype=np.uint8)
    colours = np.repeat(images[..., None], 3, axis=-1)
    files = [png_file(colours[:2]), png_file(colours[2:]), *map(json.dumps, ([1, 2], [3]))]
    found = SOURCES["cifar10"].decode(files)
    np.testing.assert_array_equal(found.pixels, images.reshape(3, 32, 32))
    np.testing.assert_array_equal(found.labels, [1, 2, 3])


def write_package(name):
    """A command that leaves an archive with the files of a small set."""
    return (
        "import io, tarfile\n"
        f"with tarfile.open('{name}.tgz', 'w:gz') as archive:\n"
        "    info = tarfile.TarInfo('package/pixels')\n"
        "    info.size = 4\n"
        "    archive.addfile(info, io.BytesIO(bytes([1, 2, 3, 4])))\n"
    )


@pytest.fixture
def small_source(monkeypatch):
    digest = "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a"

    def decode(files):
        return sources.Images(np.frombuffer(files[0], np.uint8).reshape(1, 2, 2), np.zeros(1))

    source = Source((sys.executable, "-c", write_package("small")), ("pixels",), digest, decode)
    monkeypatch.setitem(SOURCES, "small", source)
    return source


def test_fetched_once(small_source, tmp_path, monkeypatch):
    path = fetch("small", tmp_path)
    np.testing.assert_array_equal(np.load(path)["pixels"], [[[1, 2], [3, 4]]])
    monkeypatch.setitem(SOURCES, "small", small_source._replace(command=("false",)))
    assert fetch("small", tmp_path) == path


def test_other_files_are_refused(small_source, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "small", small_source._replace(digest="0"))
    with pytest.raises(RuntimeError, match="SHA-256 0, got 9f64a7"):
        fetch("small", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("no-such-client",), (sys.executable, "-c", "raise OSError")])
def test_without_a_client_the_error_says_what_to_do(small_source, tmp_path, monkeypatch, command):
    monkeypatch.setitem(SOURCES, "small", small_source._replace(command=command))
    with pytest.raises(RuntimeError, match="Install that client, or put the images into"):
        fetch("small", tmp_path)


def test_split_of_digits():
    split = load("digits")
    digits = load_digits()
    assert split.train.shape == (1400, 64) and split.test.shape == (397, 64)
    levels = np.floor(split.test * DIGIT_LEVELS)
    joined = np.concatenate([split.train, levels])
    np.testing.assert_array_equal(np.unique(joined, axis=0), np.unique(digits.data, axis=0))
    noised = split.noised(np.full((2, 64), 0.5), slice(2))
    np.testing.assert_allclose(17 * noised - 0.5, split.train[:2], atol=1e-12)


def test_resampling_keeps_means(rng):
    images = rng.uniform(size=(3, 28, 28))
    small = resampled(images, 16)
    np.testing.assert_allclose(small.mean((1, 2)), images.mean((1, 2)), rtol=1e-12)
    halves = resampled(images, 14)
    np.testing.assert_allclose(halves, images.reshape(3, 14, 2, 14, 2).mean((2, 4)), rtol=1e-12)


def test_block_sums(rng):
    images = rng.uniform(size=(3, 64))
    sums = images.reshape(3, 2, 4, 2, 4).sum((2, 4)).reshape(3, 4)
    A = block_sums(8, 4).to_dense()
    np.testing.assert_allclose(images @ A.T, sums, rtol=1e-12)
    np.testing.assert_array_equal(block_sums(8, 8).to_dense(), np.ones((1, 64)))
    with pytest.raises(ValueError, match="tile 8 x 8 pixels, got 3 x 3"):
        block_sums(8, 3)


def test_frechet_distance(rng):
    one = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5))
    other = rng.normal(size=(300, 5)) + 0.3
    first, second = np.cov(one.T), np.cov(other.T)
    root = sqrtm(sqrtm(first) @ second @ sqrtm(first)).real
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(first + second - 2 * root)
    np.testing.assert_allclose(frechet_distance(one, other), expected, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(one, one), 0.0, atol=1e-8 * np.trace(first))
    turned = one @ ortho_group.rvs(5, random_state=0)
    np.testing.assert_allclose(frechet_distance(one + 2.0, one), 5 * 4.0, rtol=1e-7)
    assert frechet_distance(turned, one) > 0.0


def test_manifold_scores_by_loops(rng):
    real, drawn = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) + 0.5

    def reach(points):
        return [sorted(np.linalg.norm(points - point, axis=1))[5] for point in points]

    def inside(points, centres):
        radii = reach(centres)
        return np.array([np.linalg.norm(centres - point, axis=1) <= radii for point in points])

    in_real, in_drawn = inside(drawn, real), inside(real, drawn)
    expected = {
        "precision": in_real.any(1).mean(),
        "recall": in_drawn.any(1).mean(),
        "density": in_real.sum(1).mean() / 5,
        "coverage": in_real.any(0).mean(),
    }
    assert manifold_scores(real, drawn) == pytest.approx(expected)


def test_real_images_score_well_and_noise_badly(rng):
    split = load("digits")
    critic = trained_critic(split, steps=150)
    real, labels = split.test, split.test_labels
    same = score_images(critic, real, real, labels)
    assert same["fid"] == pytest.approx(0.0, abs=1e-8)
    assert min(same["precision"], same["recall"], same["coverage"]) == 1.0
    assert same["agreement"] > 0.8
    noise = score_images(critic, real, rng.uniform(size=real.shape), labels)
    assert noise["fid"] > 1.0 and noise["agreement"] < 0.5


def test_critic_is_kept(tmp_path):
    split = load("digits")
    path = tmp_path / "critics" / "digits.pt"
    first = trained_critic(split, path, steps=2).judge(split.test)
    again = trained_critic(split, path).judge(split.test)
    np.testing.assert_array_equal(first[0], again[0])


def test_largest_violation():
    images = np.zeros((2, 64), np.float32)
    images[1, 5] = 0.25
    assert largest_violation(images, block_sums(8, 4), np.zeros((2, 4))) == 0.25
