"""Files, folders, zips and pairs: everything an admin drops is found, or known to be something else."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.serialization import pkcs7

from distributor.adapters.sources import files
from distributor.errors import InvalidInput
from distributor.model.certificates import Locator, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.limits import Limits
from distributor.model.people import RosterRow
from distributor.model.secret import Secret
from distributor.pki import parse_material
from tests.authority import Authority, Identity, rsa_key
from tests.pki.pki import make
from tests.source_files import find, issues, look, materials, person, words, zipped


def test_a_roster_gives_the_password_of_a_file_that_it_does_not_name(inbox: Path, authority: Authority) -> None:
    (inbox / "1000.pfx").write_bytes(authority.issue("alice@example.org").pfx("word"))
    (material,) = materials(find(inbox, people=(person("alice@example.org", password=Secret("word")),)))
    assert words(material) == ["word"]


def test_everybodys_passwords_are_tried_where_names_tell_nothing(inbox: Path, tmp_path: Path) -> None:
    (inbox / "1000.pfx").write_bytes(b"0")
    rows = "".join(f"p{number}@example.org,w{number}\n" for number in range(60))
    (tmp_path / "words.csv").write_text("email,password\n" + rows, encoding="utf-8")
    (material,) = materials(find(inbox, passwords=tmp_path / "words.csv"))
    assert words(material) == [f"w{number}" for number in range(60)]


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


@pytest.mark.parametrize("slash", ["/", "\\"])
def test_members_of_one_name_in_different_folders_are_told_apart(tmp_path: Path, slash: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for folder in ("sales", "it"):
            archive.writestr(zipfile.ZipInfo(f"export{slash}{folder}{slash}alice.pfx"), folder.encode())
            archive.writestr(zipfile.ZipInfo(f"export{slash}{folder}{slash}alice.txt"), f"word of {folder}".encode())
    found = materials(find(tmp_path / "a.zip"))
    assert [m.source for m in found] == ["a.zip/export/sales/alice.pfx", "a.zip/export/it/alice.pfx"]
    assert [words(m) for m in found] == [["word of sales"], ["word of it"]]
    for name in ("a.zip/export/it/alice.pfx", "it/alice.pfx", "export\\it\\alice.pfx"):
        for paths in ((tmp_path / "a.zip",), ()):
            row = person("alice@example.org", file=name if paths or name[0] == "a" else f"a.zip/export/it/{name[-9:]}")
            named = materials(find(*paths, people=(row,), base=tmp_path))[0]
            assert (named.parts[0].data, named.requested_for) == (b"it", "alice@example.org")


def test_passwords_of_members_of_one_name_are_listed_with_their_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("sales/alice.pfx", b"1")
        archive.writestr(zipfile.ZipInfo("it\\alice.pfx"), b"2")
    (tmp_path / "p.csv").write_text("file,password\na.zip/sales/alice.pfx,one\nit/alice.pfx,two\n")
    found = materials(find(tmp_path / "a.zip", passwords=tmp_path / "p.csv"))
    assert [words(m)[0] for m in found] == ["one", "two"]


def test_a_folder_with_the_name_of_a_certificate_is_told(inbox: Path, tmp_path: Path) -> None:
    (inbox / "x.pfx").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("x.pfx\\"), b"")
        archive.writestr("plain/", b"")
    found = [one for one in find(inbox, tmp_path / "a.zip") if isinstance(one, Issue)]
    assert [(one.severity, one.source) for one in found] == [("note", "x.pfx"), ("note", "a.zip/x.pfx")]
    assert all("it is a folder, although" in one.message for one in found)


def test_pairs_by_stem_in_one_file_and_by_public_key(inbox: Path, alice: Identity, bob: Identity, authority: Authority) -> None:
    carol = authority.issue("carol@example.org", key=rsa_key(2))
    (inbox / "alice.crt").write_bytes(alice.pem)
    (inbox / "alice.key").write_bytes(alice.key_pem())
    (inbox / "both.pem").write_bytes(bob.key_pem() + bob.pem)
    (inbox / "1.cer").write_bytes(carol.der)
    (inbox / "2.key").write_bytes(carol.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption()))
    found = materials(find(inbox))
    assert [[part.source for part in m.parts] for m in found] == [["alice.crt", "alice.key"], ["both.pem"], ["1.cer", "2.key"]]
    assert [c.leaf for m in found for c in parse_material(m, Limits()).identities] == [alice.der, bob.der, carol.der]


def test_pairs_with_encrypted_keys_find_each_other_by_their_passwords(inbox: Path, alice: Identity, bob: Identity) -> None:
    for name, identity in (("one", alice), ("two", bob)):
        (inbox / f"{name}.crt").write_bytes(identity.pem)
        (inbox / f"key-of-{name}.pem").write_bytes(identity.key_pem("secret"))
        (inbox / f"key-of-{name}.txt").write_text("secret")
    found = materials(find(inbox))
    assert [c.leaf for m in found for c in parse_material(m, Limits()).identities] == [alice.der, bob.der]


def test_pairs_in_a_zip(tmp_path: Path, alice: Identity) -> None:
    path = zipped(tmp_path / "a.zip", alice__crt=alice.pem, alice__key=alice.key_pem("secret"), alice__txt=b"secret\r\n")
    (found,) = materials(find(path))
    assert [c.leaf for c in parse_material(found, Limits()).identities] == [alice.der]


def test_a_certificate_that_comes_in_two_files_belongs_to_one_key(inbox: Path, alice: Identity) -> None:
    (inbox / "1.crt").write_bytes(alice.pem)
    (inbox / "2.p7b").write_bytes(pkcs7.serialize_certificates([*alice.chain, alice.certificate], ser.Encoding.DER))
    (inbox / "3.key").write_bytes(alice.key_pem())
    (found,) = materials(find(inbox))
    assert [part.source for part in found.parts] == ["1.crt", "2.p7b", "3.key"]
    assert [identity.leaf for identity in parse_material(found, Limits()).identities] == [alice.der]


@pytest.mark.parametrize("form", ["der", "pem", "pem-as-certificate"])
@pytest.mark.parametrize("key", ["alice.key", "another.key"])
def test_pkcs7_is_paired_with_its_key(inbox: Path, alice: Identity, form: str, key: str) -> None:
    data = pkcs7.serialize_certificates([*alice.chain, alice.certificate], ser.Encoding.DER if form == "der" else ser.Encoding.PEM)
    (inbox / "alice.p7b").write_bytes(data.replace(b"PKCS7", b"CERTIFICATE") if form.endswith("certificate") else data)
    (inbox / key).write_bytes(alice.key_pem())
    (found,) = materials(find(inbox))
    (identity,) = parse_material(found, Limits()).identities
    assert (alice.der, 2) == (identity.leaf, len(identity.chain))


@pytest.mark.parametrize("name", ["chain.pem", "Intermediate.crt", "bundle.ca-bundle", "chain.p7b"])
@pytest.mark.parametrize("person_file", ["alice.pfx", "alice.pem"])
def test_ca_certificates_beside_a_file_complete_its_chain(inbox: Path, alice: Identity, name: str, person_file: str) -> None:
    above = [one.public_bytes(ser.Encoding.PEM) for one in alice.chain]
    (inbox / name).write_bytes(
        pkcs7.serialize_certificates(list(alice.chain), ser.Encoding.DER) if name.endswith("p7b") else b"".join(above[::-1])
    )
    alone = replace(alice, chain=())
    (inbox / person_file).write_bytes(alone.pfx("word") if person_file.endswith("pfx") else alone.key_pem() + alone.pem)
    (inbox / "alice.txt").write_text("word")
    found = find(inbox)
    (material,) = (one for one in found if isinstance(one, SourceMaterial))
    (identity,) = parse_material(material, Limits()).identities
    assert [one.public_bytes(ser.Encoding.DER) for one in alice.chain] == list(identity.chain)
    assert issues(found) == [("note", "no-key", name)]


def test_ca_certificates_that_did_not_sign_are_not_added(inbox: Path, alice: Identity) -> None:
    stranger = Authority("Stranger")
    forged = make("Example Mail CA")  # the issuer's name, another key
    (inbox / "others.pem").write_bytes(stranger.issuer.public_bytes(ser.Encoding.PEM) + forged.pem)
    (inbox / "alice.pem").write_bytes(alice.key_pem() + alice.pem)
    (material,) = (one for one in find(inbox) if isinstance(one, SourceMaterial))
    assert [identity.chain for identity in parse_material(material, Limits()).identities] == [()]


def test_a_pfx_under_another_name_is_recognised(inbox: Path, alice: Identity) -> None:
    (inbox / "alice.bin").write_bytes(alice.pfx())
    (inbox / "alice").write_bytes(alice.key_pem() + alice.pem)
    assert sorted(m.form for m in materials(find(inbox))) == ["pem", "pkcs12"]


def test_the_workspaces_own_key_is_no_certificate(inbox: Path) -> None:
    (inbox / "vault.key").write_bytes(b"AGE-SECRET-KEY-1")
    assert find(inbox, ignore=(inbox / "vault.key",)) == []


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
    assert [m.source for m in found if isinstance(m, SourceMaterial)] == ["a.pfx"]


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
    assert found.requested_for == "alice@example.org"


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
    many = "".join(f"p{n}@example.org,{n}\n" for n in range(600))
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
    with pytest.raises(InvalidInput) as caught:
        files.open(files.Settings((), tmp_path / "p.csv"), look)
    assert str(caught.value.where).startswith("p.csv line ")
    assert "secret" not in str(caught.value)


def test_passwords_that_are_not_there_are_unusable(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        files.open(files.Settings((), tmp_path / "gone"), look)


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inbox/a.pfx", "a.pfx", "./inbox/../inbox/a.pfx", "inbox\\a.pfx", "C:\\export\\a.pfx", "A.PFX"])
def test_a_row_names_a_file_by_path_or_by_name(inbox: Path, tmp_path: Path, name: str) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    (found,) = materials(find(inbox, people=(person("alice@example.org", file=name),), base=tmp_path))
    assert found.requested_for == "alice@example.org"


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
    assert [(m.source, m.requested_for) for m in found] == [("archive.zip/member.pfx", "a@example.org"), ("archive.zip/other.pfx", "")]


def test_a_file_that_is_not_there_is_told_with_the_row(tmp_path: Path) -> None:
    (found,) = find(people=(person("a@example.org", file="gone.pfx"),), base=tmp_path)
    assert isinstance(found, Issue)
    assert (found.check, found.source, found.line, found.address) == (CheckId.NO_CERTIFICATE, "people.csv", 2, "a@example.org")
    assert '"gone.pfx"' in found.message


@pytest.mark.parametrize("field", ["file", "key", "password_file"])
@pytest.mark.parametrize("name", ["../a.pfx", "inbox/../../a.pfx", "..\\a.pfx", "/etc/passwd", "..", "a\0.pfx"])
def test_a_row_cannot_leave_its_folder(inbox: Path, field: str, name: str) -> None:
    row = person("a@example.org", **{"file": "x.pfx", field: name})
    (inbox / "x.pfx").write_bytes(b"x")
    (found,) = (one for one in find(people=(row,), base=inbox) if isinstance(one, Issue))
    assert (found.severity, found.check, found.line, found.address) == (Severity.ERROR, CheckId.UNSAFE_PATH, 2, "a@example.org")


@pytest.mark.parametrize("field", ["file", "key", "certificate", "password_file"])
def test_a_row_cannot_go_through_a_link(inbox: Path, tmp_path: Path, field: str) -> None:
    (tmp_path / "secret.pfx").write_bytes(b"hunter2")
    (inbox / "x.pfx").write_bytes(b"x")
    (inbox / "link.pfx").symlink_to(tmp_path / "secret.pfx")
    (inbox / "folder").symlink_to(tmp_path)
    for name in ("link.pfx", "folder/secret.pfx"):
        names = {"file": name} if field == "certificate" else {"file": "x.pfx", field: name}  # the roster's reader makes one of the two
        (found,) = find(people=(person("a@example.org", **names),), base=inbox)
        assert isinstance(found, Issue)
        assert found.check == CheckId.UNSAFE_PATH


def test_an_unsafe_password_file_in_one_row_costs_only_that_row(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.pfx").write_bytes(b"a")
    (inbox / "b.pfx").write_bytes(b"b")
    first = person("a@example.org", file="a.pfx")
    both = replace(first, more_rows=(RosterRow("people.csv", 3, file="b.pfx", password_file="../b.txt"),))
    found = find(inbox, people=(both,), base=tmp_path)
    assert [(one.check, one.line) for one in found if isinstance(one, Issue)] == [(CheckId.UNSAFE_PATH, 3)]
    assert [one.source for one in found if isinstance(one, SourceMaterial)] == ["a.pfx"]


def test_a_password_that_cannot_be_read_is_noted_before_its_file(inbox: Path, tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", a__pfx=b"a")
    (inbox / "b.pfx").write_bytes(b"b")
    (tmp_path / "passwords" / "b.txt").mkdir(parents=True)
    note, member, file = sorted(
        find(tmp_path / "a.zip", inbox, passwords=tmp_path / "passwords"), key=lambda one: isinstance(one, SourceMaterial)
    )
    assert isinstance(note, Issue)
    assert (note.severity, note.check, note.source) == ("note", CheckId.WRONG_PASSWORD, "b.pfx")
    assert [one.source for one in (member, file) if isinstance(one, SourceMaterial)] == ["a.zip/a.pfx", "b.pfx"]


def test_a_password_that_became_unreadable_is_told_when_the_file_is_fetched_again(inbox: Path, alice: Identity) -> None:
    (inbox / "a.pfx").write_bytes(alice.pfx())
    (inbox / "a.txt").write_text("in-comes-a-file")
    source = files.open(files.Settings((inbox,)), look)
    (found,) = (one for one in source.finds({}) if isinstance(one, SourceMaterial))
    (inbox / "a.txt").unlink()
    (inbox / "a.txt").mkdir()
    part = found.parts[0]
    issue = source.fetch(Locator(found.form, ((part.path, part.member, part.sha256),)), None)
    assert isinstance(issue, Issue)
    assert (issue.severity, issue.source) == ("error", "a.pfx")
    assert 'its password file "a.txt" cannot be read' in issue.message
