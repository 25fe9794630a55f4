"""A .mat file gives one row of whole numbers in range, or is refused."""

import struct

import numpy as np
import pytest
from dataset_files import damaged
from scipy.io import savemat

from rankscope.datasets import matfile
from rankscope.datasets.matfile import read_integers
from rankscope.errors import CorruptDataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.mat"


def read(path):
    return read_integers(path, "labels", low=1, high=102, name="flowers102")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64, np.uint16])
@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
def test_what_was_written_is_read(path, dtype, column, compressed):
    values = np.array([[1, 102, 7, 7]], dtype)
    others = {"before": np.arange(7.0), "labels_": "text", "group": {"a": 1}}
    savemat(path, others | {"labels": values.T if column else values}, do_compression=compressed)
    labels = read(path)
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 102, 7, 7]


def element(kind: int, data: bytes, *, order: str = "<", count: int | None = None) -> bytes:
    """A long element, announcing `count` bytes if that is given."""
    announced = len(data) if count is None else count
    return struct.pack(f"{order}II", kind, announced) + data + bytes(-len(data) % 8)


FLAGS, SHAPE, LABEL = element(6, struct.pack("<II", 6, 0)), element(5, struct.pack("<2i", 1, 3)), element(1, b"labels")
NUMBERS = element(4, np.array([5, 102, 1], "<u2").tobytes())


def write(path, *parts: bytes, order: str = "<") -> None:
    ending = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + ending + element(14, b"".join(parts), order=order))


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_is_read(path, order):
    """Written by hand: double class stored as 16-bit numbers, the name in a long element."""
    flags, shape = struct.pack(f"{order}II", 6, 0), struct.pack(f"{order}2i", 1, 3)
    numbers = np.array([5, 102, 1], f"{order}u2").tobytes()
    parts = [(6, flags), (5, shape), (1, b"labels"), (4, numbers)]
    write(path, *(element(*part, order=order) for part in parts), order=order)
    assert read(path).tolist() == [5, 102, 1]


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ((FLAGS, SHAPE, LABEL, element(4, bytes(4))), "must hold 3 numbers as 'labels', has 4 bytes"),
        ((FLAGS, SHAPE, LABEL, element(4, bytes(8))), "must hold 3 numbers as 'labels', has 8 bytes"),
        ((FLAGS, SHAPE, LABEL, element(99, bytes(6))), "of type 99"),
        ((FLAGS, SHAPE, LABEL), "must hold 3 numbers as 'labels', has 0 bytes"),
        ((FLAGS, SHAPE, LABEL, element(4, bytes(6), count=1 << 31)), "announces an element of 2,147,483,648 bytes"),
        ((FLAGS, SHAPE, LABEL, struct.pack("<HHI", 4, 5, 0)), "announces a small element of 5 bytes"),
        ((FLAGS, SHAPE, LABEL, b"\x04\0\0"), "ends within an element"),
        ((element(6, bytes(4)), SHAPE, LABEL, NUMBERS), "whole flags and dimensions"),
        ((FLAGS, element(5, bytes(7)), LABEL, NUMBERS), "whole flags and dimensions"),
        ((FLAGS, element(5, struct.pack("<2i", -1, -3)), LABEL, NUMBERS), "as one row"),
        ((FLAGS, SHAPE), "holds ''"),
    ],
)
def test_counts_that_the_file_does_not_back_are_refused(path, parts, rule):
    write(path, *parts)
    with pytest.raises(CorruptDataError, match=rule):
        read(path)


@pytest.mark.parametrize(
    "value",
    [
        np.array([[0, 1]]),
        np.array([[1, 103]]),
        np.array([[1.5, 2]]),
        np.array([[1, np.nan]]),
        np.array([[1, np.inf]]),
        np.array([[1 + 2j, 2]]),
        np.ones((2, 2)),
        np.ones((1, 2, 2)),
        np.ones((1, 0)),
        np.array([["a"]]),
        {"a": 1},
        np.array([1, "x"], dtype=object),
        np.ones((1, 100_001), np.uint8),
    ],
    ids=["0", "103", "1.5", "nan", "inf", "complex", "2×2", "3-d", "empty", "text", "struct", "cell", "too many"],
)
def test_other_values_are_refused(path, value):
    savemat(path, {"labels": value}, do_compression=True)
    with pytest.raises(CorruptDataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "rankscope data fetch flowers102" in str(caught.value)


def test_the_key_must_be_there(path):
    savemat(path, {"label": [1, 2]})
    with pytest.raises(CorruptDataError, match="must hold 'labels', holds 'label'"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"x" * 500, b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_what_is_no_mat_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CorruptDataError):
        read(path)


def test_a_large_file_is_refused_unread(path):
    path.write_bytes(bytes(matfile.MAX_BYTES + 1))
    with pytest.raises(CorruptDataError, match="at most 262,144 bytes"):
        read(path)


def test_a_bomb_is_not_inflated(path, peak_memory):
    """A compressed variable of 64 MB in a file of a few kB."""
    savemat(path, {"labels": np.ones((1, 1 << 26), np.uint8)}, do_compression=True)
    peak_memory()
    with pytest.raises(CorruptDataError, match="must inflate to at most"):
        read(path)
    assert peak_memory() < 4_000_000


@pytest.mark.parametrize("compressed", [True, False])
def test_any_damage_is_refused_or_in_range(path, compressed):
    savemat(path, {"labels": np.arange(1, 60, dtype=np.uint8)[None]}, do_compression=compressed)
    for content in damaged(path.read_bytes(), 300):
        path.write_bytes(content)
        try:
            labels = read(path)
        except CorruptDataError:
            continue
        assert labels.ndim == 1
        assert labels.min() >= 1
        assert labels.max() <= 102
