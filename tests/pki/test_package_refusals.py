"""The last look before a package is made: key, certificate, address and time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509

from distributor.model.certificates import ParseProblem
from distributor.model.issues import CheckId
from distributor.model.people import Address
from distributor.pki.package import PackageContent, check_package
from tests.authority import Authority, Identity, rsa_key
from tests.pki.spkis import NULL, info, reissued

ALICE = Address("alice", "example.org")


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("a.example@example.org", "Alice@example.org")


def look(one: Identity, to: Address = ALICE, days: float = 0, sha: str = "", content: PackageContent | None = None) -> CheckId | None:
    content = content or PackageContent(one.key, one.certificate, ())
    found = check_package(content, sha or sha256(one.der).hexdigest(), to, datetime.now(UTC) + timedelta(days=days))
    assert found is None or (isinstance(found, ParseProblem) and found.hint and found.message)
    return None if found is None else found.check


def test_what_was_planned_passes(alice: Identity) -> None:
    assert look(alice) is None


@pytest.mark.parametrize("local", ["bob", "alicе", "alıce"], ids=["another", "cyrillic", "dotless"])  # noqa: RUF001  that is the point
def test_another_address_is_refused(alice: Identity, local: str) -> None:
    assert look(alice, Address(local, "example.org")) is CheckId.ADDRESS_MISMATCH
    assert look(alice, Address("alice", "example.com")) is CheckId.ADDRESS_MISMATCH


def test_an_address_in_the_subject_alone_is_enough_if_it_is_the_persons(authority: Authority) -> None:
    assert look(authority.issue(name="alice@example.org")) is None
    assert look(authority.issue(name="bob@example.org")) is CheckId.ADDRESS_MISMATCH
    assert look(authority.issue("bob@example.org", name="alice@example.org")) is CheckId.ADDRESS_MISMATCH
    assert look(authority.issue(name="Alice")) is CheckId.NO_ADDRESS


def test_another_certificate_of_the_same_person_is_refused(alice: Identity, authority: Authority) -> None:
    assert look(alice, sha=sha256(authority.issue("alice@example.org").der).hexdigest()) is CheckId.NO_CERTIFICATE


def test_what_expired_or_is_not_valid_yet_is_refused(alice: Identity) -> None:
    assert look(alice, days=400) is CheckId.EXPIRED
    assert look(alice, days=-30) is CheckId.NOT_YET_VALID


def test_what_is_merely_worth_a_warning_passes(alice: Identity) -> None:
    assert look(alice, days=360) is None


def test_another_key_is_refused(alice: Identity) -> None:
    assert look(alice, content=PackageContent(rsa_key(5), alice.certificate, ())) is CheckId.KEY_MISMATCH


@pytest.mark.parametrize("algorithm", ["1.2.840.113549.1.1.10", "1.2.840.113549.1.1.7"])
def test_the_same_numbers_under_another_algorithm_are_refused(alice: Identity, authority: Authority, algorithm: str) -> None:
    der = reissued(alice, authority, info(alice.key, algorithm))
    odd = replace(alice, certificate=x509.load_der_x509_certificate(der))
    assert look(odd) is CheckId.KEY_TYPE


def test_a_key_without_parameters_is_an_ordinary_one(alice: Identity, authority: Authority) -> None:
    for parameters in ((), (NULL,)):
        der = reissued(alice, authority, info(alice.key, "1.2.840.113549.1.1.1", *parameters))
        assert look(replace(alice, certificate=x509.load_der_x509_certificate(der))) is None
