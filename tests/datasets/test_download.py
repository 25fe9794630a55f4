"""A download arrives whole or leaves nothing under its final name, and fails in one line."""

import io
import logging

import pooch
import pytest
import requests
from filelock import FileLock
from loopback import CONTENT, OTHER, names, one_line, remote

from rankscope.datasets import download, resume
from rankscope.datasets.download import RemoteFile, download_file
from rankscope.errors import CorruptDataError


def test_a_good_file_arrives_alone(tmp_path, loopback, capfd, monkeypatch):
    chatter = []
    monkeypatch.setattr(pooch.get_logger(), "handlers", [logging.NullHandler()])
    monkeypatch.setattr(pooch.get_logger().handlers[0], "handle", chatter.append)
    path = download_file(remote(loopback), tmp_path / "a" / "b")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["data.bin"]
    assert capfd.readouterr() == ("", ""), "a bar where stderr is not a terminal"
    assert chatter == [], "pooch announced it"
    download_file(remote(loopback), path.parent)
    assert len(loopback.behaviour.asked) == 1, "a file that is here was asked for again"


def test_a_wrong_hash_leaves_nothing(tmp_path, loopback):
    with pytest.raises(CorruptDataError, match="pinned MD5") as caught:
        download_file(remote(loopback, OTHER), tmp_path)
    assert str(tmp_path / "data.bin") in one_line(caught.value)
    assert names(tmp_path) == []
    assert len(loopback.behaviour.asked) == 1


def test_a_file_that_is_here_is_never_overwritten(tmp_path, loopback):
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(CorruptDataError, match="delete it"):
        download_file(remote(loopback), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"
    assert loopback.behaviour.asked == []


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_is_one_line_and_not_repeated(tmp_path, loopback, status):
    loopback.behaviour.statuses = [status] * 9
    with pytest.raises(ConnectionError) as caught:
        download_file(remote(loopback), tmp_path)
    message = one_line(caught.value)
    assert str(status) in message
    assert f"{loopback.url}/data.bin" in message
    assert message.endswith(str(tmp_path / "data.bin"))
    assert len(loopback.behaviour.asked) == 1
    assert names(tmp_path) == []


def test_nobody_there_is_one_line(tmp_path, loopback):
    file = remote(loopback)
    loopback.close()
    with pytest.raises(ConnectionError) as caught:
        download_file(file, tmp_path, attempts=2)
    assert "check the network" in one_line(caught.value)


def test_only_https_leaves_the_machine(tmp_path, loopback, monkeypatch):
    with pytest.raises(ConnectionError, match="downloads use https"):
        download_file(RemoteFile("http://example.org/data.bin", "0" * 32, 10), tmp_path)
    file = remote(loopback)
    answer = requests.Response()
    answer.url, answer.status_code, answer.raw = "http://example.org/data.bin", 200, io.BytesIO(CONTENT)
    monkeypatch.setattr(resume.requests, "get", lambda *_, **__: answer)
    with pytest.raises(ConnectionError, match="downloads use https"):
        download_file(file, tmp_path)
    assert names(tmp_path) == []


def test_a_redirect_elsewhere_is_one_line(tmp_path, loopback):
    loopback.behaviour.redirect = "ftp://127.0.0.1/data.bin"
    with pytest.raises(ConnectionError) as caught:
        download_file(remote(loopback), tmp_path, attempts=1)
    assert "InvalidSchema" in one_line(caught.value)


def test_a_full_disk_is_known_before_the_first_byte(tmp_path, loopback, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 299_999}))
    with pytest.raises(OSError, match="MB free"):
        download_file(remote(loopback), tmp_path)
    assert loopback.behaviour.asked == []


def test_what_is_kept_counts_against_the_space_needed(tmp_path, loopback, monkeypatch):
    loopback.behaviour.cuts = [100_000]
    with pytest.raises(ConnectionError):
        download_file(remote(loopback), tmp_path, attempts=1)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 200_000}))
    with pytest.raises(OSError, match="MB free"):
        download_file(remote(loopback), tmp_path, unpacked_size=1)
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT


def test_a_disk_that_fills_while_writing_is_named(tmp_path, loopback, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        download_file(remote(loopback), tmp_path)
    assert caught.value.filename == str(tmp_path / "data.bin.part")
    assert not (tmp_path / "data.bin").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, loopback, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PermissionError, match="set RANKSCOPE_DATA") as caught:
        download_file(remote(loopback), tmp_path / "file" / "MNIST")
    assert str(tmp_path / "file" / "MNIST") in one_line(caught.value)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="read-only"):
        download_file(remote(loopback), tmp_path / "other")
    assert loopback.behaviour.asked == []


def test_two_processes_do_not_write_one_part(tmp_path, loopback):
    with FileLock(tmp_path / "data.bin.part.lock"), pytest.raises(BlockingIOError, match="another process"):
        download_file(remote(loopback), tmp_path)
    assert loopback.behaviour.asked == []
