"""Chains and CRLs: what is said of each fault, and that it is what a full validation by pyhanko-certvalidator and cryptography say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import verification

from distributor.model.issues import CheckId, Issue
from distributor.pki.certificate import read
from distributor.pki.validation import crls
from distributor.pki.validation.path import MOST_ABOVE, IssuerStore, build_trust_store, find_issuers
from distributor.pki.validation.revocation import DownloadFailed
from distributor.pki.validation.validator import RevocationMode, validate_path
from tests.authority import Identity, rsa_key
from tests.doubles.pki import CA, DAY, certificate, der, ec_key, root, without_chain
from tests.pki.hierarchy import LEAF, NOW, SUB, WEB, Downloads, Hierarchy, hierarchy


def full(w: Hierarchy, person: Identity) -> Issue | None:
    """What pyhanko-certvalidator says of it all at once, hard-fail, with all CRLs."""
    lists = [page for page in w.downloads.pages.values() if isinstance(page, bytes) and not isinstance(crls.read(page), crls.CrlError)]
    return validate_path(person.der, w.collection, [der(one) for one in person.chain], lists, NOW, RevocationMode.CRLS)


def test_a_chain_in_order_has_nothing_against_it() -> None:
    assert hierarchy().issues() == []


def test_ten_thousand_certificates_of_an_authority_cost_one_list() -> None:
    w = hierarchy()
    people = [w.sub.person(f"{n}@example.org", crl=LEAF, key=rsa_key()) for n in range(20)]
    chains = w.chains()
    assert [chains.validate(one.der, [w.sub.der]).issues for one in people] == [[]] * 20
    assert set(w.downloads.asked) == {LEAF, SUB}


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
        (DownloadFailed("the server responded with 404"), "the server responded with 404"),
        (b"<html>", "no certificate there"),
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
        "add it to the collection with `distributor trust export`, then upload that (see docs/trust.md#the-tenants-collection)",
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
    assert "the signature of the certificate does not match its issuer" in issue.message
    chains = w.chains()  # and not either where the issuer is known to be good
    assert chains.validate(w.person.der, [w.sub.der]).issues == []
    assert [issue.check for issue in chains.validate(forged.der, [w.sub.der]).issues] == [CheckId.CHAIN_UNTRUSTED]


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
    found = w.chains().validate(person.der, [one.der for one in maze]).issues
    assert [issue.check for issue in found] in ([CheckId.CHAIN_INCOMPLETE], [CheckId.CHAIN_UNTRUSTED])
    leaf = read(person.der)
    assert leaf is not None
    assert len(find_issuers(leaf, IssuerStore(build_trust_store([], NOW), [one.der for one in maze])).seen) <= MOST_ABOVE + 1
    assert datetime.now(UTC) - before < timedelta(seconds=5)
