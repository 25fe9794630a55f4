"""Flowers102 is read from torchvision's layout, unpacked without trust, and mislabelled sets are refused."""

import hashlib
import io

import numpy as np
import pytest
from dataset_files import flowers_tgz, photographs, tar_member, tgz, write_flowers, write_mats
from PIL import Image
from scipy.io import savemat

from rankscope.datasets import flowers102, load_flowers102, verify
from rankscope.datasets.download import RemoteFile
from rankscope.errors import CorruptDataError, MissingDataError


def test_rows_are_the_photographs_of_the_split_in_its_order(root):
    write_flowers(root)
    X, dataset = load_flowers102((10, 20))
    assert X.shape == (3, 3 * 10 * 20)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert X.min() >= 0
    assert X.max() <= 1
    assert (dataset.name, dataset.shape) == ("flowers102", (3, 10, 20))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [100, 0, 40]
    for number, row in zip((6, 1, 3), X, strict=True):
        stream = io.BytesIO(photographs()[f"image_{number:05d}.jpg"])
        expected = Image.open(stream).resize((20, 10), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(row.reshape(3, 10, 20), np.asarray(expected).transpose(2, 0, 1) / 255, atol=1e-6)


def test_the_default_is_64_by_64_in_colour_and_splits_are_disjoint(root):
    write_flowers(root)
    shapes = {split: load_flowers102(split=split).X.shape for split in ("train", "val", "test")}
    assert shapes == {"train": (3, 12_288), "val": (1, 12_288), "test": (2, 12_288)}
    with pytest.raises(ValueError, match="train, val, test"):
        load_flowers102(split="valid")  # pyrefly: ignore


@pytest.mark.parametrize("absent", ["imagelabels.mat", "setid.mat", "jpg", "all"])
def test_absent_says_where_and_what(root, absent):
    folder = root / "flowers-102"
    if absent != "all":
        write_flowers(root)
        (folder / absent).rename(root / "elsewhere")
    with pytest.raises(MissingDataError, match="rankscope data fetch flowers102") as caught:
        load_flowers102()
    assert str(folder) in str(caught.value)
    assert "digits and mnist1d" in str(caught.value)


def test_images_and_labels_must_be_as_many(root):
    folder = write_flowers(root)
    (folder / "jpg" / "image_00002.jpg").unlink()
    with pytest.raises(CorruptDataError, match=r"6 images that imagelabels\.mat labels, has 5"):
        load_flowers102()
    write_mats(folder, 5)
    with pytest.raises(CorruptDataError, match=r"must hold image_00002\.jpg"):
        load_flowers102(split="val")


@pytest.mark.parametrize("ids", [[0, 1], [7], [1, 1], [1.5]])
def test_a_split_must_name_labelled_images_once(root, ids):
    folder = write_flowers(root)
    savemat(folder / "setid.mat", {"trnid": np.array([ids])})
    with pytest.raises(CorruptDataError, match=r"setid\.mat must"):
        load_flowers102()


def test_a_truncated_photograph_is_named(root):
    path = write_flowers(root) / "jpg" / "image_00003.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptDataError, match=r"image_00003\.jpg.*rankscope data fetch flowers102"):
        load_flowers102()
    assert load_flowers102(split="val").X.shape == (1, 12_288)


@pytest.fixture
def published(tmp_path, loopback, monkeypatch):
    """The three files on loopback, pinned in place of the real ones."""
    write_mats(tmp_path / "mats")
    files = loopback.behaviour.files
    files |= {"102flowers.tgz": flowers_tgz()}
    files |= {name: (tmp_path / "mats" / name).read_bytes() for name in ("imagelabels.mat", "setid.mat")}
    pin(loopback, monkeypatch)
    return loopback


def pin(server, monkeypatch):
    names = {"ARCHIVE": "102flowers.tgz", "LABELS": "imagelabels.mat", "SPLIT_IDS": "setid.mat"}
    for constant, filename in names.items():
        content = server.behaviour.files[filename]
        file = RemoteFile(f"{server.url}/{filename}", hashlib.md5(content).hexdigest(), len(content))
        monkeypatch.setattr(flowers102, constant, file)
    monkeypatch.setattr(flowers102, "UNPACKED_BYTES", 0)


def test_download_true_brings_unpacks_and_verifies(root, published):
    X, _ = load_flowers102((8, 8), download=True)
    assert X.shape == (3, 192)
    folder = root / "flowers-102"
    assert {path.name: path.read_bytes() for path in (folder / "jpg").iterdir()} == photographs()
    assert sorted(path.name for path in folder.iterdir()) == ["102flowers.tgz", "imagelabels.mat", "jpg", "setid.mat"]
    assert len(verify("flowers102")) == 3 + 6
    load_flowers102((8, 8), download=True)
    assert len(published.behaviour.asked) == 3


def test_verify_finds_one_changed_byte_and_a_fetch_mends_it_without_a_network(root, published):
    load_flowers102((8, 8), download=True)
    path = root / "flowers-102" / "jpg" / "image_00004.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    with pytest.raises(CorruptDataError, match=r"image_00004\.jpg.*delete it"):
        verify("flowers102")
    path.unlink()
    flowers102.fetch_flowers102()
    assert path.read_bytes() == whole
    (root / "flowers-102" / "102flowers.tgz").unlink()
    flowers102.fetch_flowers102()
    assert len(published.behaviour.asked) == 3, "the archive was fetched although every photograph is here"


@pytest.mark.parametrize("filename", ["imagelabels.mat", "102flowers.tgz"])
def test_verify_hashes_the_published_files(root, published, filename):
    load_flowers102((8, 8), download=True)
    path = root / "flowers-102" / filename
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorruptDataError, match=f"{filename} must have MD5"):
        verify("flowers102")


def test_verify_without_the_archive_decodes_every_photograph(root, published):
    load_flowers102((8, 8), download=True)
    folder = root / "flowers-102"
    (folder / "102flowers.tgz").unlink()
    assert len(verify("flowers102")) == 2 + 6
    path = folder / "jpg" / "image_00005.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptDataError, match=r"image_00005\.jpg"):
        verify("flowers102")


def test_a_malicious_archive_with_the_pinned_hash_still_writes_nothing(root, published, monkeypatch):
    published.behaviour.files["102flowers.tgz"] = tgz(tar_member("../../evil.jpg", b"evil"))
    pin(published, monkeypatch)
    with pytest.raises(CorruptDataError, match="evil"):
        load_flowers102(download=True)
    assert not list(root.parent.rglob("evil*"))
    assert not list((root / "flowers-102" / "jpg").iterdir())
