"""An IDX file is read exactly or refused, and a refusal allocates nothing."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from dataset_files import damaged, idx_bytes

from rankscope.datasets.idx import find_idx, read_content, read_idx
from rankscope.errors import CorruptDataError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
SMALL = 4_000_000


def write(folder: Path, content: bytes, *, compressed: bool) -> Path:
    path = folder / ("images.gz" if compressed else "images")
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("array", [IMAGES, IMAGES[0], IMAGES[0, 0], IMAGES[:0]], ids=["3d", "2d", "1d", "empty"])
def test_what_was_written_is_read(tmp_path, compressed, array):
    path = write(tmp_path, idx_bytes(array), compressed=compressed)
    read = read_idx(path, array.ndim, name="mnist")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)
    assert read_content(path, array.ndim, name="mnist") == idx_bytes(array)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        idx_bytes(IMAGES)[:9],
        idx_bytes(IMAGES)[:-1],
        idx_bytes(IMAGES) + b"\0",
        b"\0\0\x0d\x03" + idx_bytes(IMAGES)[4:],
        idx_bytes(IMAGES[0]),
        b"<html>not found</html>" * 4,
    ],
    ids=["nothing", "half a header", "truncated", "oversized", "floats", "2-d", "a web page"],
)
def test_sizes_and_magic_must_be_right(tmp_path, compressed, content):
    path = write(tmp_path, content, compressed=compressed)
    with pytest.raises(CorruptDataError) as caught:
        read_idx(path, 3, name="mnist")
    message = str(caught.value)
    assert str(path) in message
    assert "rankscope data fetch mnist" in message
    assert "\n" not in message


@pytest.mark.parametrize("sizes", [(60_000, 2800, 2800), (2**32 - 1,) * 3])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_announces_the_moon_allocates_nothing(tmp_path, compressed, sizes, peak_memory):
    path = write(tmp_path, struct.pack(">4I", 0x0803, *sizes) + bytes(1000), compressed=compressed)
    with pytest.raises(CorruptDataError):
        read_idx(path, 3, name="mnist")
    assert peak_memory() < SMALL


def test_a_gzip_trailer_that_agrees_with_a_lying_header_allocates_nothing(tmp_path, peak_memory):
    announced = 1 << 30
    content = struct.pack(">4I", 0x0803, 1, 1, announced - 16)
    compressed = gzip.compress(content)[:-4] + struct.pack("<I", announced)
    path = tmp_path / "images.gz"
    path.write_bytes(compressed)
    with pytest.raises(CorruptDataError):
        read_idx(path, 3, name="mnist")
    assert peak_memory() < SMALL


@pytest.mark.parametrize("forged", [True, False])
def test_a_gzip_bomb_is_not_inflated(tmp_path, forged, peak_memory):
    """40 MB of zeros behind the header of 39 kB of images, with or without a trailer that agrees with the header."""
    images = idx_bytes(np.zeros((50, 28, 28)))
    inner = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = inner.compress(images) + b"".join(inner.compress(bytes(1 << 20)) for _ in range(40)) + inner.flush()
    assert len(content) < 1.01 * len(images) + 4096, "the size of the file alone gives it away"
    path = tmp_path / "images.gz"
    path.write_bytes(content[:-4] + struct.pack("<I", len(images)) if forged else content)
    peak_memory()
    with pytest.raises(CorruptDataError):
        read_idx(path, 3, name="mnist")
    assert peak_memory() < SMALL


def test_a_stream_shorter_than_its_header_says_is_refused_before_it_is_inflated(tmp_path, peak_memory):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x0803, 1, 1, 30_000_000) + bytes(29_999_999)))
    peak_memory()
    with pytest.raises(CorruptDataError, match="announce"):
        read_idx(path, 3, name="mnist")
    assert peak_memory() < SMALL


@pytest.mark.parametrize("hidden", [6, 20_000_000])
def test_nothing_may_follow_the_gzip_stream(tmp_path, hidden, peak_memory):
    path = write(tmp_path, idx_bytes(IMAGES), compressed=True)
    content = path.read_bytes()
    path.write_bytes(content + bytes(hidden) + content[-4:])
    peak_memory()
    with pytest.raises(CorruptDataError):
        read_idx(path, 3, name="mnist")
    assert peak_memory() < SMALL


@pytest.mark.parametrize("compressed", [False, True])
def test_any_damage_is_refused_or_harmless(tmp_path, compressed):
    path = write(tmp_path, idx_bytes(IMAGES), compressed=compressed)
    for content in damaged(path.read_bytes(), 400):
        path.write_bytes(content)
        try:
            array = read_idx(path, 3, name="mnist")
        except CorruptDataError:
            continue
        # gzip has a checksum, a plain file can only betray a changed size.
        assert array.size == IMAGES.size
        if compressed:
            np.testing.assert_array_equal(array, IMAGES)


def test_an_extracted_copy_wins_over_a_compressed_one(tmp_path):
    assert find_idx(tmp_path, "images") is None
    compressed = write(tmp_path, idx_bytes(IMAGES), compressed=True)
    assert find_idx(tmp_path, "images") == compressed
    plain = write(tmp_path, idx_bytes(IMAGES), compressed=False)
    assert find_idx(tmp_path, "images") == plain
