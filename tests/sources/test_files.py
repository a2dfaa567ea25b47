"""Files, folders, zips and pairs: everything an admin drops is found, refused with a reason, or known to be something else."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.core.credentials import Limits, Locator, Material
from distributor.core.findings import Check, Issue, Severity
from distributor.core.opening import open_material
from distributor.core.people import Address, Person, RowHint, parse_address
from distributor.core.secret import Secret
from distributor.errors import Unusable
from distributor.sources import files
from tests.authority import Authority, Identity, rsa_key

Find = Callable[..., list[Material | Issue]]


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org")


@pytest.fixture(scope="module")
def bob(authority: Authority) -> Identity:
    return authority.issue("bob@example.org", key=rsa_key(1))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def person(address: str, **hint: object) -> Person:
    parsed = parse_address(address)
    assert isinstance(parsed, Address)
    return Person(parsed, hint=replace(RowHint("people.csv", 2), **hint))  # type: ignore[arg-type]  # whatever a row says


def find(*paths: Path, people: tuple[Person, ...] = (), **settings: object) -> list[Material | Issue]:
    source = files.open(files.Settings(paths, **settings))  # type: ignore[arg-type]  # whatever a test sets
    return list(source.finds({p.address.key: p for p in people}))


def materials(found: list[Material | Issue]) -> list[Material]:
    assert all(isinstance(one, Material) for one in found), found
    return [one for one in found if isinstance(one, Material)]


def issues(found: list[Material | Issue]) -> list[tuple[str, str, str | None]]:
    return [(one.severity.value, one.check.value, one.source) for one in found if isinstance(one, Issue)]


def words(material: Material) -> list[str]:
    return [secret.reveal() for secret in material.passwords]


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return path


# --- what is found -------------------------------------------------------------------------------------------------


def test_a_file_a_folder_and_a_zip(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    zipped(inbox / "more.zip", b__p12=b"b")
    single = tmp_path / "c.PFX"
    single.write_bytes(b"c")
    found = materials(find(inbox, single))
    assert [(m.source, m.form, m.parts[0].data) for m in found] == [
        ("a.pfx", "pkcs12", b"a"),
        ("more.zip/b.p12", "pkcs12", b"b"),
        ("c.PFX", "pkcs12", b"c"),
    ]
    assert [m.parts[0].path for m in found] == [str(inbox / "a.pfx"), str(inbox / "more.zip"), str(single)]


def test_a_path_given_twice_is_read_once(inbox: Path) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    assert len(materials(find(inbox, inbox, inbox / "a.pfx"))) == 1


def test_members_in_folders_are_known_by_their_base_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("export/people/alice.pfx", b"a")
    assert [m.source for m in materials(find(tmp_path / "a.zip"))] == ["a.zip/alice.pfx"]


def test_pairs_by_stem_in_one_file_and_by_public_key(inbox: Path, alice: Identity, bob: Identity, authority: Authority) -> None:
    carol = authority.issue("carol@example.org", key=rsa_key(2))
    (inbox / "alice.crt").write_bytes(alice.pem)
    (inbox / "alice.key").write_bytes(alice.key_pem())
    (inbox / "both.pem").write_bytes(bob.key_pem() + bob.pem)
    (inbox / "1.cer").write_bytes(carol.der)
    (inbox / "2.key").write_bytes(carol.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption()))
    found = materials(find(inbox))
    assert [[part.source for part in m.parts] for m in found] == [["alice.crt", "alice.key"], ["both.pem"], ["1.cer", "2.key"]]
    assert [c.leaf for m in found for c in open_material(m, Limits()).credentials] == [alice.der, bob.der, carol.der]


def test_pairs_with_encrypted_keys_find_each_other_by_their_passwords(inbox: Path, alice: Identity, bob: Identity) -> None:
    for name, identity in (("one", alice), ("two", bob)):
        (inbox / f"{name}.crt").write_bytes(identity.pem)
        (inbox / f"key-of-{name}.pem").write_bytes(identity.key_pem("secret"))
        (inbox / f"key-of-{name}.txt").write_text("secret")
    found = materials(find(inbox))
    assert [c.leaf for m in found for c in open_material(m, Limits()).credentials] == [alice.der, bob.der]


def test_pairs_in_a_zip(tmp_path: Path, alice: Identity) -> None:
    path = zipped(tmp_path / "a.zip", alice__crt=alice.pem, alice__key=alice.key_pem("secret"), alice__txt=b"secret\r\n")
    (found,) = materials(find(path))
    assert [c.leaf for c in open_material(found, Limits()).credentials] == [alice.der]


def test_a_pfx_under_another_name_is_recognised(inbox: Path, alice: Identity) -> None:
    (inbox / "alice.bin").write_bytes(alice.pfx())
    (inbox / "alice").write_bytes(alice.key_pem() + alice.pem)
    assert sorted(m.form for m in materials(find(inbox))) == ["pem", "pkcs12"]


def test_every_file_is_accounted_for(inbox: Path, authority: Authority) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    (inbox / "a.txt").write_text("password")
    (inbox / "README.md").write_text("hello")
    (inbox / "lonely.txt").write_text("whose?")
    (inbox / "deeper").mkdir()
    (inbox / "chain.pem").write_bytes(authority.issuer.public_bytes(ser.Encoding.PEM))
    (inbox / "people.csv").write_text("email\n")
    (inbox / "passwords.csv").write_text("file,password\n")
    for junk in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.pfx"):
        (inbox / junk).write_bytes(b"junk")
    found = find(inbox, passwords=inbox / "passwords.csv", ignore=(inbox / "people.csv",))
    assert sorted(issues(found)) == [
        ("note", "no-key", "chain.pem"),
        ("note", "unreadable", "README.md"),
        ("note", "unreadable", "deeper"),
        ("note", "unreadable", "lonely.txt"),
    ]
    assert [m.source for m in found if isinstance(m, Material)] == ["a.pfx"]


# --- passwords -----------------------------------------------------------------------------------------------------


def test_the_row_then_the_list_then_the_file_beside_then_the_person(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    (inbox / "a.txt").write_text("beside\n")
    (tmp_path / "row.txt").write_text("from a file\r\n")
    table = tmp_path / "passwords.csv"
    table.write_text("file;email;password\na.pfx;;listed\n;alice@example.org;hers\n;bob@example.org;his\n")
    alice = person("alice@example.org", file="a.pfx", password=Secret("row"), password_file="row.txt")
    (found,) = materials(find(inbox, people=(alice,), passwords=table, base=tmp_path))
    assert words(found) == ["row", "from a file", "listed", "beside", "hers", "his"]
    assert found.wanted == "alice@example.org"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("extension", ["txt", "pass", "pwd"])
def test_a_folder_of_passwords(inbox: Path, tmp_path: Path, encoding: str, extension: str) -> None:
    (inbox / "mail-THUMB.p12").write_bytes(b"a")
    folder = tmp_path / "passwords"
    folder.mkdir()
    (folder / f"mail-THUMB.{extension}").write_bytes("pässwörd \r\n".encode(encoding))
    (found,) = materials(find(inbox, passwords=folder))
    assert words(found) == ["pässwörd ", "pässwörd"]


def test_passwords_by_address_are_tried_by_the_name_and_all_if_few(inbox: Path, tmp_path: Path) -> None:
    table = tmp_path / "passwords.csv"
    (inbox / "bob@example.org-0011AABB.p12").write_bytes(b"b")
    table.write_text("E-Mail,Passphrase\nalice@example.org,A\nBob@example.org,B\n")
    assert words(materials(find(inbox, passwords=table))[0]) == ["B", "A"]
    many = "".join(f"p{n}@example.org,{n}\n" for n in range(100))
    table.write_text("email,password\nbob@example.org,B\n" + many)
    (inbox / "p7.pfx").write_bytes(b"7")
    (inbox / "unknown.pfx").write_bytes(b"x")
    found = {m.source: words(m) for m in materials(find(inbox, passwords=table))}
    assert found == {"bob@example.org-0011AABB.p12": ["B"], "p7.pfx": ["7"], "unknown.pfx": []}


def test_a_blank_around_a_password_is_tried_without_it_last(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    (tmp_path / "p.csv").write_text("file, password\na.pfx, secret \n")
    assert words(materials(find(inbox, passwords=tmp_path / "p.csv"))[0]) == [" secret ", "secret"]


@pytest.mark.parametrize("text", ["", "secret\n", "file,colour\na.pfx,red\n", "password\nx\n"])
def test_a_list_of_passwords_that_says_nothing_is_unusable(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(Unusable) as caught:
        files.open(files.Settings((), tmp_path / "p.csv"))
    assert str(caught.value.where).startswith("p.csv line ")
    assert "secret" not in str(caught.value)


def test_passwords_that_are_not_there_are_unusable(tmp_path: Path) -> None:
    with pytest.raises(Unusable):
        files.open(files.Settings((), tmp_path / "gone"))


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inbox/a.pfx", "a.pfx", "./inbox/../inbox/a.pfx", "inbox\\a.pfx", "C:\\export\\a.pfx", "A.PFX"])
def test_a_row_names_a_file_by_path_or_by_name(inbox: Path, tmp_path: Path, name: str) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    (found,) = materials(find(inbox, people=(person("alice@example.org", file=name),), base=tmp_path))
    assert found.wanted == "alice@example.org"


def test_without_a_source_rows_name_files_beside_the_roster(inbox: Path, tmp_path: Path, alice: Identity) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    (inbox / "b.crt").write_bytes(alice.pem)
    (inbox / "b.key").write_bytes(alice.key_pem())
    zipped(tmp_path / "more.zip", c__pfx=b"c", other__pfx=b"o")
    people = (
        person("a@example.org", file="inbox/a.pfx"),
        person("b@example.org", file="inbox/b.crt"),
        person("c@example.org", file="more.zip/c.pfx"),
        person("d@example.org", file=str(inbox / "b.crt"), key="inbox/b.key"),
    )
    found = materials(find(people=people, base=tmp_path))
    assert [[part.source for part in m.parts] for m in found] == [["a.pfx"], ["b.crt", "b.key"], ["more.zip/c.pfx"], ["b.crt", "b.key"]]


def test_a_member_by_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "archive.zip", member__pfx=b"m", other__pfx=b"o")
    found = materials(find(path, people=(person("a@example.org", file="archive.zip/member.pfx"),), base=tmp_path))
    assert [(m.source, m.wanted) for m in found] == [("archive.zip/member.pfx", "a@example.org"), ("archive.zip/other.pfx", "")]


def test_a_file_that_is_not_there_is_told_with_the_row(tmp_path: Path) -> None:
    (found,) = find(people=(person("a@example.org", file="gone.pfx"),), base=tmp_path)
    assert isinstance(found, Issue)
    assert (found.check, found.source, found.line, found.address) == (Check.NO_CERTIFICATE, "people.csv", 2, "a@example.org")
    assert '"gone.pfx"' in found.message


@pytest.mark.parametrize("field", ["file", "key", "password_file"])
@pytest.mark.parametrize("name", ["../a.pfx", "inbox/../../a.pfx", "..\\a.pfx", "/etc/passwd", "..", "a\0.pfx"])
def test_a_row_cannot_leave_its_folder(inbox: Path, field: str, name: str) -> None:
    row = person("a@example.org", **{"file": "x.pfx", field: name})
    (inbox / "x.pfx").write_bytes(b"x")
    (found,) = (one for one in find(people=(row,), base=inbox) if isinstance(one, Issue))
    assert (found.severity, found.check, found.line, found.address) == (Severity.ERROR, Check.UNSAFE_PATH, 2, "a@example.org")


def test_a_row_cannot_go_through_a_link(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.pfx").write_bytes(b"s")
    (inbox / "link.pfx").symlink_to(tmp_path / "secret.pfx")
    (inbox / "folder").symlink_to(tmp_path)
    for name in ("link.pfx", "folder/secret.pfx"):
        (found,) = find(people=(person("a@example.org", file=name),), base=inbox)
        assert isinstance(found, Issue)
        assert found.check == Check.UNSAFE_PATH


# --- hostile files -------------------------------------------------------------------------------------------------


def test_links_pipes_and_devices_are_not_opened(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.pfx").write_bytes(b"s")
    (inbox / "link.pfx").symlink_to(tmp_path / "secret.pfx")
    os.mkfifo(inbox / "pipe.pfx")
    os.mkfifo(inbox / "pipe.txt")
    assert issues(find(inbox)) == [(Severity.ERROR, Check.UNSAFE_PATH, name) for name in ("link.pfx", "pipe.pfx", "pipe.txt")]


def test_a_pipe_beside_a_file_is_no_password(inbox: Path) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    os.mkfifo(inbox / "a.txt")
    found = find(inbox)
    assert [words(m) for m in found if isinstance(m, Material)] == [[]]


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
        ("strange", [("error", "unsafe-path", f"strange.zip/{n}.pfx") for n in ("up", "abs", "link")]),
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


def test_names_that_are_no_text_are_found(inbox: Path) -> None:
    path = os.path.join(os.fsencode(inbox), b"\xff\xfe.pfx")  # noqa: PTH118  octets
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"a")
    (found,) = materials(find(inbox))
    assert found.source.isprintable()


# --- again ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(inbox: Path) -> Iterator[files.Files]:
    (inbox / "a.pfx").write_bytes(b"a")
    (inbox / "a.txt").write_text("beside")
    zipped(inbox / "more.zip", b__pfx=b"b")
    return files.open(files.Settings((inbox,)))  # type: ignore[return-value]


def locator(material: Material) -> Locator:
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
    fresh = files.open(files.Settings((inbox,)))
    assert [type(fresh.fetch(locator(lost), None)) for lost in (one, member)] == [Issue, Issue]
