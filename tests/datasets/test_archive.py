"""Whatever an archive holds, nothing is written outside its folder, and a bad one adds nothing at all."""

import gzip
import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_files import damaged, tar_member, tgz

from rankscope.datasets.archive import Allowed, unpack
from rankscope.errors import CorruptDataError

ALLOWED = Allowed("jpg", re.compile(r"image_[0-9]{5}\.jpg"), files=4, file_bytes=30_000, total_bytes=50_000)
GOOD = tar_member("jpg/image_00001.jpg", b"one")


def add(tmp_path: Path, content: bytes, allowed: Allowed = ALLOWED) -> int:
    """Unpack into tmp_path/inside/jpg."""
    archive = tmp_path / "inside" / "images.tgz"
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(content)
    return unpack(archive, archive.parent / "jpg", allowed, name="flowers102")


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_good_files_arrive_and_existing_ones_stay(tmp_path):
    (tmp_path / "inside" / "jpg").mkdir(parents=True)
    (tmp_path / "inside" / "jpg" / "image_00001.jpg").write_bytes(b"mine")
    folder = tar_member("./jpg", type=tarfile.DIRTYPE)
    assert add(tmp_path, tgz(folder, GOOD, tar_member("./jpg/image_00002.jpg", b"two"))) == 1
    assert (tmp_path / "inside/jpg/image_00001.jpg").read_bytes() == b"mine"
    assert (tmp_path / "inside/jpg/image_00002.jpg").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "inside").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "member",
    [
        tar_member("../evil.jpg", b"evil"),
        tar_member("jpg/../../image_00009.jpg", b"evil"),
        tar_member("../jpg/image_00009.jpg", b"evil"),
        tar_member("/tmp/image_00009.jpg", b"evil"),
        tar_member("/jpg/image_00009.jpg", b"evil"),
        tar_member("jpg/image_00009.jpg/../../../evil", b"evil"),
        tar_member("jpg/image_00009.jpg\n", b"evil"),
        tar_member("jpg/.bashrc", b"evil"),
        tar_member("jpg/image_00009.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        tar_member("jpg", type=tarfile.SYMTYPE, linkname=".."),
        tar_member("jpg/image_00009.jpg", type=tarfile.LNKTYPE, linkname="../../outside"),
        tar_member("jpg/image_00009.jpg", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        tar_member("jpg/image_00009.jpg", type=tarfile.BLKTYPE),
        tar_member("jpg/image_00009.jpg", type=tarfile.FIFOTYPE),
        tar_member("jpg/image_00009.jpg", type=tarfile.DIRTYPE),
        tar_member("other", type=tarfile.DIRTYPE),
        tar_member("jpg/image_00009.jpg", bytes(30_001)),
        GOOD,
    ],
    ids=lambda member: repr(member[0].name) + member[0].type.decode("latin1"),
)
def test_one_bad_member_refuses_the_whole_archive(tmp_path, member):
    with pytest.raises(CorruptDataError) as caught:
        add(tmp_path, tgz(GOOD, tar_member("jpg/image_00002.jpg", b"two"), member))
    message = str(caught.value)
    assert str(tmp_path / "inside" / "images.tgz") in message
    assert "rankscope data fetch flowers102" in message
    assert "\n" not in message
    assert everything(tmp_path) == {"inside/images.tgz"}


def test_too_many_and_too_large_together_are_refused(tmp_path):
    many = [tar_member(f"jpg/image_{n:05d}.jpg", b"x") for n in range(5)]
    large = [tar_member(f"jpg/image_{n:05d}.jpg", bytes(25_001)) for n in range(2)]
    for members in (many, large):
        with pytest.raises(CorruptDataError, match="at most 4 different files of 50,000 bytes together"):
            add(tmp_path, tgz(*members))
    with pytest.raises(CorruptDataError, match="files of at most 30,000 bytes"):
        add(tmp_path, tgz(tar_member("jpg/image_00001.jpg", bytes(30_001))))
    assert everything(tmp_path) == {"inside/images.tgz"}


def test_headers_without_end_are_refused(tmp_path):
    folders = [tar_member("jpg", type=tarfile.DIRTYPE)] * 300
    with pytest.raises(CorruptDataError, match="must hold at most 131,920 bytes"):
        add(tmp_path, tgz(*folders))


def test_a_bomb_in_a_header_is_not_inflated(tmp_path, peak_memory):
    """tarfile reads an extended header in one piece: 100 MB of it, 100 kB compressed."""
    size = 100_000_000
    header = tarfile.TarInfo("jpg/image_00001.jpg")
    header.type, header.size = tarfile.XHDTYPE, size
    stream = io.BytesIO()
    with gzip.open(stream, "wb", 1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(size // 1_000_000):
            file.write(bytes(1_000_000))
    peak_memory()
    with pytest.raises(CorruptDataError, match="at most"):
        add(tmp_path, stream.getvalue(), replace(ALLOWED, total_bytes=1 << 29))
    assert peak_memory() < 4_000_000


@pytest.mark.parametrize(
    "content",
    [b"", b"not an archive", gzip.compress(b"not a tar" * 200), gzip.compress(b"")],
    ids=["empty", "text", "gzip of text", "gzip of nothing"],  # a gzip's own bytes hold the time: workers would differ
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    with pytest.raises(CorruptDataError):
        add(tmp_path, content)


def test_any_damage_is_refused_or_harmless(tmp_path):
    good = tgz(*(tar_member(f"jpg/image_{n:05d}.jpg", bytes(range(n, 200 + n))) for n in range(3)))
    raw = gzip.decompress(good)
    for content in (*damaged(good, 150), *(gzip.compress(copy, 1) for copy in damaged(raw, 150))):
        try:
            add(tmp_path, content)
        except CorruptDataError:
            continue
    written = everything(tmp_path) - {"inside/images.tgz"}
    assert all(re.fullmatch(r"inside/jpg/image_[0-9]{5}\.jpg", name) for name in written)


def test_a_cut_archive_adds_nothing(tmp_path):
    good = tgz(GOOD, tar_member("jpg/image_00002.jpg", bytes(range(250)) * 100))
    with pytest.raises(CorruptDataError):
        add(tmp_path, good[: len(good) - 20])
    assert everything(tmp_path) == {"inside/images.tgz"}
