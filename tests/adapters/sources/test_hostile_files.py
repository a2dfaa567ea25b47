"""Links, pipes, bombs and files that changed: refused with a reason, and the others go on."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from distributor.adapters.sources import files
from distributor.errors import InvalidInput
from distributor.model.certificates import Locator, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.pki.pem import KeyFingerprint, UnpairedFile
from tests.authority import Authority
from tests.source_files import find, issues, look, materials, words, zipped


def test_links_pipes_and_devices_are_not_opened(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.pfx").write_bytes(b"s")
    (inbox / "link.pfx").symlink_to(tmp_path / "secret.pfx")
    os.mkfifo(inbox / "pipe.pfx")
    os.mkfifo(inbox / "pipe.txt")
    assert issues(find(inbox)) == [(Severity.ERROR, CheckId.UNSAFE_PATH, name) for name in ("link.pfx", "pipe.pfx", "pipe.txt")]


def test_a_name_that_is_no_text_costs_only_its_own_file(inbox: Path) -> None:
    (inbox / "good.pfx").write_bytes(b"g")
    (inbox / os.fsdecode(b"\xff.pfx")).write_bytes(b"x")
    found = find(inbox)
    assert [one.source for one in found if isinstance(one, SourceMaterial)] == ["good.pfx"]
    assert issues(found) == [(Severity.ERROR, CheckId.UNSAFE_PATH, "\\udcff.pfx")]


def test_a_pipe_as_the_list_of_passwords_is_refused_instead_of_waited_for(inbox: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="not a regular file"):
        find(inbox, passwords=tmp_path / "pipe")


def test_a_pipe_beside_a_file_is_no_password(inbox: Path) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    os.mkfifo(inbox / "a.txt")
    found = find(inbox)
    assert [words(m) for m in found if isinstance(m, SourceMaterial)] == [[]]


def test_large_files_are_not_read(inbox: Path) -> None:
    with (inbox / "large.pfx").open("wb") as file:
        file.truncate(2**30)
    assert issues(find(inbox)) == [("error", "too-costly", "large.pfx")]


def test_what_cannot_be_read_or_is_gone_is_told(inbox: Path) -> None:
    assert issues(find(inbox / "gone.pfx")) == [("error", "unreadable", "gone.pfx")]


@pytest.fixture
def hostile_zips(tmp_path: Path) -> dict[str, Path]:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.pfx", b"\0" * 2**22)
    nested = tmp_path / "nested.zip"
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("inner.zip", bomb.read_bytes())
    link = zipfile.ZipInfo("link.pfx")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    strange = tmp_path / "strange.zip"
    with zipfile.ZipFile(strange, "w") as archive:
        archive.writestr("../up.pfx", b"x")
        archive.writestr("/etc/abs.pfx", b"x")
        archive.writestr(link, b"/etc/passwd")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 and no more")
    cut = tmp_path / "cut.zip"
    data = bytearray(zipped(cut, a__pfx=os.urandom(5000)).read_bytes())
    data[200] ^= 0xFF
    cut.write_bytes(data)
    locked = tmp_path / "locked.zip"
    raw = bytearray(zipped(locked, a__pfx=b"x").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(raw)
    return {path.stem: path for path in (bomb, nested, strange, broken, cut, locked)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bomb", [("error", "too-costly", "bomb.zip/a.pfx")]),
        ("nested", [("error", "unreadable", "nested.zip/inner.zip")]),
        ("strange", [("error", "unsafe-path", f"strange.zip/{n}.pfx") for n in ("../up", "/etc/abs", "link")]),
        ("broken", [("error", "unreadable", "broken.zip")]),
        ("cut", [("error", "unreadable", "cut.zip/a.pfx")]),
        ("locked", [("error", "unreadable", "locked.zip/a.pfx")]),
    ],
)
def test_hostile_zips(hostile_zips: dict[str, Path], name: str, expected: list[tuple[str, str, str]]) -> None:
    assert issues(find(hostile_zips[name])) == expected


def test_the_same_member_name_twice_does_no_harm(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.pfx", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.pfx", b"2")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    assert len(materials(find(tmp_path / "a.zip"))) == 1


def test_names_with_unprintable_characters_are_shown_escaped(inbox: Path) -> None:
    (inbox / "a\x1b[2J\u202e.pfx").write_bytes(b"a")
    assert [m.source for m in materials(find(inbox))] == ["a\\x1b[2J\\u202e.pfx"]


@pytest.fixture
def source(inbox: Path) -> Iterator[files.Files]:
    (inbox / "a.pfx").write_bytes(b"a")
    (inbox / "a.txt").write_text("beside")
    zipped(inbox / "more.zip", b__pfx=b"b")
    return files.open(files.Settings((inbox,)), look)  # type: ignore[return-value]


def locator(material: SourceMaterial) -> Locator:
    return Locator(material.form, tuple((part.path, part.member, part.sha256) for part in material.parts))


def test_the_same_bytes_are_fetched_again(source: files.Files) -> None:
    found = materials(list(source.finds({})))
    assert [source.fetch(locator(one), None) for one in found] == found


def test_a_file_that_changed_or_went_is_not_fetched(source: files.Files, inbox: Path) -> None:
    one, member = materials(list(source.finds({})))
    (inbox / "a.pfx").write_bytes(b"changed")
    changed = source.fetch(locator(one), None)
    assert isinstance(changed, Issue)
    assert "changed since it was planned" in changed.message
    (inbox / "a.pfx").unlink()
    (inbox / "more.zip").unlink()
    fresh = files.open(files.Settings((inbox,)), look)
    assert [type(fresh.fetch(locator(lost), None)) for lost in (one, member)] == [Issue, Issue]


def test_a_pem_file_of_beginnings_without_an_end_is_read_once_and_goes_alone(tmp_path: Path) -> None:
    for text in (b"-----BEGIN CERTIFICATE-----\n" * 37_000, b"-----BEGIN CERTIFICATE-----" + b" " * 1_000_000):
        (tmp_path / "odd.pem").write_bytes(text)
        assert len(materials(find(tmp_path))) == 1


def test_files_without_a_partner_are_looked_into_by_child_processes_only(tmp_path: Path, authority: Authority) -> None:
    for name in ("alice", "bob"):
        one = authority.issue(f"{name}@example.org", name=name)
        (tmp_path / f"{name}-certificate.pem").write_bytes(one.pem)
        (tmp_path / f"{name}.key").write_bytes(one.key_pem())

    class Slow:
        def map(self, jobs: Iterable[UnpairedFile]) -> Iterator[tuple[UnpairedFile, KeyFingerprint | WorkerFailure]]:
            for job in jobs:
                yield job, WorkerFailure("time")

    source = files.open(files.Settings((tmp_path,)), lambda: nullcontext(Slow()))
    assert [len(material.parts) for material in materials(list(source.finds({})))] == [1, 1, 1, 1]
    assert [len(material.parts) for material in materials(find(tmp_path))] == [2, 2]
