"""What Exchange Online and Outlook would object to, said beforehand."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from distributor.model.certificates import CertificateInfo, ParseProblem
from distributor.model.people import Address, parse_address
from distributor.pki import certificate
from distributor.pki.asn1 import wrap
from distributor.pki.checks import check_certificate, subject_address
from tests.authority import Authority, Identity, rsa_key

ANY = x509.ObjectIdentifier("2.5.29.37.0")
MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION


def facts(identity: Identity) -> CertificateInfo:
    found = certificate.info(identity.der)
    assert isinstance(found, CertificateInfo)
    return found


def address(text: str) -> Address:
    parsed = parse_address(text)
    assert isinstance(parsed, Address)
    return parsed


def objections(identity: Identity, to: str = "alice@example.org", now: datetime | None = None) -> list[tuple[str, str]]:
    issues = check_certificate(facts(identity), address(to), now or datetime.now(UTC))
    assert all(issue.hint for issue in issues)
    return [(issue.severity.value, issue.check.value) for issue in issues]


def test_a_good_one_passes(authority: Authority) -> None:
    assert objections(authority.issue("alice@example.org")) == []


def test_one_of_several_addresses_is_enough(authority: Authority) -> None:
    assert objections(authority.issue("a.example@example.org", "alice@example.org")) == []


@pytest.mark.parametrize(
    ("days", "starts", "expected"),
    [
        (10, -20, [("error", "expired")]),
        (10, 5, [("error", "not-yet-valid")]),
        (20, -1, [("warning", "expires-soon")]),
        (33, -1, []),
    ],
)
def test_time(authority: Authority, days: int, starts: int, expected: list[tuple[str, str]]) -> None:
    assert objections(authority.issue("alice@example.org", days=days, starts=timedelta(days=starts))) == expected


def test_the_borders_of_time(authority: Authority) -> None:
    one = authority.issue("alice@example.org")
    end = facts(one).not_after
    assert objections(one, now=end) == [("error", "expired")]
    assert objections(one, now=end - timedelta(days=30)) == []
    assert objections(one, now=end - timedelta(days=30) + timedelta(seconds=1)) == [("warning", "expires-soon")]
    assert objections(one, now=facts(one).not_before) == []
    assert objections(one, now=facts(one).not_before - timedelta(seconds=1)) == [("error", "not-yet-valid")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bob@example.org"], [("error", "address-mismatch")]),
        (["Alice@example.org"], [("warning", "address-case")]),
        (["ALICE@EXAMPLE.ORG"], [("warning", "address-case")]),
        (["alice@EXAMPLE.org"], []),
        (["alice@example.com"], [("error", "address-mismatch")]),
        ([], [("error", "no-address")]),
        (["alice at example.org"], [("error", "bad-address")]),
        (["=?utf-8?q?alice?=@example.org"], [("error", "bad-address")]),
    ],
)
def test_addresses(authority: Authority, names: list[str], expected: list[tuple[str, str]]) -> None:
    general = [x509.RFC822Name._init_without_validation(name) for name in names]  # noqa: SLF001  authorities write such things
    assert objections(authority.issue(name="Alice", names=general)) == expected


def test_an_address_in_the_subject_alone_is_a_warning(authority: Authority) -> None:
    mail = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "alice@example.org")
    one = authority.issue(name="alice@example.org", subject=[mail])
    assert objections(one) == [("warning", "no-address")]
    assert objections(one, to="bob@example.org") == [("error", "address-mismatch")]
    assert facts(one).subject_addresses == ("alice@example.org", "alice@example.org")
    assert subject_address(facts(one)) == address("alice@example.org")


@pytest.mark.parametrize("name", ["bob@example.org", "bob at example.org", "*@example.org"])
def test_subject_alternative_names_with_another_address_win_over_the_subject(authority: Authority, name: str) -> None:
    mail = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "alice@example.org")
    general = [x509.RFC822Name._init_without_validation(name)]  # noqa: SLF001  authorities write such things
    ((severity, _),) = objections(authority.issue(name="Alice", subject=[mail], names=general))
    assert severity == "error"


def test_a_whole_domain_is_nobodys_address(authority: Authority) -> None:
    gateway = facts(authority.issue("*@example.org"))
    assert getattr(subject_address(gateway), "check", None) == "bad-address"
    assert objections(authority.issue("*@example.org"), to="*@example.org") == [("error", "bad-address")]
    assert objections(authority.issue("*@example.org", "alice@example.org")) == []


def test_an_internationalised_mailbox_counts(authority: Authority) -> None:
    mailbox = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), wrap(0x0C, "zoë@bücher.example".encode()))
    one = authority.issue(name="Zoë", names=[mailbox])
    assert facts(one).addresses == ("zoë@bücher.example",)
    assert objections(one, to="zoë@bücher.example") == []
    assert objections(one, to="zoë@xn--bcher-kva.example") == []


def test_a_principal_name_is_no_address(authority: Authority) -> None:
    upn = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), wrap(0x0C, b"alice@example.org"))
    assert objections(authority.issue(name="Alice", names=[upn])) == [("error", "no-address")]


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([MAIL], []),
        ([MAIL, ExtendedKeyUsageOID.CLIENT_AUTH], []),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], [("error", "not-for-mail")]),
        ([ANY], [("error", "not-for-mail")]),
        ([MAIL, ANY], [("error", "not-for-mail")]),
        ([MAIL, ExtendedKeyUsageOID.SERVER_AUTH], [("error", "not-for-mail")]),
        ([MAIL, ExtendedKeyUsageOID.CODE_SIGNING], [("error", "not-for-mail")]),
        ([MAIL, ExtendedKeyUsageOID.TIME_STAMPING], [("error", "not-for-mail")]),
        (None, [("error", "not-for-mail")]),
    ],
)
def test_extended_key_usage(authority: Authority, uses: Sequence[x509.ObjectIdentifier] | None, expected: list[tuple[str, str]]) -> None:
    assert objections(authority.issue("alice@example.org", extended=uses)) == expected


@pytest.mark.parametrize(
    ("usage", "expected", "usages"),
    [
        (("digital_signature", "key_encipherment"), [], ("sign", "encrypt")),
        (("content_commitment", "key_encipherment"), [], ("sign", "encrypt")),
        (("digital_signature",), [("warning", "key-usage")], ("sign",)),
        (("key_encipherment",), [("warning", "key-usage")], ("encrypt",)),
        (("data_encipherment",), [("error", "key-usage")], ()),
        (("key_agreement", "digital_signature"), [("warning", "key-usage")], ("sign",)),
        (None, [], ("sign", "encrypt")),
    ],
)
def test_key_usage_of_rsa(
    authority: Authority, usage: Sequence[str] | None, expected: list[tuple[str, str]], usages: tuple[str, ...]
) -> None:
    one = authority.issue("alice@example.org", usage=usage)
    assert objections(one) == expected
    assert facts(one).usages == usages


def test_an_elliptic_key_agrees_instead_of_enciphering(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    good = authority.issue("alice@example.org", key=key, usage=("digital_signature", "key_agreement"))
    assert objections(good) == [("warning", "key-type")]
    assert facts(good).key == "ec-p384"
    wrong = authority.issue("alice@example.org", key=key, usage=("digital_signature", "key_encipherment"))
    assert objections(wrong) == [("warning", "key-usage"), ("warning", "key-type")]


def test_keys_that_phones_do_not_install(authority: Authority) -> None:
    edwards = authority.issue("alice@example.org", key=ed25519.Ed25519PrivateKey.generate(), usage=("digital_signature",))  # type: ignore[arg-type]
    assert ("error", "key-type") in objections(edwards)
    koblitz = authority.issue(
        "alice@example.org", key=ec.generate_private_key(ec.SECP256K1()), usage=("digital_signature", "key_agreement")
    )
    assert objections(koblitz) == [("error", "key-type")]


def test_small_keys(authority: Authority) -> None:
    assert objections(authority.issue("alice@example.org", key=rsa_key(7, 1024))) == [("error", "weak-key")]
    assert objections(authority.issue("alice@example.org", key=rsa_key(7, 2052))) == [("error", "weak-key")]


@pytest.mark.parametrize(("last", "name"), [(5, "sha1"), (4, "md5"), (2, "md2")])
def test_old_hashes(authority: Authority, last: int, name: str) -> None:
    sha256 = bytes.fromhex("2a864886f70d01010b")
    der = authority.issue("alice@example.org").der.replace(sha256, sha256[:-1] + bytes([last]))
    found = certificate.info(der)
    assert isinstance(found, CertificateInfo)
    assert found.signature == name
    assert [issue.check for issue in check_certificate(found, address("alice@example.org"), datetime.now(UTC))] == ["weak-signature"]


def test_an_authority_is_nobody(authority: Authority) -> None:
    assert ("error", "is-ca") in objections(authority.issue("alice@example.org", ca=True))


def test_without_a_roster_exactly_one_address_is_wanted(authority: Authority) -> None:
    assert subject_address(facts(authority.issue("alice@example.org"))) == address("alice@example.org")
    assert subject_address(facts(authority.issue("alice@example.org", "ALICE@example.org"))) == address("alice@example.org")
    several = subject_address(facts(authority.issue("alice@example.org", "bob@example.org")))
    assert getattr(several, "check", None) == "several-addresses"
    assert getattr(subject_address(facts(authority.issue())), "check", None) == "no-address"


# --- odd certificates ----------------------------------------------------------------------------------------------


def resigned(authority: Authority, change: tuple[bytes, bytes]) -> bytes:
    """A certificate with other octets of the same length in what is signed; the signature no longer matters here."""
    der = authority.issue("alice@example.org").der
    assert change[0] in der
    return der.replace(change[0], change[1], 1)


def test_a_duplicate_extension_is_told_and_does_no_harm(authority: Authority) -> None:
    usage, constraints = bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13")
    data = resigned(authority, (usage, constraints))
    problem = certificate.info(data)
    assert isinstance(problem, ParseProblem)
    assert "duplicate extension 2.5.29.19" in problem.message


def test_a_negative_serial_is_read(authority: Authority) -> None:
    der = authority.issue("alice@example.org").der
    at = der.index(b"\xa0\x03\x02\x01\x02\x02") + 7
    data = der[:at] + b"\xff" + der[at + 1 :]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = certificate.info(data)
    assert isinstance(found, CertificateInfo | ParseProblem)


@pytest.mark.parametrize("year", [1950, 2049, 2050, 9999])
def test_odd_years_are_read(authority: Authority, year: int) -> None:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.issuer.subject)
        .public_key(rsa_key().public_key())
        .serial_number(1)
        .not_valid_before(datetime(1950, 1, 1))  # noqa: DTZ001  as the library wants it
        .not_valid_after(datetime(year, 12, 31, 23, 59, 59))  # noqa: DTZ001
    )
    one = Identity(rsa_key(), builder.sign(authority.issuer_key, hashes.SHA256()))
    assert facts(one).not_after.year == year
    assert facts(one).not_after.tzinfo is UTC


def test_control_characters_in_a_subject_are_escaped(authority: Authority) -> None:
    assert "\\x1b" in facts(authority.issue("alice@example.org", name="Alice \x1b[2J")).subject


def test_the_public_vectors_raise_nothing() -> None:
    vectors = pytest.importorskip("cryptography_vectors")
    folder = Path(vectors.__file__).parent / "x509"
    seen = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".pem", ".der", ".crt", ".cer"}:
            continue
        data = path.read_bytes()
        for der in _ders(data):
            seen += 1
            if isinstance(found := certificate.info(der), CertificateInfo):
                check_certificate(found, address("alice@example.org"), datetime.now(UTC))
                subject_address(found)
                assert found.sha256 == hashlib.sha256(der).hexdigest()
    assert seen > 100


def _ders(data: bytes) -> list[bytes]:
    if not data.startswith(b"\x30"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return [c.public_bytes(ser.Encoding.DER) for c in x509.load_pem_x509_certificates(data)]
        except (ValueError, x509.InvalidVersion):
            return []
    return [data]
