"""MNIST-1D is what the package generates, scaled by one affine map, cached, and leaves global randomness alone."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
from mnist1d import data as package

from rankscope.datasets import load_mnist1d, mnist1d, verify
from rankscope.errors import CorruptDataError


def test_signals_are_the_packages_in_its_order_scaled_to_the_unit_interval():
    X, dataset = load_mnist1d(200, seed=3)
    assert X.shape == (200, 40)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    assert (X.min(), X.max()) == (0, 1)
    arguments = SimpleNamespace(**(package.get_dataset_args(as_dict=True) | {"num_samples": 200, "seed": 3}))
    made = package.make_dataset(arguments)
    signals = np.concatenate([made["x"], made["x_test"]])
    low, high = signals.min(), signals.max()
    np.testing.assert_allclose(X, (signals - low) / (high - low), atol=1e-7)
    assert dataset.labels is not None
    np.testing.assert_array_equal(dataset.labels, np.concatenate([made["y"], made["y_test"]]))
    assert (dataset.name, dataset.shape) == ("mnist1d", (40,))
    # The map can be undone from what the source says.
    stated = re.search(r"from \[(\S+), (\S+)\]", dataset.source)
    assert stated is not None
    np.testing.assert_allclose([float(bound) for bound in stated.groups()], [low, high], rtol=1e-5)


def test_the_global_generators_are_left_as_they_were():
    def draw() -> tuple[float, float]:
        return random.random(), np.random.random()  # noqa: NPY002  the generators that the package seeds

    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    load_mnist1d(10)
    after = draw()
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert after == draw()


def test_the_second_time_comes_from_the_cache_and_is_the_same(root, monkeypatch):
    first = load_mnist1d(50)
    monkeypatch.setattr(package, "make_dataset", lambda _: pytest.fail("generated again"))
    second = load_mnist1d(50)
    np.testing.assert_array_equal(first.X, second.X)
    assert first.dataset.labels is not None
    np.testing.assert_array_equal(first.dataset.labels, second.dataset.labels)
    assert not root.exists(), "loading wrote in $RANKSCOPE_DATA"
    assert [path.suffix for path in mnist1d.mnist1d_folder().iterdir()] == [".npz"]


def test_another_size_or_seed_is_another_data_set():
    small, other = load_mnist1d(50).X, load_mnist1d(50, seed=1).X
    assert load_mnist1d(60).X.shape == (60, 40)
    assert not np.array_equal(small, other)


@pytest.mark.parametrize("damage", ["truncated", "another size", "pickled", "labels out of range", "no zip"])
def test_a_cache_that_cannot_be_trusted_is_generated_again_and_refused_by_verify(damage, caplog):
    X = load_mnist1d(50).X
    (path,) = verify("mnist1d")
    signals, labels = np.zeros((50, 40)), np.zeros(50, np.int64)
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-100])
        case "another size":
            np.savez(path, signals=signals[:49], labels=labels)
        case "pickled":
            np.savez(path, signals=signals, labels=np.array([None] * 50))
        case "labels out of range":
            np.savez(path, signals=signals, labels=labels + 10)
        case "no zip":
            path.write_bytes(b"nothing")
    with pytest.raises(CorruptDataError, match=re.escape(str(path))):
        verify("mnist1d")
    np.testing.assert_array_equal(load_mnist1d(50).X, X)
    assert "again" in caplog.text
    assert verify("mnist1d") == (path,)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, caplog):
    (tmp_path / "cache").write_bytes(b"a file where the folder would be")
    assert load_mnist1d(10).X.shape == (10, 40)
    assert "not cached" in caplog.text


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-10, 0), (15, 0), (9, 0), (10.0, 0), (10, -1), (10, 2**32), ("a", 0)])
def test_bad_numbers_are_refused(n, seed):
    with pytest.raises(ValueError, match="must be"):
        load_mnist1d(n, seed=seed)
