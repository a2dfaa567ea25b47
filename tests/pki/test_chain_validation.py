"""Chains and CRLs: what is said of each fault, and that it is what a full validation by pyhanko-certvalidator and cryptography say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import verification

from distributor.model.issues import CheckId, Issue
from distributor.pki import pem
from distributor.pki.chain_certificate import read, unpack
from distributor.pki.pbe import Unsupported
from distributor.pki.validation import ChainValidator, crls
from distributor.pki.validation.path import MOST_ABOVE, IssuerStore, build_trust_store, find_issuers
from distributor.pki.validation.revocation import DownloadFailed
from distributor.pki.validation.validator import RevocationMode, validate_path
from tests.authority import Identity, rsa_key
from tests.doubles.pki import CA, DAY, certificate, der, ec_key, point, root, without_chain
from tests.pki.hierarchy import LEAF, NOW, SUB, WEB, Downloads, Hierarchy, hierarchy


def test_a_chain_in_order_has_nothing_against_it() -> None:
    assert hierarchy().issues() == []


def test_ten_thousand_certificates_of_an_authority_cost_one_list() -> None:
    w = hierarchy()
    people = [w.sub.person(f"{n}@example.org", crl=LEAF, key=rsa_key()) for n in range(20)]
    chains = w.chains()
    assert [chains.validate(one.der, [w.sub.der]) for one in people] == [[]] * 20
    assert set(w.downloads.asked) == {LEAF, SUB}


# --- the chain ---------------------------------------------------------------------------------------------------------


def test_an_issuer_comes_from_the_file_the_collection_or_the_web() -> None:
    w = hierarchy()
    bare = without_chain(w.person)
    assert w.checks(bare) == ["chain-incomplete"]
    w.collection = [w.root.der, w.sub.der]
    assert w.checks(bare) == []
    w.collection = [w.root.der]
    for page in (w.sub.der, pkcs7.serialize_certificates([w.root.certificate, w.sub.certificate], Encoding.DER)):
        w.downloads.pages[f"{WEB}/sub.cer"] = page
        assert w.checks(without_chain(w.sub.person("b@example.org", crl=LEAF, aia=f"{WEB}/sub.cer"))) == []


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (DownloadFailed("the server answers 404"), "the server answers 404"),
        (b"<html>", "it contains no certificate"),
        (root("Other").der, "not in it"),
    ],
)
def test_an_issuer_that_is_nowhere_is_named_with_the_places(page: bytes | DownloadFailed, words: str) -> None:
    w = hierarchy()
    w.downloads.pages[f"{WEB}/sub.cer"] = page
    person = without_chain(w.sub.person("b@example.org", crl=LEAF, aia=[f"{WEB}/sub.cer", "ldap://x/"]))
    (issue,) = w.issues(person)
    assert issue.check is CheckId.CHAIN_INCOMPLETE
    assert '"CN=Mail CA"' in issue.message
    assert "in the file or in the collection" in issue.message
    assert f'"{WEB}/sub.cer" ({words}' in issue.message or words in issue.message


def test_an_issuer_two_steps_up_is_fetched_too() -> None:
    top = root()
    middle = top.sub("Middle", crl=f"{WEB}/middle.crl")
    sub = middle.sub("Mail CA", crl=SUB, aia=f"{WEB}/middle.cer")
    w = hierarchy(top, sub, without_chain(sub.person("a@example.org", crl=LEAF, aia=f"{WEB}/sub.cer")))
    w.downloads.pages |= {f"{WEB}/middle.crl": top.crl(), SUB: middle.crl(), f"{WEB}/middle.cer": middle.der, f"{WEB}/sub.cer": sub.der}
    assert w.checks() == []
    del w.downloads.pages[f"{WEB}/middle.cer"]
    (issue,) = w.issues()
    assert '"CN=Middle"' in issue.message


def test_a_root_that_is_not_in_the_collection_is_named() -> None:
    w = hierarchy()
    w.collection = [root("Other").der]
    (issue,) = w.issues()
    assert (issue.check, issue.hint) == (
        CheckId.CHAIN_UNTRUSTED,
        "put it into the collection, and the collection into the tenant: `distributor trust export`",
    )
    assert '"CN=Root"' in issue.message


def test_a_certificate_signed_by_itself_is_untrusted_unless_it_is_collected() -> None:
    key = rsa_key()
    own = Identity(key, certificate("a@example.org", key, None, addresses=("a@example.org",)))
    w = hierarchy()
    assert w.checks(own) == ["chain-untrusted"]
    w.collection = [own.der]
    assert w.checks(own) == []


def test_an_authority_of_the_same_name_with_another_key_is_no_issuer() -> None:
    w = hierarchy()
    impostor = CA(ec_key(), w.sub.certificate)
    forged = Identity(
        rsa_key(),
        certificate("b@example.org", rsa_key(), w.sub, addresses=("b@example.org",), crl=LEAF, signing_key=impostor.key),
        w.sub.chain,
    )
    (issue,) = w.issues(forged)
    assert issue.check is CheckId.CHAIN_UNTRUSTED
    assert "the signature of the certificate is not that of its issuer" in issue.message
    chains = w.chains()  # and not either where the issuer is known to be good
    assert chains.validate(w.person.der, [w.sub.der]) == []
    assert [issue.check for issue in chains.validate(forged.der, [w.sub.der])] == [CheckId.CHAIN_UNTRUSTED]


Spoil = Callable[[CA], tuple[CA, Identity]]


def _below(sub: CA) -> tuple[CA, Identity]:
    return sub, sub.person("a@example.org", crl=LEAF)


def _expired(top: CA) -> tuple[CA, Identity]:
    return _below(top.sub("Mail CA", crl=SUB, lasts=DAY))


def _too_long(top: CA) -> tuple[CA, Identity]:
    middle = top.sub("Mail CA", crl=SUB, path_length=0)
    lower = middle.sub("Lower", crl=LEAF)
    return lower, lower.person("a@example.org", crl=f"{WEB}/lower.crl")


def _not_named(top: CA) -> tuple[CA, Identity]:
    names = x509.NameConstraints([x509.RFC822Name("example.com")], None)
    return _below(top.sub("Mail CA", crl=SUB, extensions=[(names, True)]))


def _named(top: CA) -> tuple[CA, Identity]:
    names = x509.NameConstraints([x509.RFC822Name("example.org")], None)
    return _below(top.sub("Mail CA", crl=SUB, extensions=[(names, True)]))


def _unknown(top: CA) -> tuple[CA, Identity]:
    sub = top.sub("Mail CA", crl=SUB)
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    return sub, sub.person("a@example.org", crl=LEAF, extensions=[(odd, True)])


def _no_policy(top: CA) -> tuple[CA, Identity]:
    return _below(top.sub("Mail CA", crl=SUB, extensions=[(x509.PolicyConstraints(0, None), True)]))


def _future(top: CA) -> tuple[CA, Identity]:
    return _below(top.sub("Mail CA", crl=SUB, starts=10 * DAY))


def _may_not_sign(top: CA) -> tuple[CA, Identity]:
    return _below(top.sub("Mail CA", crl=SUB, usage=("digital_signature", "crl_sign")))


def _forged_authority(top: CA) -> tuple[CA, Identity]:
    return _below(top.sub("Mail CA", crl=SUB, signing_key=ec_key()))


PATHS: dict[str, tuple[Spoil, bool]] = {
    "plain": (lambda top: _below(top.sub("Mail CA", crl=SUB)), True),
    "an authority that has expired": (_expired, False),
    "an authority of the future": (_future, False),
    "a path that is too long": (_too_long, False),
    "a name that is not permitted": (_not_named, False),
    "a name that is permitted": (_named, True),
    "a critical extension that nobody knows": (_unknown, False),
    "no policy where one is demanded": (_no_policy, False),
    "an authority that may not sign certificates": (_may_not_sign, False),
    "an authority whose own certificate is forged": (_forged_authority, False),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_judged_as_the_library_and_as_cryptography_judge_it(name: str) -> None:
    spoil, good = PATHS[name]
    top = root()
    sub, person = spoil(top)
    w = hierarchy(top, sub, person)
    w.downloads.pages |= {f"{WEB}/lower.crl": sub.crl(), LEAF: (sub.above[0] if sub.above[0] is not top else sub).crl()}
    found = w.checks()
    assert found == ([] if good else ["chain-untrusted"])
    assert (full(w, person) is None) is good
    assert by_cryptography(w, person) is good


def full(w: Hierarchy, person: Identity) -> Issue | None:
    """What pyhanko-certvalidator says of it all at once, hard-fail, with all CRLs."""
    lists = [page for page in w.downloads.pages.values() if isinstance(page, bytes) and not isinstance(crls.read(page), crls.CrlError)]
    return validate_path(person.der, w.collection, [der(one) for one in person.chain], lists, NOW, RevocationMode.CRLS)


def by_cryptography(w: Hierarchy, person: Identity) -> bool:
    """Whether cryptography's verifier finds a path; it knows no CRLs and no policies."""
    ee = verification.ExtensionPolicy.permit_all()
    ca = (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _signs)
        .may_be_present(x509.PolicyConstraints, verification.Criticality.AGNOSTIC, _no_policies)
    )
    builder = (
        verification.PolicyBuilder().store(verification.Store([x509.load_der_x509_certificate(one) for one in w.collection])).time(NOW)
    )
    verifier = builder.extension_policies(ca_policy=ca, ee_policy=ee).build_client_verifier()
    try:
        verifier.verify(person.certificate, list(person.chain))
    except verification.VerificationError:
        return False
    return True


