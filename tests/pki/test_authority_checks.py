"""Old signatures, short keys and other uses in a chain: what they make of a root, of an authority and of a list."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.microsoft import collection
from distributor.model.issues import CheckId
from distributor.pki.certificate import read
from distributor.pki.issuers import is_self_signed
from distributor.pki.sst import Stored
from distributor.pki.validation.path import build_trust_store
from tests.authority import rsa_key
from tests.doubles.pki import CA, DAY, certificate, der, root
from tests.pki.hierarchy import LEAF, NOW, SUB, WEB, Hierarchy, aged, hierarchy, old_ca

OLD_ROOT = old_ca(root("Old Root", rsa_key(60)))
MAIL, SERVERS, ANY = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


def below(sub: CA) -> Hierarchy:
    return hierarchy(sub.above[-1], sub)


def test_a_root_that_signed_itself_with_sha1_is_a_root() -> None:
    w = hierarchy(OLD_ROOT)
    assert w.issues() == []
    assert [one.der for one in build_trust_store([OLD_ROOT.der], NOW).anchors] == [OLD_ROOT.der]
    found, issues = collection.members([("old.cer", Stored(OLD_ROOT.der))])
    assert ([member.kind for member in found], issues) == (["root"], [])


def test_a_root_of_sha1_that_is_not_collected_is_told_as_a_root() -> None:
    w = hierarchy(OLD_ROOT)
    w.collection = [root("Other").der]
    (issue,) = w.issues()
    assert 'its root "CN=Old Root" is not in the collection' in issue.message


def test_a_signature_that_can_be_checked_and_is_wrong_makes_no_root() -> None:
    key = rsa_key(60)
    forged = [
        old_ca(root("Old Root", key), wrong=True).certificate,
        certificate("Root", key, None, ca=True, signing_key=rsa_key(61)),
        old_ca(CA(key, certificate("Person", key, None))).certificate,  # no authority
    ]
    for one in forged:
        cert = read(der(one))
        assert cert is not None
        assert not is_self_signed(cert)


def test_an_authority_signed_with_sha1_is_weak_and_not_forged() -> None:
    top = root("Root", rsa_key(60))
    (issue,) = below(old_ca(top.sub("Mail CA", rsa_key(61), crl=SUB))).issues()
    assert issue.check is CheckId.WEAK_SIGNATURE
    assert issue.message == 'the CA "CN=Mail CA" is signed with SHA1, which is no longer trusted'


def test_an_authority_whose_sha1_signature_is_wrong_is_forged() -> None:
    top = root("Root", rsa_key(60))
    (issue,) = below(old_ca(top.sub("Mail CA", rsa_key(61), crl=SUB), wrong=True)).issues()
    assert issue.check is CheckId.CHAIN_UNTRUSTED
    assert "does not match its issuer" in issue.message


def test_a_list_signed_with_sha1_is_told_as_old_and_still_revokes() -> None:
    top = root("Root", rsa_key(60))
    w = below(top.sub("Mail CA", rsa_key(61), crl=SUB))
    w.downloads.pages[LEAF] = aged(x509.load_der_x509_crl(w.sub.crl()), w.sub.key)
    (issue,) = w.issues()
    assert issue.check is CheckId.CRL_UNREACHABLE
    assert "signed with SHA1" in issue.message
    listed = x509.load_der_x509_crl(w.sub.crl(w.person.certificate.serial_number))
    w.downloads.pages[LEAF] = aged(listed, w.sub.key)
    assert w.checks() == ["revoked"]
    w.downloads.pages[LEAF] = aged(listed, w.sub.key, wrong=True)
    assert "forged:" in w.issues()[0].message


@pytest.mark.parametrize(("uses", "good"), [((SERVERS,), False), ((SERVERS, MAIL), True), ((MAIL,), True), ((ANY,), True)])
def test_an_authority_for_other_uses_than_mail_makes_a_chain_useless(uses: tuple[x509.ObjectIdentifier, ...], *, good: bool) -> None:
    only = (x509.ExtendedKeyUsage(uses), False)
    for w in (below(root().sub("Mail CA", crl=SUB, extensions=[only])), hierarchy(root(extensions=[only]))):
        assert w.checks() == ([] if good else ["chain-untrusted"])
        assert all("is not for mail (extended key usage)" in issue.message for issue in w.issues())


def test_an_authority_further_up_counts_too() -> None:
    middle = root().sub("Web CA", crl=SUB, extensions=[(x509.ExtendedKeyUsage([SERVERS]), False)])
    lower = middle.sub("Mail CA", crl=f"{WEB}/middle.crl")
    w = hierarchy(middle.above[0], lower)
    w.downloads.pages |= {SUB: middle.above[0].crl(), f"{WEB}/middle.crl": middle.crl()}
    assert [issue.message for issue in w.issues()] == [
        'the CA "CN=Web CA" is not for mail (extended key usage), nor is any certificate below it'
    ]


def test_an_authority_with_a_short_key_is_told_in_plain_words() -> None:
    (issue,) = below(root().sub("Mail CA", rsa_key(62, 1024), crl=SUB)).issues()
    assert issue.check is CheckId.WEAK_KEY
    assert issue.message == 'the CA "CN=Mail CA" has an RSA key of 1024 bits; at least 2048 are required'


def test_an_expired_authority_bears_the_name_that_it_bears_elsewhere() -> None:
    (issue,) = below(root().sub("Mail CA", crl=SUB, lasts=DAY)).issues()
    assert issue.message.startswith('"CN=Mail CA" in its chain expired on ')
