"""A user's file is taken as it is, or refused in one line that says what to do."""

from pathlib import Path

import numpy as np
import pytest

from rankscope.datasets import load_file
from rankscope.errors import CorruptDataError, MissingDataError

X = np.array([[0.0, 1.5, 2.0], [300.0, 4.0, 1e-3]])


def saved(folder: Path, array: object) -> Path:
    path = folder / "mine.npy"
    np.save(path, np.asarray(array), allow_pickle=True)
    return path


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("f4", "f4"),
        ("f8", "f8"),
        ("f2", "f4"),
        (">f8", "f8"),
        ("u1", "f4"),
        ("i2", "f4"),
        ("i4", "f8"),
        ("i8", "f8"),
        ("?", "f4"),
        ("g", "f8"),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_are_kept_in_the_smallest_float_that_holds_them(tmp_path, dtype, kept, order):
    array = np.array([[0, 1, 2], [100, 4, 1]]).astype(dtype, order=order)
    A, dataset = load_file(saved(tmp_path, array))
    assert A.dtype == np.dtype(kept)
    assert A.dtype.isnative
    assert A.flags.c_contiguous
    np.testing.assert_array_equal(A, array)
    assert (dataset.name, dataset.shape, dataset.labels) == ("mine.npy", (3,), None)


def test_large_integers_are_not_rounded(tmp_path):
    assert load_file(saved(tmp_path, [[2**24 + 1]])).X[0, 0] == 2**24 + 1


def test_an_npz_may_hold_labels(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, labels=np.array([3, 1], np.uint8), unused=1)
    A, dataset = load_file(tmp_path / "a.npz")
    np.testing.assert_array_equal(A, X)
    assert dataset.labels is not None
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == [3, 1]
    np.savez(tmp_path / "b.npz", anything=X)
    np.testing.assert_array_equal(load_file(str(tmp_path / "b.npz")).X, X)


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"a": X, "b": X}, "one array, or one named X"),
        ({"labels": X}, "one array, or one named X"),
        ({}, "one array, or one named X"),
        ({"X": X, "labels": np.zeros(3, int)}, "one integer for each of the 2 rows"),
        ({"X": X, "labels": np.array(["a", "b"])}, "must be integers"),
        ({"X": X, "labels": np.zeros(2)}, "must be integers"),
    ],
)
def test_an_npz_that_is_not_one_matrix_is_refused(tmp_path, arrays, rule):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=rule):
        load_file(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "text",
    [
        "0,1.5,2\n300,4,1e-3\n",
        "0,1.5,2\r\n300,4,1e-3",
        "a,b,c\n0,1.5,2\n300,4,1e-3\n",
        '"first, one",b,c\n0,1.5,2\n300,4,1e-3\n',
        "\ufeff0,1.5,2\n300,4,1e-3\n",
        '"0","1.5","2"\n300, 4, 1e-3\n\n',
    ],
    ids=["plain", "crlf", "header", "quoted header", "byte order mark", "quoted numbers"],
)
def test_a_csv_with_or_without_a_header(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    A, dataset = load_file(path)
    assert A.dtype == np.float32
    np.testing.assert_array_equal(A, X.astype(np.float32))
    assert dataset.shape == (3,)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("1,2\n3\n", "as many in every row"),
        ("1,2\n3,x\n", "numbers between commas"),
        ("1,2\n3,\n", "numbers between commas"),
        ("1;2\n3;4\n", "numbers between commas"),
        ("", "at least one row"),
        ("a,b\n", "at least one row"),
        ("1,nan\n", "finite"),
        ("1,inf\n", "finite"),
    ],
)
def test_a_csv_that_is_not_a_matrix_of_numbers_is_refused(tmp_path, text, rule):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rule) as caught:
        load_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1,2\n\xff\xfe,3\n")
    with pytest.raises(CorruptDataError, match="not text"):
        load_file(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (np.array([[1, np.nan]]), "finite, has nan at row 0, column 1"),
        (np.array([[1, 2], [-np.inf, 2]]), "finite, has -inf at row 1, column 0"),
        (np.array([[1 + 1j]]), "real numbers, holds complex128"),
        (np.array([["a"]]), "real numbers"),
        (np.array([[1, None]]), "Python objects"),
        (np.array([["2020"]], "M8[D]"), "real numbers"),
        (np.zeros(2, [("a", "f4")]), "real numbers"),
        (np.ones(3), "2-d array, rows × columns, holds 1-d"),
        (np.ones((2, 3, 4)), "holds 3-d"),
        (np.ones(()), "holds 0-d"),
        (np.ones((0, 3)), "at least one row and one column, is 0×3"),
        (np.ones((3, 0)), "is 3×0"),
    ],
)
def test_what_cannot_be_factored_is_refused(tmp_path, array, rule):
    path = saved(tmp_path, array)
    with pytest.raises(ValueError, match=rule) as caught:
        load_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_negative_numbers_are_the_estimators_to_refuse(tmp_path):
    np.testing.assert_array_equal(load_file(saved(tmp_path, [[-1.0]])).X, [[-1.0]])


def test_a_broken_file_is_named_with_a_remedy(tmp_path):
    path = saved(tmp_path, X)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptDataError, match="write the file again"):
        load_file(path)


def test_absent_and_unknown_files_are_told_apart(tmp_path):
    with pytest.raises(MissingDataError, match="check the path"):
        load_file(tmp_path / "none.npy")
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"\.npy \.npz \.csv"):
        load_file(tmp_path / "a.pkl")
