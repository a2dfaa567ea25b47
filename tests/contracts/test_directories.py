"""Every directory keeps the promises of model.certificates.PublicDirectory. A new kind is found in the registry and needs its server."""

from __future__ import annotations

import base64
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from distributor.adapters import REGISTRY
from distributor.adapters.directories import folder, ldap
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.certificates import PublicationRequest, PublicationResult, PublicDirectory
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.doubles.slapd import ADMIN, BASE, PASSWORD, WRITER, WRITES, Slapd, slapd
from tests.needs import require

KINDS = sorted(REGISTRY["directories"])
NOW = datetime.now(UTC)
ALICE, BOB = Address("alice", "example.org"), Address("bob", "example.org")
USER = "userCertificate;binary"


@dataclass
class DirectoryCase:
    """A directory of one kind, one that cannot work, and who looks into the good one with other eyes."""

    directory: PublicDirectory
    broken: PublicDirectory
    read: Callable[[Address], list[bytes]]


@contextmanager
def _folder(place: Path, server: Slapd) -> Iterator[DirectoryCase]:
    del server
    (place / "file").write_text("not a folder", encoding="utf-8")

    def read(address: Address) -> list[bytes]:
        path = place / "public" / f"{address}.cer"
        return [path.read_bytes()] if path.exists() else []

    yield DirectoryCase(folder.open(folder.Settings(place / "public")), folder.open(folder.Settings(place / "file" / "below")), read)


@contextmanager
def _ldap(place: Path, server: Slapd) -> Iterator[DirectoryCase]:
    del place
    names = [server.add(str(address).partition("@")[0], "inetOrgPerson", mail=str(address)) for address in (ALICE, BOB)]
    good, broken = opened(server), opened(server, password=Secret("wrong"))
    yield DirectoryCase(good, broken, lambda address: server.read(f"uid={address.local},ou=people,{BASE}").get(USER, []))
    for name in names:
        server.run("ldapdelete", name)


SERVERS: dict[str, Callable[[Path, Slapd], AbstractContextManager[DirectoryCase]]] = {"folder": _folder, "ldap": _ldap}


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    with slapd() as running:
        yield running


OPEN: list[ldap.LdapDirectory] = []  # what a test opened


@pytest.fixture(autouse=True)
def _trusted(server: Slapd, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path, server: Slapd) -> Iterator[DirectoryCase]:
    if request.param not in SERVERS:
        pytest.fail(f"{request.param} has no server in {__file__}")
    with SERVERS[request.param](tmp_path, server) as made:
        yield made


def opened(server: Slapd, key: str = "directories[0]", **changes: Any) -> ldap.LdapDirectory:  # noqa: ANN401  settings
    settings = ldap.Settings(server.url, f"ou=people,{BASE}", WRITER, Secret(WRITES))
    OPEN.append(ldap.open(replace(settings, **changes), key))
    return OPEN[-1]


def public(address: Address, leaf: bytes | None, *gone: bytes, name: str = "") -> PublicationRequest:
    return PublicationRequest(address, name, leaf, frozenset(sha256(der).hexdigest() for der in gone))


# --- what every directory promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_settings_and_open(kind: str) -> None:
    module = import_module(REGISTRY["directories"][kind])
    assert module.Settings.__dataclass_params__.frozen
    assert callable(module.open)


def test_exactly_what_was_delivered_is_there_and_twice_is_once(case: DirectoryCase, authority: Authority) -> None:
    leaf = authority.issue(str(ALICE)).der
    first = case.directory.publish(public(ALICE, leaf), NOW)
    again = case.directory.publish(public(ALICE, leaf), NOW)
    assert isinstance(first, PublicationResult)
    assert (first.changed, again) == (True, replace(first, changed=False))
    assert (case.read(ALICE), case.read(BOB)) == ([leaf], [])


def test_a_newer_certificate_takes_the_place_of_one_that_expired(case: DirectoryCase, authority: Authority) -> None:
    old, new = authority.issue(str(ALICE), days=10).der, authority.issue(str(ALICE)).der
    case.directory.publish(public(ALICE, old), NOW)
    case.directory.publish(public(ALICE, new), NOW + timedelta(days=20))
    assert case.read(ALICE) == [new]