def _signs(_: verification.Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("not an authority")


def _no_policies(_: verification.Policy, __: x509.Certificate, constraints: x509.PolicyConstraints | None) -> None:
    if constraints is not None:
        raise ValueError("no policies in this test")


def test_an_expired_root_is_no_anchor_and_a_renewed_one_is() -> None:
    key = ec_key()
    old, new = root("Root", key, starts=-100 * DAY, lasts=50 * DAY), root("Root", key)
    w = hierarchy(old)
    assert w.checks() == ["chain-untrusted"]
    assert "expired on" in w.issues()[0].message
    w.collection = [old.der, new.der]
    assert w.checks() == []


def test_a_root_binds_those_below_it() -> None:
    top = root("Root", extensions=[(x509.NameConstraints(None, [x509.RFC822Name("example.org")]), True)])
    assert hierarchy(top).checks() == ["chain-untrusted"]
    short = root("Root", path_length=0)
    assert hierarchy(short).checks() == ["chain-untrusted"]


def test_a_cross_signed_authority_is_good_if_one_of_its_paths_is() -> None:
    old, new = root("Old", starts=-100 * DAY, lasts=50 * DAY), root("New")
    sub = old.sub("Mail CA", crl=SUB)
    again = sub.again(new, crl=f"{WEB}/new.crl")
    person = sub.person("a@example.org", crl=LEAF)
    w = Hierarchy(
        old, sub, person, Downloads({SUB: old.crl(), f"{WEB}/new.crl": new.crl(), LEAF: sub.crl()}), [old.der, new.der, again.der]
    )
    assert w.checks() == []
    w.downloads.pages[f"{WEB}/new.crl"] = new.crl(again.certificate.serial_number)
    assert set(w.checks()) <= {"chain-untrusted", "revoked"}
    assert w.checks() != []


def test_a_maze_of_certificates_costs_little() -> None:
    """Forty authorities that all certify each other lead nowhere."""
    keys = [ec_key() for _ in range(12)]
    cas = [root(f"R{n}", key) for n, key in enumerate(keys)]
    maze = [CA(a.key, a.certificate).again(b) for a in cas for b in cas if a is not b]
    person = cas[0].person("a@example.org", crl=LEAF)
    w = hierarchy()
    before = datetime.now(UTC)
    found = w.chains().validate(person.der, [one.der for one in maze])
    assert [issue.check for issue in found] in ([CheckId.CHAIN_INCOMPLETE], [CheckId.CHAIN_UNTRUSTED])
    leaf = read(person.der)
    assert leaf is not None
    assert len(find_issuers(leaf, IssuerStore(build_trust_store([], NOW), [one.der for one in maze])).seen) <= MOST_ABOVE + 1
    assert datetime.now(UTC) - before < timedelta(seconds=5)


# --- revocation --------------------------------------------------------------------------------------------------------


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
    assert 'the authority "CN=Mail CA"' in issue.message


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
    "revoked": (lambda w: w.sub.crl(1, serial(w.person)), "revoked", "no reason is given"),
    "on hold": (lambda w: w.sub.crl((serial(w.person), x509.ReasonFlags.certificate_hold)), "revoked", "on hold"),
    "stale": (lambda w: w.sub.crl(begins=-9 * DAY), "crl-stale", "was due on"),
    "of the future": (lambda w: w.sub.crl(begins=DAY), "crl-unreachable", "it is not valid before"),
    "of another issuer": (lambda w: w.root.crl(), "crl-unreachable", 'it is of another issuer ("CN=Root")'),
    "forged": (lambda w: w.sub.crl(key=rsa_key()), "crl-unreachable", "it is forged"),
    "in another's name": (lambda w: w.root.crl(issuer=w.sub.certificate.subject), "crl-unreachable", ""),
    "gone": (lambda _: DownloadFailed("the server answers 404"), "crl-unreachable", "the server answers 404"),
    "garbage": (lambda _: b"<html>no", "crl-unreachable", "it is not a CRL"),
    "empty": (lambda _: b"", "crl-unreachable", "it is not a CRL"),
    "a certificate": (lambda w: w.sub.der, "crl-unreachable", "it is not a CRL"),
    "PEM": (lambda w: x509.load_der_x509_crl(w.sub.crl()).public_bytes(Encoding.PEM), "crl-unreachable", "it is PEM"),
    "trailing bytes": (lambda w: w.sub.crl() + b"\0", "crl-unreachable", "it is not a CRL"),
    "for people": (lambda w: w.sub.crl(extensions=[idp(only_contains_user_certs=True)]), None, ""),
    "for authorities": (lambda w: w.sub.crl(extensions=[idp(only_contains_ca_certs=True)]), "crl-unreachable", "other kinds"),
    "for attributes": (lambda w: w.sub.crl(extensions=[idp(only_contains_attribute_certs=True)]), "crl-unreachable", "other kinds"),
    "for this place": (lambda w: w.sub.crl(extensions=[idp(full_name=HOME)]), None, ""),
    "for another place": (lambda w: w.sub.crl(extensions=[idp(full_name=ELSEWHERE)]), "crl-unreachable", "another distribution point"),
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
        ({}, "crl-unreachable", "names no CRL"),
        ({"crl": "ldap://ldap.example.org/cn=x"}, "crl-unreachable", "by LDAP only"),
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
        (lambda _, __: DownloadFailed("the server answers 404"), "crl-unreachable"),
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
    assert issue.message == "the CRLs of its chain take 12.0 s to fetch; Exchange Online waits 10 s for all of them"


def test_offline_only_what_needs_no_network_is_said() -> None:
    w = hierarchy(person=None)
    assert w.checks(offline=True) == []
    assert w.checks(without_chain(w.person), offline=True) == ["chain-incomplete"]
    assert w.checks(without_chain(w.sub.person("b@example.org", aia=f"{WEB}/sub.cer")), offline=True) == []
    w.collection = [root("Other").der]
    assert w.checks(offline=True) == ["chain-untrusted"]
    assert w.downloads.asked == {}


# --- hostile and foreign bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["leaf", "list"])
def test_no_flipped_bit_passes(what: str) -> None:
    w = hierarchy()
    good = w.person.der if what == "leaf" else w.sub.crl()
    end = len(good) - 80  # behind it the signature begins, the bits of which OpenSSL answers for
    for place in range(0, end, 3):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        w.downloads.pages[LEAF] = bytes(data) if what == "list" else w.sub.crl()
        assert w.chains().validate(bytes(data) if what == "leaf" else w.person.der, [w.sub.der]), place


VECTORS = Path(cryptography_vectors.__file__).parent / "x509"


def _files(*endings: str) -> list[Path]:
    return sorted(path for path in VECTORS.rglob("*") if path.suffix in endings)


def _octets(path: Path) -> list[bytes]:
    try:
        return [block.der for block in pem.blocks(path.read_bytes()) if block.is_certificate]
    except Unsupported:
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
