"""Long lists that do not stay in memory."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from distributor.errors import InvalidInput
from distributor.files.spool import FileSpool
from distributor.model.secret import Secret


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 12_345])
def test_values_come_back_in_their_order_as_often_as_they_are_asked_for(count: int) -> None:
    spool = FileSpool[tuple[int, str]]()
    for number in range(count):
        spool.append((number, str(number)))
    assert len(spool) == count
    for _ in range(2):
        assert list(spool) == [(number, str(number)) for number in range(count)]
    if count:
        assert spool[count - 1] == (count - 1, str(count - 1))


def test_two_readers_do_not_disturb_each_other() -> None:
    spool = FileSpool[int]()
    for number in range(2000):
        spool.append(number)
    assert all(one == two for one, two in zip(spool, spool, strict=True))


def test_values_do_not_stay_in_memory() -> None:
    tracemalloc.start()
    spool = FileSpool[str]()
    for number in range(50_000):
        spool.append(f"{number:0200}")
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 2**20


def open_files() -> Iterator[str]:
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # what lists the folder
            yield str(path.readlink())


def filled(value: object, count: int = 501) -> FileSpool[object]:
    spool = FileSpool[object]()
    for _ in range(count):
        spool.append(value)
    return spool


def test_the_file_has_no_name_and_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = filled(1)
    assert list(tmp_path.iterdir()) == []
    (file,) = (link for link in open_files() if link.startswith(str(tmp_path)))
    assert file.endswith("(deleted)")
    assert spool[500] == 1


def test_a_secret_never_gets_into_the_file() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        filled(Secret("hunter2"))


def test_a_full_disk_is_told_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="nowhere") as caught:
        filled(1)
    assert caught.value.hint
