"""MNIST: 70,000 handwritten digits of 28 × 28 gray pixels, in the four IDX files of `MNIST/raw`.

Copies may be extracted or `.gz`, and re-compressed copies are welcome: what is pinned for a file that is already here
is the checksum of its decompressed bytes. Only a download is held to the checksum of the published `.gz`.

Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
Proc. IEEE 86(11), 1998. DOI 10.1109/5.726791.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rankscope.datasets.download import RemoteFile, download_file
from rankscope.datasets.idx import find_idx, read_content, read_idx
from rankscope.datasets.images import checked_size, flatten_gray
from rankscope.datasets.info import Data, DatasetInfo
from rankscope.datasets.storage import corrupt, data_root, missing

NAME = "mnist"
SIDE = 28
SOURCE = (
    "MNIST {split} images. LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document "
    "recognition, Proc. IEEE 86(11), doi:10.1109/5.726791. Read from {path}"
)


@dataclass(frozen=True)
class IdxFile:
    """One of the four files: its name when extracted, its dimensions, the MD5 of its content, where to get it."""

    stem: str
    ndim: int
    content_md5: str
    remote: RemoteFile


def _file(stem: str, content_md5: str, gz_md5: str, gz_size: int) -> IdxFile:
    url = f"https://ossci-datasets.s3.amazonaws.com/mnist/{stem}.gz"
    return IdxFile(stem, 3 if "idx3" in stem else 1, content_md5, RemoteFile(url, gz_md5, gz_size))


# Split: (images, labels).
FILES: dict[str, tuple[IdxFile, IdxFile]] = {
    "train": (
        _file(
            "train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422
        ),
        _file(
            "train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432", 28_881
        ),
    ),
    "test": (
        _file(
            "t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3", 1_648_877
        ),
        _file("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
    ),
}


def load_mnist(
    resize: tuple[int, int] = (SIDE, SIDE), *, split: Literal["train", "test"] = "train", download: bool = False
) -> Data:
    """The 60,000 training (or 10,000 test) images, one flattened image a row, float32 in [0, 1].

    Args:
        resize: (height, width); other than (28, 28) the images are resized, antialiased, without cropping.
        split: "train" or "test".
        download: fetch the files first if they are absent; without it nothing ever touches the network.

    Raises:
        MissingDataError: the files are not here and `download` is False.
        CorruptDataError: a file is truncated, oversized or mislabelled.
    """
    size = checked_size(resize)
    if split not in FILES:
        raise ValueError(f"split of mnist must be one of {', '.join(FILES)}, got {split!r}")
    folder = mnist_folder()
    images_file, labels_file = FILES[split]
    if download and not all(find_idx(folder, file.stem) for file in (images_file, labels_file)):
        fetch_mnist()
    images_path, labels_path = _require(folder, images_file), _require(folder, labels_file)

    images = read_idx(images_path, images_file.ndim, name=NAME)
    if images.shape[1:] != (SIDE, SIDE) or len(images) == 0:
        found = "×".join(map(str, images.shape))
        raise corrupt(images_path, f"must hold images of {SIDE}×{SIDE}, holds {found}", NAME)
    labels = read_idx(labels_path, labels_file.ndim, name=NAME)
    if len(labels) != len(images):
        raise corrupt(
            labels_path, f"must label the {len(images):,} images of {images_path.name}, has {len(labels):,}", NAME
        )
    if labels.max() > 9:
        raise corrupt(labels_path, f"must hold labels in 0..9, has {labels.max()}", NAME)

    source = SOURCE.format(split=split, path=images_path)
    return Data(flatten_gray(images, size), DatasetInfo(NAME, size, source, labels.astype(np.int64)))


def mnist_folder() -> Path:
    """The folder that holds, or would hold, the four files."""
    return data_root() / "MNIST" / "raw"


def mnist_present() -> bool:
    """Whether all four files are here, extracted or compressed."""
    return all(find_idx(mnist_folder(), file.stem) for file in _all_files())


def fetch_mnist() -> Path:
    """Download the files that are absent; a file that is here is checked and never overwritten."""
    folder = mnist_folder()
    for file in _all_files():
        path = find_idx(folder, file.stem)
        if path is None:
            download_file(file.remote, folder)
        else:
            _verify(path, file)
    return folder


def verify_mnist() -> tuple[Path, ...]:
    """Hash the decompressed bytes of the four files against the published ones; the paths that were checked."""
    paths = {_require(mnist_folder(), file): file for file in _all_files()}
    for path, file in paths.items():
        _verify(path, file)
    return tuple(paths)


def _all_files() -> tuple[IdxFile, ...]:
    return FILES["train"] + FILES["test"]


def _require(folder: Path, file: IdxFile) -> Path:
    path = find_idx(folder, file.stem)
    if path is None:
        raise missing(NAME, folder, f"{file.stem}.gz")
    return path


def _verify(path: Path, file: IdxFile) -> None:
    content = read_content(path, file.ndim, name=NAME)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != file.content_md5:
        raise corrupt(path, f"must have content of MD5 {file.content_md5}, has {found}", NAME)
