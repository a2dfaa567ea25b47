"""Zips whose directory lies or is enormous: refused before anything of it is kept, and the other files go on."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from distributor.adapters.sources import reader
from distributor.adapters.sources.reader import zip_directory
from distributor.mail.templates import cpu_limit
from tests.source_files import find, issues, materials, zipped

MANY = 1_500_000


def header(name: bytes) -> bytes:
    """A member's entry in the directory."""
    return b"PK\1\2" + bytes(24) + struct.pack("<3H", len(name), 0, 0) + bytes(12) + name


def end(entries: int, size: int, comment: bytes = b"") -> bytes:
    return b"PK\5\6" + struct.pack("<4H2LH", 0, 0, min(entries, 0xFFFF), min(entries, 0xFFFF), size, 0, len(comment)) + comment


def end64(entries: int, size: int) -> bytes:
    record = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, entries, entries, size, 0)
    return record + b"PK\6\7" + struct.pack("<LQL", 0, size, 1)


DIRECTORY = header(b"a") * MANY
HUGE = {
    "which tells the truth": DIRECTORY + end64(MANY, len(DIRECTORY)) + end(MANY, len(DIRECTORY)),
    "which says it has one member": DIRECTORY + end(1, len(DIRECTORY)),
    "with a comment": DIRECTORY + end(1, len(DIRECTORY), b"all fine"),
    "whose zip64 record says it has one": DIRECTORY + end64(1, len(DIRECTORY)) + end(0xFFFF, 0xFFFFFFFF),
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_directory_of_a_million_members_costs_next_to_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "huge.zip").write_bytes(HUGE[kind])
    (tmp_path / "small.pfx").write_bytes(b"s")
    tracemalloc.start()
    with cpu_limit(10):
        found = find(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert issues(found) == [("error", "too-costly", "huge.zip")]
    assert len(found) == 2
    assert peak < 2 * 2**20


def test_a_directory_that_is_too_large_is_not_read_whatever_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LARGEST_DIRECTORY", 1000)
    fine = zipped(tmp_path / "fine.zip", a__pfx=b"a")
    large = zipped(tmp_path / "large.zip", **{f"{'n' * 200}{number}__pfx": b"a" for number in range(5)})
    assert len(materials(find(fine))) == 1
    assert issues(find(large)) == [("error", "too-costly", "large.zip")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\5\6",
        b"x" * 100,
        end(0, 2**32 - 1),  # a directory before the file's beginning
        end64(1, 2**63) + end(0xFFFF, 0xFFFFFFFF),
        b"x" * 46 + end(1, 46),  # no header where one should be
        header(b"abc")[:-3] + end(1, 46),  # a name that reaches beyond it
    ],
)
def test_a_damaged_directory_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.zip").write_bytes(data)
    assert issues(find(tmp_path / "bad.zip")) == [("error", "unreadable", "bad.zip")]


def test_a_member_without_a_name_costs_only_itself(tmp_path: Path) -> None:
    nameless = header(b"")
    (tmp_path / "bad.zip").write_bytes(nameless + end(1, len(nameless)))
    (tmp_path / "good.pfx").write_bytes(b"g")
    assert [one.source for one in materials(find(tmp_path))] == ["good.pfx"]


def test_members_are_counted_as_zipfile_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3000):
            archive.writestr(f"{'long ' * (number % 50)}{number}.pfx", b"")
        archive.comment = b"PK\5\6 in a comment"[4:]
    with path.open("rb") as file:
        assert zip_directory(file, 2**20, 5000).entries == 3000
        assert zip_directory(file, 2**20, 100).entries == 101
        assert file.tell() == 0
    (tmp_path / "none").write_bytes(b"none")
    with (tmp_path / "none").open("rb") as file, pytest.raises(zipfile.BadZipFile):
        zip_directory(file, 2**20, 100)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_that_zipfile_would_unpack_at_once_is_not_unpacked(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", method) as archive:
        archive.writestr("a.pfx", bytes(2**26))
    data = bytearray((tmp_path / "bomb.zip").read_bytes())
    place = data.index(b"PK\1\2") + 24
    data[place : place + 4] = struct.pack("<L", 1000)  # as if it were a small file
    (tmp_path / "bomb.zip").write_bytes(data)
    tracemalloc.start()
    found = find(tmp_path / "bomb.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert issues(found) == [("error", "unreadable", "bomb.zip/a.pfx")]
    assert peak < 2**20


def test_a_size_that_lies_does_not_unpack_more_than_it_says(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.pfx", bytes(2**24))
    data = bytearray((tmp_path / "bomb.zip").read_bytes())
    place = data.index(b"PK\1\2") + 24
    data[place : place + 4] = struct.pack("<L", 1000)
    (tmp_path / "bomb.zip").write_bytes(data)
    assert issues(find(tmp_path / "bomb.zip")) == [("error", "unreadable", "bomb.zip/a.pfx")]
