"""Arrays are read exactly; what a header announces and the file does not back is refused before it is allocated."""

import io
import zipfile

import numpy as np
import pytest
from dataset_files import damaged

from rankscope.datasets.npz import read_npy, read_npz
from rankscope.errors import CorruptDataError

X = np.arange(12.0).reshape(3, 4)
HUGE = (1 << 20, 1 << 20)


def npy(array: np.ndarray, *, shape: tuple[int, ...] | None = None, **options: bool) -> bytes:
    """A .npy file, with another shape in its header if one is given."""
    stream = io.BytesIO()
    if shape is None:
        np.save(stream, array, **options)
    else:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
        )
        stream.write(array.tobytes())
    return stream.getvalue()


@pytest.mark.parametrize("array", [X, X.astype(np.uint8), np.asfortranarray(X), X[:0], X.astype(">f4")])
def test_arrays_are_read_exactly(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", X=array, other=1)
    np.savez_compressed(tmp_path / "b.npz", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", remedy=""), array)
    (read,) = read_npz(tmp_path / "a.npz", ("X",), remedy="").values()
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(read_npz(tmp_path / "b.npz", ("X",), remedy="")["arr_0"], array)
    assert read_npz(tmp_path / "a.npz", ("Y",), remedy="") == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"no array",
        npy(X)[:-1],
        npy(X) + b"\0",
        npy(X, shape=HUGE),
        npy(X, shape=(1 << 70, 1)),
        npy(X, shape=(-3, -4)),
        b"\x93NUMPY\x09\x00" + npy(X)[8:],
        npy(X).replace(b"'fortran_order'", b"__import__('a')"),
    ],
    ids=["nothing", "magic", "text", "cut", "grown", "huge", "past 64 bits", "negative", "version 9", "code"],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_header_that_the_file_does_not_back_is_refused(tmp_path, content, kind, peak_memory):
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("X.npy", content)
    with pytest.raises(CorruptDataError) as caught:
        read_npy(path, remedy="mend it") if kind == "npy" else read_npz(path, ("X",), remedy="mend it")
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("mend it")
    assert "\n" not in str(caught.value)
    assert peak_memory() < 4_000_000


def test_objects_are_not_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    array = np.array([[Evil()]], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", X=array)
    with pytest.raises(CorruptDataError, match="Python objects"):
        read_npy(tmp_path / "a.npy", remedy="")
    with pytest.raises(CorruptDataError, match="Python objects"):
        read_npz(tmp_path / "a.npz", ("X",), remedy="")


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path, peak_memory):
    """An honest archive of 8 MB of zeros, whose directory is then made to announce 3 GB."""
    path = tmp_path / "a.npz"
    shape = (3 << 17, 1 << 10)
    header = npy(X, shape=shape)[:128]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", header + bytes(8 << 20))
    small, large = (128 + (8 << 20)).to_bytes(4, "little"), (128 + (3 << 30)).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(small) == 2
    path.write_bytes(content.replace(small, large))
    peak_memory()
    with pytest.raises(CorruptDataError, match=r"save it with np\.save instead"):
        read_npz(path, ("X",), remedy="")
    assert peak_memory() < 4_000_000


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_damage_is_refused_or_harmless(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, X=X)
    for content in damaged(path.read_bytes(), 400):
        path.write_bytes(content)
        try:
            arrays = read_npz(path, ("X",), remedy="")
        except CorruptDataError:
            continue
        for array in arrays.values():
            # The checksum of a zip is over the content, so what is read is what was written.
            np.testing.assert_array_equal(array, X)
