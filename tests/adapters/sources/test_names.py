"""Files whose names say something else than what is in them, and files that are not needed."""

from __future__ import annotations

from base64 import encodebytes
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser

from distributor.adapters.sources.reader import Reader
from distributor.model.certificates import SourceMaterial
from distributor.model.issues import Issue, Severity
from distributor.model.limits import Limits
from distributor.pki import parse_material
from tests.authority import Identity
from tests.source_files import find, materials, person, words


@pytest.mark.parametrize("name", ["alice.pem", "alice.crt", "alice.key"])
@pytest.mark.parametrize("armoured", [False, True], ids=["DER", "PEM"])
@pytest.mark.parametrize("named", [False, True], ids=["found", "named by a row"])
def test_a_pfx_under_the_name_of_pem_is_opened_as_one_with_the_password_beside_it(
    inbox: Path, alice: Identity, name: str, *, armoured: bool, named: bool
) -> None:
    data = alice.pfx("from the .txt")
    (inbox / name).write_bytes(b"-----BEGIN PKCS12-----\n" + encodebytes(data) + b"-----END PKCS12-----\n" if armoured else data)
    (inbox / "alice.txt").write_text("from the .txt")
    who = (person("alice@example.org", file=name),) if named else ()
    (found,) = materials(find(inbox, people=who, base=inbox))
    assert (found.form, words(found)) == ("pkcs12", ["from the .txt"])
    assert [identity.leaf for identity in parse_material(found, Limits()).identities] == [alice.der]


def test_a_pfx_and_a_certificate_of_one_stem_are_two_files(inbox: Path, alice: Identity, bob: Identity) -> None:
    (inbox / "a.pem").write_bytes(alice.pfx("secret"))
    (inbox / "a.crt").write_bytes(bob.pem)
    (inbox / "a.key").write_bytes(bob.key_pem())
    assert sorted((one.form, len(one.parts)) for one in materials(find(inbox))) == [("pem", 2), ("pkcs12", 1)]


def test_a_pem_file_without_a_key_is_read_once(inbox: Path, alice: Identity, bob: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    (inbox / "one.crt").write_bytes(bob.pem)
    (inbox / "two.key").write_bytes(bob.key_pem())
    (inbox / "Intermediate.crt").write_bytes(alice.chain[0].public_bytes(ser.Encoding.PEM))
    (inbox / "alone.pem").write_bytes(alice.pem)
    read = []
    real = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, entry: read.append(entry.base) or real(self, entry))
    find(inbox)
    assert sorted(read) == sorted(path.name for path in inbox.iterdir())


@pytest.mark.parametrize("name", ["alice.csr", "request.pem", "alice.req", "alice.crl.pem"])
def test_a_request_or_a_public_key_beside_is_skipped_without_an_error(inbox: Path, alice: Identity, name: str) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(alice.certificate.subject).sign(alice.key, hashes.SHA256())
    public = alice.certificate.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    (inbox / "alice.crt").write_bytes(alice.pem)
    (inbox / "alice.key").write_bytes(alice.key_pem())
    (inbox / name).write_bytes(b"text before\n" + request.public_bytes(ser.Encoding.PEM) + public)
    found = find(inbox)
    assert [len(one.parts) for one in found if isinstance(one, SourceMaterial)] == [2]
    (note,) = (one for one in found if isinstance(one, Issue))
    assert (note.severity, note.source) == (Severity.NOTE, name)
    assert note.message == "no certificate and no private key in it: CERTIFICATE REQUEST, PUBLIC KEY"


def test_a_request_that_a_row_names_is_an_error(inbox: Path) -> None:
    (inbox / "alice.csr").write_bytes(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    (found,) = materials(find(inbox, people=(person("alice@example.org", file="alice.csr"),), base=inbox))
    assert parse_material(found, Limits()).identities == ()
