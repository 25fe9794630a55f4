"""The resizing matrices are Pillow's filter, rows stay in [0, 1], and a photograph is whole or refused."""

import io
import struct

import numpy as np
import pytest
from dataset_files import damaged, jpeg, mnist_arrays
from PIL import Image

from rankscope.datasets import images
from rankscope.datasets.images import checked_size, flatten_gray, interpolation, read_photograph
from rankscope.errors import CorruptDataError

SIZES = [(28, 28), (14, 14), (7, 20), (64, 64), (1, 1), (28, 3)]


@pytest.mark.parametrize("size", SIZES)
def test_a_stack_is_resized_as_pillow_resizes_each(size):
    stack, _ = mnist_arrays(5)
    X = flatten_gray(stack, size)
    height, width = size
    assert X.shape == (5, height * width)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.min() >= 0
    assert X.max() <= 1
    for image, row in zip(stack, X, strict=True):
        one = Image.fromarray(image.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(row, np.asarray(one).ravel() / 255, atol=2e-6)


def test_a_stack_longer_than_a_chunk_is_resized_whole(monkeypatch):
    stack, _ = mnist_arrays(11)
    whole = flatten_gray(stack, (9, 9))
    monkeypatch.setattr(images, "_CHUNK", 4)
    np.testing.assert_array_equal(flatten_gray(stack, (9, 9)), whole)


def test_without_resizing_bytes_are_only_divided():
    stack, _ = mnist_arrays(3)
    np.testing.assert_array_equal(flatten_gray(stack, (28, 28)), stack.reshape(3, -1).astype(np.float32) / 255)


@pytest.mark.parametrize("side", [3, 5, 14, 15, 20])
def test_white_stays_at_most_one(side):
    X = flatten_gray(np.full((1, 28, 28), 255, np.uint8), (side, side))
    assert X.max() <= 1
    np.testing.assert_allclose(X, 1, atol=1e-6)


@pytest.mark.parametrize(("length", "new"), [(28, 14), (28, 5), (5, 28), (7, 7)])
def test_a_constant_stays_constant(length, new):
    M = interpolation(length, new)
    assert M.shape == (new, length)
    assert M.min() >= 0
    np.testing.assert_allclose(M.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("resize", [(0, 28), (28,), (28, -1), (2.5, 3), 28, None, "ab", (28, 28, 3)])
def test_resize_is_two_positive_integers(resize):
    with pytest.raises(ValueError, match=r"resize must be \(height, width\), two positive integers"):
        checked_size(resize)


def test_numpy_integers_and_lists_are_sizes():
    assert checked_size([np.int64(3), 4]) == (3, 4)


def test_a_photograph_is_channels_first_and_not_cropped(tmp_path):
    """Left half red, right half blue, top brighter: all of it survives in its place."""
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, :50, 0] = pixels[:, 50:, 2] = 200
    pixels[:30, :, 1] = 120
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(pixels))
    Z = read_photograph(path, (20, 10), name="flowers102")
    assert Z.shape == (3, 20, 10)
    assert Z.dtype == np.float32
    red, green, blue = Z
    np.testing.assert_allclose(red[:, :4], 200 / 255, atol=0.04)
    np.testing.assert_allclose(red[:, 6:], 0, atol=0.04)
    np.testing.assert_allclose(blue[:, 6:], 200 / 255, atol=0.04)
    np.testing.assert_allclose(green[:8], 120 / 255, atol=0.04)
    np.testing.assert_allclose(green[12:], 0, atol=0.04)


def test_a_gray_photograph_has_three_equal_channels(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(np.full((20, 30), 90, np.uint8)))
    np.testing.assert_allclose(read_photograph(path, (4, 4), name="flowers102"), 90 / 255, atol=0.01)


def test_only_a_whole_jpeg_is_a_photograph(tmp_path):
    path = tmp_path / "image.jpg"
    whole = jpeg(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    for content in (b"", b"no image at all", whole[: len(whole) // 2], png.getvalue()):
        path.write_bytes(content)
        with pytest.raises(CorruptDataError, match="whole JPEG") as caught:
            read_photograph(path, (4, 4), name="flowers102")
        assert str(path) in str(caught.value)
        assert "rankscope data fetch flowers102" in str(caught.value)


@pytest.mark.parametrize("side", [5000, 12_000, 65_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    """A small JPEG whose frame header announces side × side pixels."""
    content = bytearray(jpeg(np.zeros((8, 8, 3), np.uint8)))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    path = tmp_path / "image.jpg"
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptDataError, match=r"pixels|decompression bomb"):
        read_photograph(path, (4, 4), name="flowers102")


def test_any_damage_to_a_photograph_is_refused_or_harmless(tmp_path):
    path = tmp_path / "image.jpg"
    for content in damaged(jpeg(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)), 300):
        path.write_bytes(content)
        try:
            Z = read_photograph(path, (4, 4), name="flowers102")
        except CorruptDataError:
            continue
        assert np.isfinite(Z).all()
