"""A download continues after a cut when the server can, starts over when it cannot, and ends either way."""

import hashlib
import json

import pytest
from loopback import CONTENT, OTHER, names, one_line, remote

from rankscope.datasets import resume
from rankscope.datasets.download import download_file
from rankscope.errors import CorruptDataError


def test_a_cut_is_continued_in_the_same_call(tmp_path, loopback):
    loopback.behaviour.cuts = [100_000, 50_000]
    path = download_file(remote(loopback), tmp_path)
    assert path.read_bytes() == CONTENT
    assert loopback.behaviour.asked == [
        ("/data.bin", None),
        ("/data.bin", "bytes=100000-"),
        ("/data.bin", "bytes=150000-"),
    ]
    assert names(tmp_path) == ["data.bin"]


def test_a_cut_is_continued_by_the_next_call(tmp_path, loopback):
    loopback.behaviour.cuts = [120_000]
    with pytest.raises(ConnectionError) as caught:
        download_file(remote(loopback), tmp_path, attempts=1)
    assert "continues where it stopped" in one_line(caught.value)
    assert "cut after 120,000 bytes" in one_line(caught.value)
    assert names(tmp_path) == ["data.bin.part", "data.bin.part.json"]
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:120_000]
    path = download_file(remote(loopback), tmp_path)
    assert loopback.behaviour.asked[-1] == ("/data.bin", "bytes=120000-")
    assert hashlib.md5(path.read_bytes()).hexdigest() == remote(loopback).md5
    assert names(tmp_path) == ["data.bin"]


def test_an_interrupt_keeps_what_arrived(tmp_path, loopback, monkeypatch):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(resume.os, "fsync", interrupt)
        loopback.behaviour.cuts = [100_000]
        download_file(remote(loopback), tmp_path)
    assert names(tmp_path) == ["data.bin.part", "data.bin.part.json"]
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
    assert loopback.behaviour.asked[-1] == ("/data.bin", "bytes=100000-")


def test_a_cut_after_the_last_byte_needs_no_further_request(tmp_path, loopback):
    loopback.behaviour.cuts = [100_000]
    with pytest.raises(ConnectionError):
        download_file(remote(loopback), tmp_path, attempts=1)
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
    assert len(loopback.behaviour.asked) == 1


@pytest.mark.parametrize(
    ("server", "asked"),
    [("without ranges", 2), ("with another file", 2), ("with another range", 3), ("refusing ranges", 3)],
)
def test_a_server_that_cannot_continue_sends_all_of_it(tmp_path, loopback, server, asked):
    behaviour = loopback.behaviour
    first = OTHER if server == "with another file" else CONTENT
    behaviour.files["data.bin"] = first
    behaviour.cuts = [100_000]
    with pytest.raises(ConnectionError):
        download_file(remote(loopback), tmp_path, attempts=1)
    behaviour.files["data.bin"] = CONTENT
    behaviour.ranges = server != "without ranges"
    behaviour.content_range = "bytes 7-9/10" if server == "with another range" else ""
    behaviour.statuses = [416] if server == "refusing ranges" else []
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
    assert len(behaviour.asked) == asked
    assert names(tmp_path) == ["data.bin"]


@pytest.mark.parametrize("missing", ["etags", "lengths"])
def test_without_a_validator_or_a_length_nothing_is_continued(tmp_path, loopback, missing):
    setattr(loopback.behaviour, missing, False)
    loopback.behaviour.cuts = [100_000]
    expected = CorruptDataError if missing == "lengths" else ConnectionError
    with pytest.raises(expected):
        download_file(remote(loopback), tmp_path, attempts=1)
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in loopback.behaviour.asked] == [None, None]


def test_a_stale_part_costs_one_fresh_download(tmp_path, loopback):
    """The server says it is the same file, but the bytes that were kept are not its beginning."""
    loopback.behaviour.cuts = [100_000]
    with pytest.raises(ConnectionError):
        download_file(remote(loopback), tmp_path, attempts=1)
    (tmp_path / "data.bin.part").write_bytes(OTHER[:100_000])
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in loopback.behaviour.asked] == [None, "bytes=100000-", None]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"url": 1}', '{"url": "x", "validator": "y", "length": 9}', "null"])
def test_a_broken_note_is_no_note(tmp_path, loopback, note):
    (tmp_path / "data.bin.part").write_bytes(OTHER[:1000])
    (tmp_path / "data.bin.part.json").write_text(note)
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["data.bin"]


def test_a_note_of_another_url_is_no_note(tmp_path, loopback):
    (tmp_path / "data.bin.part").write_bytes(OTHER[:1000])
    note = {"url": "https://example.org/data.bin", "validator": '"x"', "length": 300_000}
    (tmp_path / "data.bin.part.json").write_text(json.dumps(note))
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
    assert loopback.behaviour.asked == [("/data.bin", None)]


def test_a_busy_server_is_asked_again(tmp_path, loopback):
    loopback.behaviour.statuses = [503, 429, None]
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT


def test_attempts_end_and_wait_longer_each_time(tmp_path, loopback, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    loopback.behaviour.statuses = [503] * 9
    with pytest.raises(ConnectionError, match="503, 4 attempts"):
        download_file(remote(loopback), tmp_path, attempts=4, backoff=0.5)
    assert [wait for wait in waits if wait >= 0.5] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("lengths", [True, False])
def test_more_bytes_than_published_are_refused(tmp_path, loopback, lengths):
    loopback.behaviour.lengths = lengths
    with pytest.raises(CorruptDataError, match="offers 300,000" if lengths else "got more"):
        download_file(remote(loopback, size=1000), tmp_path)
    assert names(tmp_path) == []


def test_bytes_are_kept_as_they_are_on_the_server(tmp_path, loopback):
    """A server that calls a .tgz `Content-Encoding: gzip` must not make the client unpack it."""
    loopback.behaviour.encoding = "gzip"
    assert download_file(remote(loopback), tmp_path).read_bytes() == CONTENT
