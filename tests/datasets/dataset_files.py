"""Small data sets written in the layout of the real ones."""

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def idx_bytes(array: np.ndarray) -> bytes:
    array = np.asarray(array, np.uint8)
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def mnist_arrays(n: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)


def write_mnist(root: Path, n: int = 12, *, compressed: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The four files, with the same n images in both splits; gives (images, labels)."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = mnist_arrays(n)
    for split in ("train", "t10k"):
        for stem, array in ((f"{split}-images-idx3-ubyte", images), (f"{split}-labels-idx1-ubyte", labels)):
            content = idx_bytes(array)
            if compressed:
                (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / stem).write_bytes(content)
    return images, labels


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def photographs(n: int = 6, seed: int = 0) -> dict[str, bytes]:
    """n smooth photographs of different sizes, by base name."""
    rng = np.random.default_rng(seed)
    made = {}
    for number in range(1, n + 1):
        coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        size = (90 + 7 * number, 70 + 5 * number)
        smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        made[f"image_{number:05d}.jpg"] = jpeg(np.asarray(smooth))
    return made


def write_mats(folder: Path, n: int = 6) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "imagelabels.mat", {"labels": (np.arange(n) * 20 % 102 + 1).astype(np.uint8)[None]})
    ids = {"trnid": np.array([[n, 1, 3]]), "valid": np.array([[2]]), "tstid": np.arange(4, n)[None]}
    savemat(folder / "setid.mat", {key: value.astype(np.uint16) for key, value in ids.items()})


def write_flowers(root: Path, n: int = 6) -> Path:
    folder = root / "flowers-102"
    write_mats(folder, n)
    (folder / "jpg").mkdir(exist_ok=True)
    for filename, content in photographs(n).items():
        (folder / "jpg" / filename).write_bytes(content)
    return folder


def tar_member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def tgz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def flowers_tgz(n: int = 6) -> bytes:
    folder = tar_member("jpg", type=tarfile.DIRTYPE, mode=0o755)
    return tgz(folder, *(tar_member(f"jpg/{name}", content) for name, content in photographs(n).items()))


def damaged(content: bytes, count: int, seed: int = 0) -> list[bytes]:
    """Copies of `content` that are cut, grown, or have bytes changed, at seeded places."""
    rng = np.random.default_rng(seed)

    def flip(data: bytearray) -> None:
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] ^= int(rng.integers(1, 256))

    def cut(data: bytearray) -> None:
        del data[rng.integers(0, len(data)) :]

    def grow(data: bytearray) -> None:
        data += rng.bytes(int(rng.integers(1, 40)))

    def overwrite(data: bytearray) -> None:
        place = int(rng.integers(0, len(data)))
        data[place : place + 4] = b"\xff\xff\xff\xff"

    kinds: list[Callable[[bytearray], None]] = [flip, cut, grow, overwrite]
    copies = []
    for number in range(count):
        data = bytearray(content)
        kinds[number % len(kinds)](data)
        copies.append(bytes(data))
    return copies
