"""CRLs, and hostile or foreign bytes in chains: what is said of each fault."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from distributor.model.issues import CheckId
from distributor.pki import pem
from distributor.pki.asn1 import Unreadable
from distributor.pki.certificate import unpack
from distributor.pki.validation import ChainValidator, crls
from distributor.pki.validation.path import build_trust_store
from distributor.pki.validation.revocation import DownloadFailed
from distributor.pki.validation.validator import RevocationMode, validate_path
from tests.authority import Identity, rsa_key
from tests.doubles.pki import DAY, point, root, without_chain
from tests.pki.hierarchy import LEAF, NOW, SUB, WEB, Hierarchy, hierarchy
from tests.pki.test_chain_validation import full

# --- revocation ------------------------------------------------------------------------------------------------------


def serial(person: Identity) -> int:
    return person.certificate.serial_number


def test_a_revoked_certificate_is_told_with_day_and_reason() -> None:
    w = hierarchy()
    w.downloads.pages[LEAF] = w.sub.crl((serial(w.person), x509.ReasonFlags.key_compromise), now=NOW)
    (issue,) = w.issues()
    assert issue.check is CheckId.REVOKED
    assert issue.message == f"the certificate was revoked ({NOW - 2 * DAY:%Y-%m-%d}, key compromise)"


def test_a_revoked_authority_is_told_by_its_name() -> None:
    w = hierarchy()
    w.downloads.pages[SUB] = w.root.crl(w.sub.certificate.serial_number)
    (issue,) = w.issues()
    assert issue.check is CheckId.REVOKED
    assert 'the CA "CN=Mail CA"' in issue.message


def test_what_is_on_no_list_of_another_authority_is_not_revoked() -> None:
    w = hierarchy()
    w.downloads.pages[SUB] = w.root.crl(serial(w.person))
    w.downloads.pages[LEAF] = w.sub.crl(serial(w.person) + 1)
    assert w.checks() == []


def test_revocation_is_told_beside_an_untrusted_chain() -> None:
    w = hierarchy()
    w.collection = [root("Other").der]
    w.downloads.pages[LEAF] = w.sub.crl(serial(w.person))
    assert w.checks() == ["chain-untrusted", "revoked"]


def idp(**how: object) -> tuple[x509.ExtensionType, bool]:
    names = dict.fromkeys(("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False)
    given = {"full_name": None, "relative_name": None, "only_some_reasons": None, **names, **how}
    return x509.IssuingDistributionPoint(**given), True  # type: ignore[arg-type]  # they are its own


HOME = [x509.UniformResourceIdentifier(LEAF)]
ELSEWHERE = [x509.UniformResourceIdentifier(f"{WEB}/other.crl")]
SOME = frozenset({x509.ReasonFlags.key_compromise})
Make = Callable[[Hierarchy], bytes | DownloadFailed]
LISTS: dict[str, tuple[Make, str | None, str]] = {
    "good": (lambda w: w.sub.crl(), None, ""),
    "of everybody else": (lambda w: w.sub.crl(1, 2, 3), None, ""),
    "revoked": (lambda w: w.sub.crl(1, serial(w.person)), "revoked", "no reason given"),
    "on hold": (lambda w: w.sub.crl((serial(w.person), x509.ReasonFlags.certificate_hold)), "revoked", "on hold"),
    "stale": (lambda w: w.sub.crl(begins=-9 * DAY), "crl-stale", "was due on"),
    "of the future": (lambda w: w.sub.crl(begins=DAY), "crl-unreachable", "not valid before"),
    "of another issuer": (lambda w: w.root.crl(), "crl-unreachable", 'issued by another CA ("CN=Root")'),
    "forged": (lambda w: w.sub.crl(key=rsa_key()), "crl-unreachable", "forged:"),
    "in another's name": (lambda w: w.root.crl(issuer=w.sub.certificate.subject), "crl-unreachable", ""),
    "gone": (lambda _: DownloadFailed("the server responded with 404"), "crl-unreachable", "the server responded with 404"),
    "garbage": (lambda _: b"<html>no", "crl-unreachable", "not a CRL"),
    "empty": (lambda _: b"", "crl-unreachable", "not a CRL"),
    "a certificate": (lambda w: w.sub.der, "crl-unreachable", "not a CRL"),
    "PEM": (lambda w: x509.load_der_x509_crl(w.sub.crl()).public_bytes(Encoding.PEM), "crl-unreachable", "PEM instead of DER"),
    "trailing bytes": (lambda w: w.sub.crl() + b"\0", "crl-unreachable", "not a CRL"),
    "for people": (lambda w: w.sub.crl(extensions=[idp(only_contains_user_certs=True)]), None, ""),
    "for authorities": (lambda w: w.sub.crl(extensions=[idp(only_contains_ca_certs=True)]), "crl-unreachable", "other kinds"),
    "for attributes": (lambda w: w.sub.crl(extensions=[idp(only_contains_attribute_certs=True)]), "crl-unreachable", "other kinds"),
    "for this place": (lambda w: w.sub.crl(extensions=[idp(full_name=HOME)]), None, ""),
    "for another place": (lambda w: w.sub.crl(extensions=[idp(full_name=ELSEWHERE)]), "crl-unreachable", "different distribution point"),
    "for some reasons": (lambda w: w.sub.crl(extensions=[idp(only_some_reasons=SOME)]), "crl-unreachable", ""),
    "indirect": (lambda w: w.sub.crl(extensions=[idp(indirect_crl=True)]), None, ""),
    "indirect and revoked": (lambda w: w.sub.crl(serial(w.person), extensions=[idp(indirect_crl=True)]), "revoked", ""),
    "changes only": (lambda w: w.sub.crl(extensions=[(x509.DeltaCRLIndicator(1), True)]), "crl-unreachable", "delta CRL"),
    "of a kind unknown": (
        lambda w: w.sub.crl(extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]),
        "crl-unreachable",
        "",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_judged_as_the_library_judges_it(name: str) -> None:
    make, check, words = LISTS[name]
    w = hierarchy()
    w.downloads.pages[LEAF] = make(w)
    found = w.issues()
    assert [str(issue.check) for issue in found] == ([check] if check else [])
    assert all(words in issue.message for issue in found)
    if name != "of the future":  # the library is not asked when a list begins
        opinion = full(w, w.person)
        assert (opinion is None) is (check is None)
        assert opinion is None or (opinion.check is CheckId.REVOKED) is (check == "revoked")


@pytest.mark.parametrize(
    ("how", "check", "words"),
    [
        ({}, "crl-unreachable", "gives no URL for its revocation list (CRL)"),
        ({"crl": "ldap://ldap.example.org/cn=x"}, "crl-unreachable", "gives only a URL by LDAP"),
        ({"crl": ["ldap://ldap.example.org/cn=x", LEAF]}, None, ""),
        ({"crl": [f"{WEB}/gone.crl", LEAF]}, None, ""),
        ({"crl": [f"{WEB}/stale.crl", f"{WEB}/gone.crl"]}, "crl-stale", ""),
        ({"points": [point(LEAF, reasons=SOME)]}, None, ""),
        ({"points": [point(f"{WEB}/some.crl", reasons=SOME)]}, "crl-unreachable", ""),
        ({"points": [point(f"{WEB}/other.crl", issuer=x509.Name([]))]}, "crl-unreachable", ""),
    ],
)
def test_what_a_certificate_says_of_its_lists_counts(how: dict[str, object], check: str | None, words: str) -> None:
    w = hierarchy()
    w.downloads.pages |= {
        f"{WEB}/stale.crl": w.sub.crl(begins=-9 * DAY),
        f"{WEB}/some.crl": w.sub.crl(extensions=[idp(only_some_reasons=SOME)]),
        f"{WEB}/other.crl": w.root.crl(),
    }
    found = w.issues(w.sub.person("b@example.org", **how))
    assert [str(issue.check) for issue in found] == ([check] if check else [])
    assert all(words in issue.message for issue in found)


def freshest(url: str) -> tuple[x509.ExtensionType, bool]:
    return x509.FreshestCRL([point(url)]), False


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (lambda w, n: w.sub.crl(number=n, extensions=[(x509.DeltaCRLIndicator(4), True)]), None),
        (lambda w, n: w.sub.crl(serial(w.person), number=n, extensions=[(x509.DeltaCRLIndicator(4), True)]), "revoked"),
        (lambda w, n: w.sub.crl(begins=-9 * DAY, number=n, extensions=[(x509.DeltaCRLIndicator(4), True)]), "crl-stale"),
        (lambda w, n: w.sub.crl(number=n, key=rsa_key(), extensions=[(x509.DeltaCRLIndicator(4), True)]), "crl-unreachable"),
        (lambda w, n: w.sub.crl(number=n, extensions=[(x509.DeltaCRLIndicator(9), True)]), "crl-unreachable"),
        (lambda w, n: w.sub.crl(number=n), "crl-unreachable"),
        (lambda w, n: w.sub.crl(number=n, extensions=[(x509.DeltaCRLIndicator(4), True), idp(full_name=HOME)]), "crl-unreachable"),
        (lambda _, __: DownloadFailed("the server responded with 404"), "crl-unreachable"),
    ],
)
def test_a_list_of_changes_counts_with_the_list_it_belongs_to(
    make: Callable[[Hierarchy, int], bytes | DownloadFailed], check: str | None
) -> None:
    w = hierarchy()
    w.downloads.pages |= {LEAF: w.sub.crl(number=5, extensions=[freshest(f"{WEB}/delta.crl")]), f"{WEB}/delta.crl": make(w, 7)}
    assert w.checks() == ([check] if check else [])


def test_what_was_taken_off_a_list_is_good_again() -> None:
    w = hierarchy()
    held = (serial(w.person), x509.ReasonFlags.certificate_hold)
    back = (serial(w.person), x509.ReasonFlags.remove_from_crl)
    w.downloads.pages |= {
        LEAF: w.sub.crl(held, number=5, extensions=[freshest(f"{WEB}/delta.crl")]),
        f"{WEB}/delta.crl": w.sub.crl(back, number=6, extensions=[(x509.DeltaCRLIndicator(5), True)]),
    }
    assert w.checks() == []


def test_lists_that_take_longer_than_exchange_waits_are_out_of_reach() -> None:
    w = hierarchy()
    w.downloads.seconds = 6.0
    (issue,) = w.issues()
    assert issue.message == "the CRLs of its chain take 12.0 s to download; Exchange Online waits 10 s for all of them"


def test_offline_only_what_needs_no_network_is_said() -> None:
    w = hierarchy(person=None)
    assert w.checks(offline=True) == []
    assert w.checks(without_chain(w.person), offline=True) == ["chain-incomplete"]
    assert w.checks(without_chain(w.sub.person("b@example.org", aia=f"{WEB}/sub.cer")), offline=True) == []
    w.collection = [root("Other").der]
    assert w.checks(offline=True) == ["chain-untrusted"]
    assert w.downloads.asked == {}


# --- hostile and foreign bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["leaf", "list"])
def test_no_flipped_bit_passes(what: str) -> None:
    w = hierarchy()
    good = w.person.der if what == "leaf" else w.sub.crl()
    end = len(good) - 80  # behind it the signature begins, the bits of which OpenSSL answers for
    for place in range(0, end, 3):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        w.downloads.pages[LEAF] = bytes(data) if what == "list" else w.sub.crl()
        assert w.chains().validate(bytes(data) if what == "leaf" else w.person.der, [w.sub.der]).issues, place


VECTORS = Path(cryptography_vectors.__file__).parent / "x509"


def _files(*endings: str) -> list[Path]:
    return sorted(path for path in VECTORS.rglob("*") if path.suffix in endings)


def _octets(path: Path) -> list[bytes]:
    try:
        return [block.der for block in pem.blocks(path.read_bytes()) if block.is_certificate]
    except Unreadable:
        return []


def test_certificates_of_every_kind_are_judged_without_a_crash() -> None:
    w = hierarchy()
    chains = w.chains()
    every = [octets for path in _files(".pem", ".crt", ".der", ".cer") for octets in _octets(path)]
    for octets in every:
        chains.validate(octets, every[:3])
        ChainValidator(build_trust_store([octets], NOW), w.downloads, NOW).validate(w.person.der, [octets, w.sub.der])
        validate_path(octets, [w.root.der], [octets], [], NOW, RevocationMode.PATH_ONLY)
        unpack(octets)
    assert len(every) > 300


def test_lists_of_every_kind_are_read_without_a_crash() -> None:
    w = hierarchy()
    readable = 0
    for path in _files(".crl", ".pem", ".der"):
        data = path.read_bytes()
        with suppress(ValueError, x509.InvalidVersion):  # else as it lies there
            data = x509.load_pem_x509_crl(data).public_bytes(Encoding.DER)
        w.downloads.pages[LEAF] = data
        readable += isinstance(crls.read(data), crls.Crl)
        assert w.checks() == ["crl-unreachable"], path
    assert readable > 150
