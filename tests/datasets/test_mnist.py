"""MNIST is read from torchvision's layout, exactly or not at all, and never fetched unless asked."""

import gzip
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_files import idx_bytes, write_mnist
from loopback import Loopback

from rankscope.datasets import load_mnist, mnist, verify
from rankscope.datasets.download import RemoteFile
from rankscope.errors import CorruptDataError, MissingDataError


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_rows_are_the_images(root, compressed, split):
    images, labels = write_mnist(root, compressed=compressed)
    X, dataset = load_mnist(split=split)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    np.testing.assert_allclose(X, images.reshape(12, 784) / 255, atol=1e-7)
    assert (dataset.name, dataset.shape) == ("mnist", (28, 28))
    assert dataset.labels is not None
    np.testing.assert_array_equal(dataset.labels, labels)
    assert "LeCun" in dataset.source


def test_resizing_changes_the_shape_with_the_rows(root):
    write_mnist(root)
    X, dataset = load_mnist((14, 10))
    assert X.shape == (12, 140)
    assert dataset.shape == (14, 10)


def test_absent_says_where_what_and_which_needs_no_network(root):
    with pytest.raises(MissingDataError) as caught:
        load_mnist()
    message = str(caught.value)
    for part in (str(root / "MNIST" / "raw"), "train-images-idx3-ubyte.gz", "rankscope data fetch mnist", "digits"):
        assert part in message
    assert "\n" not in message
    assert not root.exists()


def test_the_absence_of_the_labels_alone_is_said(root):
    write_mnist(root)
    (root / "MNIST/raw/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(MissingDataError, match="train-labels-idx1-ubyte"):
        load_mnist()


@pytest.mark.parametrize(
    ("stem", "array", "rule"),
    [
        ("train-labels-idx1-ubyte", np.zeros(11), "must label the 12 images"),
        ("train-labels-idx1-ubyte", np.full(12, 10), r"labels in 0\.\.9"),
        ("train-images-idx3-ubyte", np.zeros((12, 28, 27)), "images of 28×28"),
        ("train-images-idx3-ubyte", np.zeros((0, 28, 28)), "images of 28×28"),
        ("train-images-idx3-ubyte", np.zeros(12 * 784), "magic number"),
    ],
    ids=["a label too few", "label 10", "narrow images", "no images", "labels as images"],
)
def test_mislabelled_files_are_refused(root, stem, array, rule):
    write_mnist(root)
    path = root / "MNIST" / "raw" / f"{stem}.gz"
    path.write_bytes(gzip.compress(idx_bytes(array)))
    with pytest.raises(CorruptDataError, match=rule) as caught:
        load_mnist()
    assert str(path) in str(caught.value)
    assert "delete it and run `rankscope data fetch mnist`" in str(caught.value)


def test_an_unknown_split_is_refused(root):
    with pytest.raises(ValueError, match="train, test"):
        load_mnist(split="valid")  # pyrefly: ignore


def publish(loopback: Loopback, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Serve the files in `folder` and pin their hashes in place of the published ones."""
    files = {}
    for split, pair in mnist.FILES.items():
        served = []
        for file in pair:
            content = (folder / f"{file.stem}.gz").read_bytes()
            loopback.behaviour.files[f"{file.stem}.gz"] = content
            remote = RemoteFile(f"{loopback.url}/{file.stem}.gz", hashlib.md5(content).hexdigest(), len(content))
            plain = hashlib.md5(gzip.decompress(content)).hexdigest()
            served.append(replace(file, content_md5=plain, remote=remote))
        files[split] = tuple(served)
    monkeypatch.setattr(mnist, "FILES", files)


def test_download_true_brings_what_is_absent_and_verify_passes(root, tmp_path, loopback, monkeypatch):
    images, _ = write_mnist(tmp_path / "published")
    publish(loopback, monkeypatch, tmp_path / "published" / "MNIST" / "raw")
    X, _ = load_mnist(download=True)
    np.testing.assert_allclose(X, images.reshape(12, 784) / 255, atol=1e-7)
    assert len(loopback.behaviour.asked) == 4
    assert len(verify("mnist")) == 4
    assert sorted(path.name for path in (root / "MNIST/raw").iterdir()) == sorted(loopback.behaviour.files)
    load_mnist(download=True)
    assert len(loopback.behaviour.asked) == 4, "a second load asked again"


def test_a_fetch_keeps_good_copies_and_refuses_to_overwrite_bad_ones(root, tmp_path, loopback, monkeypatch):
    write_mnist(tmp_path / "published")
    publish(loopback, monkeypatch, tmp_path / "published" / "MNIST" / "raw")
    # Re-compressed otherwise, so the .gz has another checksum than the published one: its content is what counts.
    write_mnist(root, compressed=False)
    mnist.fetch_mnist()
    assert loopback.behaviour.asked == []
    path = root / "MNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    changed = path.read_bytes()
    with pytest.raises(CorruptDataError, match="MD5"):
        verify("mnist")
    with pytest.raises(CorruptDataError, match="MD5"):
        mnist.fetch_mnist()
    assert path.read_bytes() == changed


def test_importing_touches_neither_network_nor_heavy_packages():
    """In a process of its own, where a socket is an error."""
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import rankscope.datasets as d\n"
        "print([m for m in ('mnist1d', 'sklearn', 'matplotlib.pyplot') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_real_mnist(real_mnist):
    X, dataset = load_mnist()
    assert X.shape == (60_000, 784)
    assert X.min() == 0
    assert X.max() == 1
    assert X.mean() == pytest.approx(0.1307, abs=5e-5)
    assert dataset.labels is not None
    assert dataset.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert np.bincount(dataset.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_the_real_test_split_and_its_checksums(real_mnist):
    X, dataset = load_mnist((14, 14), split="test")
    assert X.shape == (10_000, 196)
    assert dataset.labels is not None
    assert dataset.labels[:4].tolist() == [7, 2, 1, 0]
    assert [path.parent for path in verify("mnist")] == [real_mnist] * 4
