"""A file that appears when it is complete: what others laid beside it is neither opened nor followed, and nothing is left over."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from distributor.files import atomic


def test_a_file_appears_whole_with_its_own_permissions(tmp_path: Path) -> None:
    path = tmp_path / "message.eml"
    path.write_text("old")
    old = os.umask(0o077)
    try:
        part = atomic.write_atomically(path, b"new", 0o644)
    finally:
        os.umask(old)
    assert (path.read_text(), part.parent, stat.S_IMODE(part.stat().st_mode)) == ("old", tmp_path, 0o644)
    atomic.publish(part, path)
    atomic.sync_folder(tmp_path)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_what_somebody_laid_there_is_neither_opened_nor_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even who could know the name beforehand gains nothing."""
    victim, path = tmp_path / "victim", tmp_path / "message.eml"
    victim.write_text("precious")
    monkeypatch.setattr("os.urandom", lambda _: b"guessed")
    for trap in (lambda part: part.symlink_to(victim), lambda part: part.hardlink_to(victim), lambda part: part.touch(mode=0o666)):
        part = tmp_path / f".message.eml.{b'guessed'.hex()}.part"
        trap(part)
        with pytest.raises(FileExistsError):
            atomic.write_atomically(path, b"secret")
        part.unlink()
    assert victim.read_text() == "precious"


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "message.eml"

    def break_off() -> None:
        with atomic.partial_file(path) as (file, _):
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic.publish(atomic.write_atomically(path, b"whole"), path)
    assert list(tmp_path.iterdir()) == [path]


def test_two_names_of_one_file_differ(tmp_path: Path) -> None:
    assert atomic.write_atomically(tmp_path / "a", b"1") != atomic.write_atomically(tmp_path / "a", b"2")


def test_a_new_file_is_its_owners_and_replaces_nothing(tmp_path: Path) -> None:
    path, victim = tmp_path / "vault.key", tmp_path / "victim"
    atomic.write_new(path, b"key")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"key", 0o600)
    link = tmp_path / "linked.key"
    link.symlink_to(victim)
    for there in (path, link):
        with pytest.raises(FileExistsError):
            atomic.write_new(there, b"another")
    assert (path.read_bytes(), victim.exists()) == (b"key", False)


def test_a_replaced_file_is_not_written_through_a_link_or_a_second_name(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for number, lay in enumerate((Path.symlink_to, Path.hardlink_to)):
        path = tmp_path / f"{number}.eml"
        lay(path, victim)
        atomic.replace_file(path, b"secret")
        assert (path.read_bytes(), path.is_symlink(), stat.S_IMODE(path.stat().st_mode)) == (b"secret", False, 0o600)
    assert victim.read_text() == "precious"
