"""Which issuer a certificate is held against where there are several: renewed, re-keyed, or somewhere on the web."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from distributor.model.issues import CheckId
from tests.authority import DUAL, Identity, key_usage, rsa_key
from tests.doubles.pki import CA, DAY, point, root, without_chain
from tests.pki.worlds import LEAF, NOW, SUB, WEB, Shelf, World, world

OTHER = f"{WEB}/other.crl"


def without_key_id(ca: CA, number: int, crl: str) -> Identity:
    """A person's certificate that does not say which key signed it."""
    key = rsa_key(number)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Person {number}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 300 * DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(DUAL), critical=True)
        .add_extension(x509.CRLDistributionPoints([point(crl)]), critical=False)
    )
    return Identity(key, builder.sign(ca.key, hashes.SHA256()))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["the old key first", "the new key first"])
def test_people_of_an_authority_with_two_keys_are_each_held_against_their_own(order: tuple[int, int]) -> None:
    top = root()
    cas = [top.sub("Mail CA", crl=SUB), top.sub("Mail CA", crl=SUB)]
    shelf = Shelf({SUB: top.crl(), LEAF: cas[0].crl(), OTHER: cas[1].crl()})
    people = [without_key_id(cas[0], 1, LEAF), without_key_id(cas[1], 2, OTHER)]
    w = World(top, cas[0], people[0], shelf, [top.der, *(ca.der for ca in cas)])
    chains = w.chains()
    assert [chains.validate(people[n].der, []) for n in (*order, *order)] == [[]] * 4


def test_whoever_neither_key_signed_is_still_told_as_forged() -> None:
    w = world()
    w.collection = [w.root.der, w.sub.der]
    forged = without_key_id(CA(rsa_key(3), w.sub.certificate), 4, LEAF)
    chains = w.chains()
    assert chains.validate(without_key_id(w.sub, 1, LEAF).der, []) == []
    (issue,) = chains.validate(forged.der, [])
    assert issue.check is CheckId.CHAIN_UNTRUSTED
    assert "the signature of the certificate is not that of its issuer" in issue.message


def test_an_authority_that_expired_in_the_file_and_was_renewed_on_the_web_is_found() -> None:
    w = world(sub=root().sub("Mail CA", crl=SUB, lasts=DAY))
    w = world(w.sub.above[0], w.sub)
    renewed = w.sub.again(w.root, crl=SUB)
    w.shelf.pages[f"{WEB}/sub.cer"] = renewed.der
    person = w.sub.person("b@example.org", crl=LEAF, aia=f"{WEB}/sub.cer")
    assert w.checks(person) == []
    assert w.shelf.asked[f"{WEB}/sub.cer"] == 1
    del w.shelf.pages[f"{WEB}/sub.cer"]
    (issue,) = w.issues(person)
    assert 'CN=Mail CA" in its chain expired on' in issue.message


def test_a_renewed_authority_speaks_for_itself_when_it_is_wrong_too() -> None:
    sub = root().sub("Mail CA", crl=SUB, lasts=DAY)
    w = world(sub.above[0], sub)
    renewed = sub.again(w.root, crl=OTHER)
    w.shelf.pages |= {f"{WEB}/sub.cer": renewed.der, OTHER: w.root.crl(renewed.certificate.serial_number)}
    assert w.checks(sub.person("b@example.org", crl=LEAF, aia=f"{WEB}/sub.cer")) == ["revoked"]


def test_nothing_is_fetched_where_the_file_holds_a_good_authority() -> None:
    w = world()
    person = w.sub.person("b@example.org", crl=LEAF, aia=f"{WEB}/sub.cer")
    assert w.checks(person) == []
    assert f"{WEB}/sub.cer" not in w.shelf.asked


def test_a_place_that_exchange_does_not_fetch_is_told_as_such() -> None:
    w = world()
    (issue,) = w.issues(without_chain(w.sub.person("b@example.org", crl=LEAF, aia="ldap:///CN=Mail%20CA")))
    assert issue.check is CheckId.CHAIN_INCOMPLETE
    assert issue.message.endswith("; it names a place for it by LDAP only; Exchange Online fetches http")
    (issue,) = w.issues(without_chain(w.sub.person("b@example.org", crl=LEAF)))
    assert issue.message.endswith("; it names no place for it")
