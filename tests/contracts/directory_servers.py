"""A public directory of each kind with a server for it, and one that cannot work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from distributor.adapters import REGISTRY
from distributor.adapters.directories import folder, ldap
from distributor.model.certificates import PublicationRequest, PublicDirectory
from distributor.model.people import Address
from distributor.model.secret import Secret
from tests.doubles.slapd import BASE, WRITER, WRITES, Slapd, slapd

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

    yield DirectoryCase(
        folder.open(folder.Settings(place / "public"), "directories[0]"),
        folder.open(folder.Settings(place / "file" / "below"), "directories[0]"),
        read,
    )


@contextmanager
def _ldap(place: Path, server: Slapd) -> Iterator[DirectoryCase]:
    del place
    names = [server.add(str(address).partition("@")[0], "inetOrgPerson", mail=str(address)) for address in (ALICE, BOB)]
    good, broken = opened(server), opened(server, password=Secret("wrong"))
    yield DirectoryCase(good, broken, lambda address: server.read(f"uid={address.local},ou=people,{BASE}").get(USER, []))
    for name in names:
        server.run("ldapdelete", name)


SERVERS: dict[str, Callable[[Path, Slapd], AbstractContextManager[DirectoryCase]]] = {"folder": _folder, "ldap": _ldap}
OPEN: list[ldap.LdapDirectory] = []  # what a test opened


def opened(server: Slapd, key: str = "directories[0]", **changes: Any) -> ldap.LdapDirectory:  # noqa: ANN401  settings
    settings = ldap.Settings(server.url, f"ou=people,{BASE}", WRITER, Secret(WRITES))
    OPEN.append(ldap.open(replace(settings, **changes), key))
    return OPEN[-1]


def public(address: Address, leaf: bytes | None, *gone: bytes, name: str = "") -> PublicationRequest:
    return PublicationRequest(address, name, leaf, frozenset(sha256(der).hexdigest() for der in gone))


@pytest.fixture(scope="module")
def server() -> Iterator[Slapd]:
    with slapd() as running:
        yield running


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path, server: Slapd) -> Iterator[DirectoryCase]:
    if request.param not in SERVERS:
        pytest.fail(f"{request.param} has no server in {__file__}")
    with SERVERS[request.param](tmp_path, server) as made:
        yield made


@pytest.fixture(autouse=True)
def _trusted(server: Slapd, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    yield
    while OPEN:
        OPEN.pop().close()
