"""One door by name, and what `rankscope data` shows."""

import numpy as np
import pytest
from dataset_files import write_flowers, write_mnist

from rankscope.datasets import DatasetStatus, available, data_path, fetch, load, storage, verify
from rankscope.errors import MissingDataError


def test_load_dispatches_by_name_and_by_path(root, tmp_path):
    write_mnist(root)
    write_flowers(root)
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    assert load("digits").dataset.name == "digits"
    assert load("mnist").X.shape == (12, 784)
    assert load("mnist", resize=(7, 7)).dataset.shape == (7, 7)
    assert load("flowers102").dataset.shape == (3, 64, 64)
    assert load("flowers102", resize=(5, 6)).dataset.shape == (3, 5, 6)
    assert load(tmp_path / "a.npy").X.shape == (2, 3)
    assert load(str(tmp_path / "a.npy")).dataset.name == "a.npy"


def test_mnist1d_is_the_packages_default_seed(monkeypatch):
    made = []
    monkeypatch.setattr("rankscope.datasets.catalog.load_mnist1d", lambda: made.append(1))
    load("mnist1d")
    assert made == [1]


@pytest.mark.parametrize("name", ["mnits", "", "MNIST", "digits "])
def test_an_unknown_name_lists_the_names(name):
    for door in (load, fetch, verify, data_path):
        if name == "" and door is load:
            continue
        with pytest.raises(ValueError, match="use digits, mnist1d, mnist, flowers102") as caught:
            door(name)
        assert repr(name) in str(caught.value)


def test_a_path_that_is_not_there_or_not_a_matrix_says_so(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.csv"):
        load(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="must be one of"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["digits", "mnist1d", "a.npy"])
def test_resize_is_refused_where_it_means_nothing(name):
    with pytest.raises(ValueError, match="resize applies to mnist and flowers102"):
        load(name, resize=(4, 4))


def status() -> dict[str, DatasetStatus]:
    return {entry.name: entry for entry in available()}


def test_the_list_says_what_is_here_and_what_needs_a_network(root):
    assert {name: (entry.present, entry.needs_network) for name, entry in status().items()} == {
        "digits": (True, False),
        "mnist1d": (False, False),
        "mnist": (False, True),
        "flowers102": (False, True),
    }
    write_mnist(root)
    folder = write_flowers(root)
    assert status()["mnist"].present
    assert status()["flowers102"].present
    assert status()["flowers102"].folder == folder
    (root / "MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    (folder / "jpg" / "image_00001.jpg").unlink()
    assert not status()["mnist"].present
    assert not status()["flowers102"].present
    (folder / "imagelabels.mat").write_bytes(b"broken")
    assert not status()["flowers102"].present


def test_data_sets_are_under_the_root_and_the_cache_is_not(root, tmp_path, monkeypatch):
    assert data_path() == root
    assert data_path("mnist") == root / "MNIST" / "raw"
    assert data_path("flowers102") == root / "flowers-102"
    assert data_path("mnist1d") == tmp_path / "cache" / "mnist1d"
    assert (data_path("digits") / "digits.csv.gz").is_file()
    monkeypatch.setenv("RANKSCOPE_DATA", "")
    assert data_path("mnist") == tmp_path / "cache" / "MNIST" / "raw"
    monkeypatch.setenv("RANKSCOPE_DATA", "~/data")
    assert data_path() == storage.Path.home() / "data"


def test_fetch_and_verify_of_what_needs_no_network():
    assert fetch("digits") == data_path("digits")
    assert verify("digits") == ()
    assert verify("mnist1d") == ()
    for name in ("mnist", "flowers102"):
        with pytest.raises(MissingDataError, match=f"rankscope data fetch {name}"):
            verify(name)
