"""Flowers102: 8,189 photographs of 102 kinds of flowers, in torchvision's layout.

    flowers-102/jpg/image_00001.jpg …    flowers-102/imagelabels.mat    flowers-102/setid.mat

The archive `102flowers.tgz` is kept after it was unpacked: it is the only thing that a photograph can be compared with,
and a photograph that was deleted comes back from it without a network.

Reference: M.-E. Nilsback, A. Zisserman, "Automated flower classification over a large number of classes", ICVGIP 2008.
DOI 10.1109/ICVGIP.2008.47.
"""

import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rankscope.datasets.archive import Allowed, members, unpack
from rankscope.datasets.download import RemoteFile, download_file, md5_of
from rankscope.datasets.images import checked_size, read_photograph
from rankscope.datasets.info import Data, DatasetInfo
from rankscope.datasets.matfile import read_integers
from rankscope.datasets.storage import corrupt, data_root, missing

NAME = "flowers102"
KINDS = 102
SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}
SOURCE = (
    "Flowers102 {split} photographs. Nilsback, Zisserman (2008), Automated flower classification over a large number "
    "of classes, ICVGIP, doi:10.1109/ICVGIP.2008.47. Read from {path}"
)

_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
ARCHIVE = RemoteFile(f"{_URL}/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", 344_862_509)
LABELS = RemoteFile(f"{_URL}/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", 502)
SPLIT_IDS = RemoteFile(f"{_URL}/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", 14_989)
UNPACKED_BYTES = 350_000_000

ALLOWED = Allowed("jpg", re.compile(r"image_[0-9]{5}\.jpg"), files=8_189, file_bytes=1 << 24, total_bytes=1 << 29)


def load_flowers102(
    resize: tuple[int, int] = (64, 64),
    *,
    split: Literal["train", "val", "test"] = "train",
    download: bool = False,
) -> Data:
    """The 1,020 training photographs, resized without cropping, channels first, one flattened image a row in [0, 1].

    Args:
        resize: (height, width); a row has 3 · height · width numbers.
        split: "train" (1,020), "val" (1,020) or "test" (6,149).
        download: fetch the files (345 MB) first if they are absent; without it nothing ever touches the network.

    Labels are 0..101, one less than in imagelabels.mat, as in torchvision.

    Raises:
        MissingDataError: the files are not here and `download` is False.
        CorruptDataError: a file is truncated, oversized or mislabelled.
    """
    size = checked_size(resize)
    if split not in SPLITS:
        raise ValueError(f"split of flowers102 must be one of {', '.join(SPLITS)}, got {split!r}")
    folder = flowers102_folder()
    if download and not flowers102_present():
        fetch_flowers102()
    _require(folder)
    labels = _labels(folder)
    ids = read_integers(folder / "setid.mat", SPLITS[split], low=1, high=len(labels), name=NAME)
    if len(np.unique(ids)) != len(ids):
        raise corrupt(folder / "setid.mat", f"must name an image once, {SPLITS[split]} repeats some", NAME)

    paths = [folder / "jpg" / f"image_{number:05d}.jpg" for number in ids]
    absent = next((path for path in paths if not path.is_file()), None)
    if absent is not None:
        raise corrupt(folder / "jpg", f"must hold {absent.name}, which setid.mat names, does not", NAME)
    X = np.empty((len(paths), 3, *size), np.float32)
    for row, path in zip(X, paths, strict=True):
        row[...] = read_photograph(path, size, name=NAME)
    source = SOURCE.format(split=split, path=folder)
    return Data(X.reshape(len(X), -1), DatasetInfo(NAME, (3, *size), source, labels[ids - 1]))


def flowers102_folder() -> Path:
    """The folder that holds, or would hold, the photographs and the two .mat files."""
    return data_root() / "flowers-102"


def flowers102_present() -> bool:
    """Whether the two .mat files are here and there is a photograph for every label."""
    folder = flowers102_folder()
    mats = all((folder / remote.filename).is_file() for remote in (LABELS, SPLIT_IDS))
    return mats and len(_photographs(folder)) == len(_read_labels(folder))


def fetch_flowers102() -> Path:
    """Download what is absent and unpack the photographs that are; a file that is here is never overwritten."""
    folder = flowers102_folder()
    for remote in (LABELS, SPLIT_IDS):
        download_file(remote, folder)
    if len(_photographs(folder)) < len(_read_labels(folder)):
        archive = download_file(ARCHIVE, folder, unpacked_size=UNPACKED_BYTES)
        unpack(archive, folder / "jpg", ALLOWED, name=NAME)
    return folder


def verify_flowers102() -> tuple[Path, ...]:
    """Check the published MD5s, and every photograph against the archive (or, without one, that it can be decoded)."""
    folder = flowers102_folder()
    _require(folder)
    archive = folder / ARCHIVE.filename
    hashed = [folder / remote.filename for remote in (LABELS, SPLIT_IDS)] + [archive] * archive.is_file()
    for path, remote in zip(hashed, (LABELS, SPLIT_IDS, ARCHIVE), strict=False):
        found = md5_of(path)
        if found != remote.md5:
            raise corrupt(path, f"must have MD5 {remote.md5}, has {found}", NAME)
    _labels(folder)
    photographs = _photographs(folder)
    if archive.is_file():
        for filename, content in members(archive, ALLOWED, name=NAME):
            path = folder / "jpg" / filename
            if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
                raise corrupt(path, f"must be the photograph in {archive.name}, is not", NAME)
    else:
        for path in photographs:
            read_photograph(path, (1, 1), name=NAME)
    return (*hashed, *photographs)


def _require(folder: Path) -> None:
    needed = ("imagelabels.mat", "setid.mat", "jpg")
    absent = [filename for filename in needed if not (folder / filename).exists()]
    if absent:
        raise missing(NAME, folder, ", ".join(needed[:2]) + " and jpg/image_00001.jpg …")


def _labels(folder: Path) -> NDArray[np.int64]:
    labels = _read_labels(folder)
    count = len(_photographs(folder))
    if count != len(labels):
        raise corrupt(
            folder / "jpg", f"must hold the {len(labels):,} images that imagelabels.mat labels, has {count:,}", NAME
        )
    return labels


def _read_labels(folder: Path) -> NDArray[np.int64]:
    return read_integers(folder / "imagelabels.mat", "labels", low=1, high=KINDS, name=NAME) - 1


def _photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("jpg/*") if ALLOWED.pattern.fullmatch(path.name))