def test_a_revoked_certificate_goes_and_anybody_elses_stays(case: DirectoryCase, authority: Authority) -> None:
    revoked, kept = authority.issue(str(ALICE)).der, authority.issue(str(BOB)).der
    case.directory.publish(public(ALICE, revoked), NOW)
    case.directory.publish(public(BOB, kept), NOW)
    done = case.directory.publish(public(ALICE, None, revoked), NOW)
    untouched = case.directory.publish(public(BOB, None, revoked), NOW)
    assert isinstance(done, PublicationResult)
    assert isinstance(untouched, PublicationResult)
    assert (done.changed, untouched.changed) == (True, False)
    assert (case.read(ALICE), case.read(BOB)) == ([], [kept])


def test_its_name_says_where_and_holds_no_secret(case: DirectoryCase) -> None:
    assert case.directory.where
    assert WRITES not in case.directory.where


def test_what_works_for_nobody_is_an_error_with_a_place_and_a_way_out(case: DirectoryCase, authority: Authority) -> None:
    with pytest.raises((InvalidInput, ServiceUnavailable)) as caught:
        case.broken.publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert caught.value.where
    assert caught.value.hint
    case.broken.close()


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_folder_has_pem_der_and_a_vcard_that_everybody_may_read(tmp_path: Path, authority: Authority) -> None:
    identity, place = authority.issue(str(ALICE)), tmp_path / "a" / "b"
    before = os.umask(0o077)
    try:
        folder.open(folder.Settings(place)).publish(public(ALICE, identity.der, name="Alice; Doe, Ä"), NOW)
    finally:
        os.umask(before)
    assert sorted(path.name for path in place.iterdir()) == [f"{ALICE}.cer", f"{ALICE}.pem", f"{ALICE}.vcf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o644}
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    assert (place / f"{ALICE}.pem").read_bytes() == identity.pem
    openssl = [require("openssl"), "x509", "-inform", "DER", "-in", str(place / f"{ALICE}.cer"), "-noout", "-subject"]
    assert b"alice@example.org" in subprocess.run(openssl, check=True, capture_output=True).stdout
    lines = (place / f"{ALICE}.vcf").read_bytes().split(b"\r\n")
    assert max(map(len, lines)) <= 75
    whole = b"\r\n".join(lines).replace(b"\r\n ", b"").decode().split("\r\n")
    key = f"KEY:data:application/pkix-cert;base64,{base64.b64encode(identity.der).decode()}"
    assert whole == ["BEGIN:VCARD", "VERSION:4.0", "FN:Alice\\; Doe\\, Ä", f"EMAIL:{ALICE}", key, "END:VCARD", ""]


def test_a_vcards_lines_are_folded_between_characters() -> None:
    lines = folder.vcard("ä€𝄞" * 40, "a@example.org", b"x").split(b"\r\n")
    assert [line.decode() for line in lines if len(line) > 75] == []
    assert len(lines) > 6


HOSTILE = ["../../etc/passwd", "..", "-rf", "a/b", "a\\b", "nul\0", "ü", "A", "a*b", "x" * 300]


def test_no_address_becomes_a_path_an_option_or_somebody_elses_name() -> None:
    names = [folder.file_name(f"{local}@example.org") for local in HOSTILE]
    assert len(set(names)) == len(names)
    for name in names:
        assert "/" not in name
        assert "\\" not in name
        assert name[0] not in ".-"
        assert name.isascii()
        assert len(name) < 240
    assert folder.file_name("alice+x@example.org") == "alice+x@example.org"


def test_a_link_in_the_folder_is_replaced_and_not_followed(tmp_path: Path, authority: Authority) -> None:
    target, leaf = tmp_path / "target", authority.issue(str(ALICE)).der
    target.write_text("precious", encoding="utf-8")
    place = tmp_path / "public"
    place.mkdir()
    (place / f"{ALICE}.cer").symlink_to(target)
    (place / f".{ALICE}.pem.part").symlink_to(target)
    folder.open(folder.Settings(place)).publish(public(ALICE, leaf), NOW)
    assert target.read_text(encoding="utf-8") == "precious"
    assert (place / f"{ALICE}.cer").read_bytes() == leaf
    assert not (place / f"{ALICE}.cer").is_symlink()


def test_a_link_to_the_very_same_is_no_file_of_ours(tmp_path: Path, authority: Authority) -> None:
    place, leaf = tmp_path / "public", authority.issue(str(ALICE)).der
    case = folder.open(folder.Settings(place))
    case.publish(public(ALICE, leaf), NOW)
    (place / f"{ALICE}.cer").rename(tmp_path / "elsewhere")
    (place / f"{ALICE}.cer").symlink_to(tmp_path / "elsewhere")
    assert case.publish(public(ALICE, leaf), NOW) == PublicationResult(str(ALICE))
    assert not (place / f"{ALICE}.cer").is_symlink()


def test_a_folder_where_a_file_should_be_is_one_persons_misfortune(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / f"{ALICE}.cer").mkdir()
    case = folder.open(folder.Settings(tmp_path))
    done = case.publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert (done.check, done.address) == (CheckId.NOT_PUBLISHED, str(ALICE))
    assert isinstance(case.publish(public(BOB, authority.issue(str(BOB)).der), NOW), PublicationResult)
    assert not list(tmp_path.glob(".*"))


# --- LDAP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def person(server: Slapd) -> Iterator[Callable[..., str]]:
    """Adds entries, and takes them away again."""
    made: list[str] = []

    def add(name: str = "alice", *classes: str, **values: str | bytes | list[bytes]) -> str:
        made.append(server.add(name, *(classes or ("inetOrgPerson",)), **{"mail": f"{name}@example.org", **values}))
        return made[-1]

    yield add
    for dn in made:
        with suppress(AssertionError):  # a test may have taken it away
            server.run("ldapdelete", dn)


def test_a_person_that_cannot_hold_a_certificate_gets_the_object_class(server: Slapd, authority: Authority) -> None:
    dn = server.add("alice", "organizationalPerson", "extensibleObject", mail=str(ALICE))
    leaf = authority.issue(str(ALICE)).der
    try:
        assert isinstance(opened(server).publish(public(ALICE, leaf), NOW), PublicationResult)
        found = server.read(dn)
        assert b"pkiUser" in found["objectClass"]
        assert found[USER] == [leaf]
    finally:
        server.run("ldapdelete", dn)


def test_an_inetorgperson_needs_no_object_class(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn = person()
    opened(server).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert b"pkiUser" not in server.read(dn)["objectClass"]


def test_expired_values_go_whoever_put_them_there_and_valid_ones_stay(
    server: Slapd, person: Callable[..., str], authority: Authority
) -> None:
    expired, valid = authority.issue(str(ALICE), starts=timedelta(days=-300), days=200).der, authority.issue("other@example.org").der
    dn = person(**{USER: [expired, valid]})
    leaf = authority.issue(str(ALICE)).der
    opened(server).publish(public(ALICE, leaf), NOW)
    assert sorted(server.read(dn)[USER]) == sorted([valid, leaf])


def test_more_than_fifteen_values_are_never_written(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    there = [authority.issue(f"p{number}@example.org").der for number in range(15)]
    dn = person(**{USER: there[:14]})
    directory, leaf = opened(server), authority.issue(str(ALICE)).der
    assert isinstance(directory.publish(public(ALICE, there[14]), NOW), PublicationResult)
    done = directory.publish(public(ALICE, leaf), NOW)
    assert isinstance(done, Issue)
    assert (done.check, "15" in done.message) == (CheckId.NOT_PUBLISHED, True)
    assert sorted(server.read(dn)[USER]) == sorted(there)


def test_what_another_writes_at_the_same_time_is_not_lost(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    expired = authority.issue(str(ALICE), starts=timedelta(days=-300), days=200).der
    dn, leaf, theirs = person(**{USER: [expired]}), authority.issue(str(ALICE)).der, authority.issue("other@example.org").der
    directory = opened(server)
    change = directory._client.change  # noqa: SLF001  the moment between reading and writing
    between: list[str] = []

    def late(name: str, changes: Any) -> object:  # noqa: ANN401  the client's own
        if not between:
            value = base64.b64encode(theirs).decode()
            server.change(dn, f"replace: {USER}\n{USER}:: {value}")
            between.append(name)
        return change(name, changes)

    directory._client.change = late  # type: ignore[method-assign]  # noqa: SLF001
    assert isinstance(directory.publish(public(ALICE, leaf), NOW), PublicationResult)
    assert between == [dn]
    assert sorted(server.read(dn)[USER]) == sorted([leaf, theirs])


def test_a_server_that_takes_two_for_the_same_is_told_of_once_tried(
    server: Slapd, person: Callable[..., str], authority: Authority
) -> None:
    """Issuer and serial number are all that slapd compares (certificateExactMatch)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cryptography.x509.random_serial_number", lambda: 4711)
        one, other = authority.issue(str(ALICE)).der, authority.issue(str(ALICE), name="Another").der
    person(**{USER: [one]})
    done = opened(server).publish(public(ALICE, other), NOW)
    assert isinstance(done, Issue)
    assert done.check is CheckId.NOT_PUBLISHED


def test_nobody_and_several_are_issues(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    leaf = authority.issue(str(ALICE)).der
    nobody = opened(server).publish(public(ALICE, leaf), NOW)
    person("alice")
    person("alice2", mail=str(ALICE))
    several = opened(server).publish(public(ALICE, leaf), NOW)
    assert isinstance(nobody, Issue)
    assert isinstance(several, Issue)
    assert (nobody.check, several.check) == (CheckId.NO_PERSON, CheckId.DUPLICATE)
    assert "uid=alice2" in several.message


@pytest.mark.parametrize("local", ["*", "*)(uid=*", "a\\b", "a(b", "a)b", "x*"])
def test_an_address_means_nothing_in_a_filter(server: Slapd, person: Callable[..., str], authority: Authority, local: str) -> None:
    dn = person("xavier", mail="x@example.org")
    done = opened(server).publish(public(Address(local, "example.org"), authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert done.check is CheckId.NO_PERSON
    assert USER not in server.read(dn)


def test_a_filter_of_ones_own_is_asked_with(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn, leaf = person("alice", description="alice@example.org", mail="else@example.org"), authority.issue(str(ALICE)).der
    directory = opened(server, filter="(&(objectClass=inetOrgPerson)(|(mail={address})(description={address})))")
    assert isinstance(directory.publish(public(ALICE, leaf), NOW), PublicationResult)
    assert server.read(dn)[USER] == [leaf]


def test_who_may_not_write_is_told_which_right_is_missing(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn = person()
    done = opened(server, bind=None, password=None).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert done.check is CheckId.NOT_PUBLISHED
    assert "userCertificate" in (done.hint or "")
    assert USER not in server.read(dn)


@pytest.mark.parametrize("rdn", ["cn=M\u00fcller\\, Anna", 'cn=a\\"b\\\\c\\+d', "cn=x\\3dy", "cn=\\ blank\\ "])
def test_an_entry_by_an_odd_name_is_written_to(server: Slapd, authority: Authority, rdn: str) -> None:
    dn, leaf = f"{rdn},ou=people,{BASE}", authority.issue(str(ALICE)).der
    lines = ["objectClass: inetOrgPerson", "sn: x", f"mail: {ALICE}"]
    named = base64.b64encode(dn.encode()).decode()
    server.run("ldapadd", text="\n".join([f"dn:: {named}", *lines, "", ""]))
    try:
        done = opened(server).publish(public(ALICE, leaf), NOW)
        assert isinstance(done, PublicationResult)
        assert done.changed
        assert opened(server).publish(public(ALICE, leaf), NOW) == replace(done, changed=False)
    finally:
        server.run("ldapdelete", dn)


def test_what_outlook_takes_before_it_is_a_warning(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    leaf = authority.issue(str(ALICE)).der
    dn = person(userSMIMECertificate=b"0\x82" + authority.issue(str(ALICE)).der)
    for changed in (True, False):
        done = opened(server).publish(public(ALICE, leaf), NOW)
        assert isinstance(done, PublicationResult)
        assert done.changed is changed
        assert done.warning is not None
        assert (done.warning.severity, "userSMIMECertificate" in done.warning.message) == (Severity.WARNING, True)
    value = base64.b64encode(b"0\x82" + leaf).decode()
    server.change(dn, f"replace: userSMIMECertificate\nuserSMIMECertificate:: {value}")
    assert opened(server).publish(public(ALICE, leaf), NOW) == PublicationResult(dn, changed=False)


def test_active_directory_gets_the_attribute_by_its_plain_name(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    """Slapd refuses what Active Directory wants, and says so; the real one is not to be had here."""
    person()
    done = opened(server, active_directory=True).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert "requires ;binary transfer" in done.message


def test_ldaps_works_as_starttls_does(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    dn, leaf = person(), authority.issue(str(ALICE)).der
    opened(server, url=server.ldaps).publish(public(ALICE, leaf), NOW)
    assert server.read(dn)[USER] == [leaf]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"url": "https://localhost"}, "url"),
        ({"url": "ldap://user:secret@localhost"}, "url"),
        ({"url": "ldap://localhost/dc=example"}, "url"),
        ({"url": "ldap://localhost:99999"}, "url"),
        ({"url": "ldap://ldap.example.org", "starttls": False}, "starttls"),
        ({"starttls": False}, "starttls"),
        ({"base": " "}, "base"),
        ({"bind": None}, "bind"),
        ({"password": None}, "password"),
        ({"filter": "(mail=*)"}, "filter"),
        ({"filter": "mail={address}"}, "filter"),
        ({"filter": "((mail={address})"}, "filter"),
        ({"attribute": "userCertificate;binary"}, "attribute"),
        ({"attribute": "usersmimecertificate"}, "attribute"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(server: Slapd, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        opened(server, **changes)
    assert caught.value.where == f"directories[0].{where}"
    assert caught.value.hint
    assert "secret" not in f"{caught.value}{caught.value.hint}"


def test_no_password_goes_to_a_server_that_is_not_trusted(server: Slapd, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    for url in (server.url, server.ldaps):
        with pytest.raises(ServiceUnavailable, match="not trusted") as caught:
            opened(server, url=url).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
        assert "SSL_CERT_FILE" in (caught.value.hint or "")


def test_a_server_by_another_name_than_its_certificates_is_not_trusted(
    server: Slapd, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, *how, **more: resolve("127.0.0.1", port, *how, **more))
    for url in (server.url, server.ldaps):
        with pytest.raises(ServiceUnavailable, match="not trusted"):
            opened(server, url=url.replace("localhost", "ldap.example.org")).publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)


def test_a_wrong_base_is_told(server: Slapd, authority: Authority) -> None:
    with pytest.raises(InvalidInput) as caught:
        opened(server, base="dc=elsewhere").publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert "`directories[0].base`" in (caught.value.hint or "")


def test_a_foreign_client_finds_what_was_published(server: Slapd, person: Callable[..., str], authority: Authority) -> None:
    person()
    leaf = authority.issue(str(ALICE)).der
    opened(server, bind=ADMIN, password=Secret(PASSWORD)).publish(public(ALICE, leaf), NOW)
    command = [
        require("ldapsearch"),
        "-x",
        "-LLL",
        "-o",
        "ldif-wrap=no",
        "-H",
        f"ldap://127.0.0.1:{server.port}",
        "-b",
        BASE,
        f"mail={ALICE}",
        USER,
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"{USER}:: {base64.b64encode(leaf).decode()}" in output


def test_reading_a_table_loads_nothing_heavy() -> None:
    program = (
        "import sys; from distributor.adapters.directories import folder, ldap\n"
        "ldap.open(ldap.Settings('ldaps://ldap.example.org', 'dc=example'))\n"
        "sys.exit(any(name in sys.modules for name in ('ldap3', 'cryptography', 'asyncio')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
