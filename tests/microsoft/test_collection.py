"""What is wrong with a collection, what it lacks for given certificates, and how two of them differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import x509 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.microsoft import collection
from distributor.microsoft.collection import SOON, CollectionEntry
from distributor.model.issues import CheckId, Issue, Severity
from distributor.pki.keypairs import spki
from distributor.pki.sst import Stored
from tests.authority import rsa_key
from tests.doubles.pki import root
from tests.pki.hierarchy import old_ca
from tests.pki.pki import NOW, Made, key, known, make

ROOT = make("Root")
MIDDLE = make("Middle", ROOT)
ALICE = make("Alice", MIDDLE, ca=False, usage=("digital_signature",))


def rows(issues: list[Issue]) -> list[tuple[str, str]]:
    return [(issue.severity.value, issue.check.value) for issue in issues]


def examined(*made: Made) -> list[Issue]:
    return collection.examine(known(*made), NOW)


def test_a_root_and_its_intermediate_are_a_good_collection() -> None:
    assert examined(ROOT, MIDDLE) == []
    assert [member.kind for member in known(ROOT, MIDDLE, ALICE)] == ["root", "intermediate", "person"]


def test_an_expired_certificate_is_an_error_since_exchange_refuses_all_of_it() -> None:
    (issue,) = examined(ROOT, MIDDLE, make("Old", ROOT, days=0))
    assert (issue.severity, issue.check, issue.source) == (Severity.ERROR, CheckId.EXPIRED, "collection.sst")
    assert issue.message == '"CN=Old" expired on 2026-11-25'
    assert "the whole collection" in (issue.hint or "")


def test_validity_is_judged_to_the_second() -> None:
    (member,) = known(ROOT)
    end = member.facts.not_after
    assert rows(collection.examine([member], end - timedelta(seconds=1))) == [("warning", "expires-soon")]
    assert rows(collection.examine([member], end)) == [("error", "expired")]


@pytest.mark.parametrize(("days", "found"), [(89, [("warning", "expires-soon")]), (90, [])])
def test_ninety_days_before_its_end_a_certificate_is_worth_a_warning(days: int, found: list[tuple[str, str]]) -> None:
    assert rows(examined(make("Root", days=days))) == found


def test_a_certificate_of_tomorrow_is_an_error() -> None:
    assert rows(examined(ROOT, make("Soon", ROOT, starts=1))) == [("error", "not-yet-valid")]
    assert examined(ROOT, make("Now", ROOT, starts=0)) == []


def test_a_persons_certificate_is_an_error_and_told_by_its_name() -> None:
    (issue,) = examined(ROOT, MIDDLE, ALICE)
    assert rows([issue]) == [("error", "is-ca")]
    assert issue.message == '"CN=Alice" is a person\'s certificate, not a CA certificate'


def test_a_certificate_that_stands_there_twice_is_told_once() -> None:
    assert rows(examined(ROOT, MIDDLE, ROOT, ROOT)) == [("error", "duplicate")]
    (note,) = collection.examine(known(ROOT, ROOT), NOW, repeated=Severity.NOTE)
    assert (rows([note]), note.hint) == ([("note", "duplicate")], "no action needed: it is written only once")


def test_without_a_root_nothing_is_trusted() -> None:
    first, second = examined(MIDDLE)
    assert rows([first, second]) == [("error", "chain-incomplete")] * 2
    assert "no root" in first.message
    assert second.message == '"CN=Middle": its issuer "CN=Root" is not in the collection'


def test_an_empty_collection_is_an_error() -> None:
    assert rows(examined()) == [("error", "no-certificate")]


def test_an_intermediate_without_its_root_names_where_that_may_be() -> None:
    lonely = make("Lonely", make("Elsewhere"), aia="http://pki.example.org/elsewhere.cer")
    (issue,) = examined(ROOT, lonely)
    assert rows([issue]) == [("error", "chain-incomplete")]
    assert issue.hint == "add that certificate; download it from http://pki.example.org/elsewhere.cer"


def test_a_cross_certificate_whose_key_has_another_way_up_is_only_a_warning() -> None:
    crossed = make("Middle", make("Elsewhere"))
    assert rows(examined(ROOT, MIDDLE, crossed)) == [("warning", "chain-incomplete")]
    assert rows(examined(ROOT, MIDDLE, make("Middle", make("Elsewhere"), own="another key"))) == [("error", "chain-incomplete")]


def test_a_namesake_of_the_issuer_with_another_key_does_not_count() -> None:
    assert rows(examined(make("Root", own="a renewed key"), MIDDLE)) == [("error", "chain-incomplete")]


def test_an_authority_that_may_not_sign_is_worth_a_warning() -> None:
    assert rows(examined(ROOT, make("Mute", ROOT, usage=("digital_signature",)))) == [("warning", "key-usage")]


def test_an_authority_for_other_uses_than_mail_is_worth_a_warning() -> None:
    servers, mail = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION
    assert rows(examined(ROOT, make("Web", ROOT, extended=(servers,)))) == [("warning", "not-for-mail")]
    assert examined(ROOT, make("Both", ROOT, extended=(servers, mail))) == []


def of_rsa(*ders: bytes) -> list[CollectionEntry]:
    found, issues = collection.members([("rsa.cer", Stored(der)) for der in ders])
    assert issues == []
    return found


@pytest.mark.parametrize(("bits", "found"), [(2040, [("warning", "weak-key")]), (2048, [])])
def test_a_short_rsa_key_is_worth_a_warning(bits: int, found: list[tuple[str, str]]) -> None:
    assert rows(collection.examine(of_rsa(root("Root", rsa_key(7, bits)).der), datetime.now(UTC))) == found


def test_an_old_signature_is_worth_a_warning_unless_it_is_the_roots_own_which_nobody_checks() -> None:
    top = old_ca(root("Root", rsa_key(60)))
    middle = old_ca(top.sub("Middle", rsa_key(61)))
    (issue,) = collection.examine(of_rsa(top.der, middle.der), datetime.now(UTC))
    assert rows([issue]) == [("warning", "weak-signature")]
    assert issue.message == '"CN=Middle" is signed with SHA1, which is no longer trusted'


def test_a_root_from_before_there_were_extensions_is_a_root() -> None:
    algorithm = asn1.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"})
    name = asn1.Name.build({"common_name": "Old Root"})
    body = asn1.TbsCertificate(
        {
            "version": "v1",
            "serial_number": 1,
            "signature": algorithm,
            "issuer": name,
            "validity": {"not_before": asn1.Time({"utc_time": NOW - timedelta(days=9)}), "not_after": asn1.Time({"utc_time": NOW + SOON})},
            "subject": name,
            "subject_public_key_info": asn1.PublicKeyInfo.load(spki(key("Old Root").public_key())),
        }
    )
    signature = key("Old Root").sign(body.dump(), ec.ECDSA(hashes.SHA256()))
    whole = asn1.Certificate({"tbs_certificate": body, "signature_algorithm": algorithm, "signature_value": signature}).dump()
    found, issues = collection.members([("old.crt", Stored(whole))])
    assert issues == []
    assert [member.kind for member in found] == ["root"]
    assert rows(collection.examine(found, NOW)) == []


def test_a_person_who_signed_himself_is_no_root() -> None:
    assert rows(examined(ROOT, make("Self", ca=False))) == [("error", "is-ca")]


def test_a_lack_of_several_files_names_none_of_them() -> None:
    both = [*known(MIDDLE, source="a.pem"), *known(make("Other", ROOT), source="b.pem")]
    assert [issue.source for issue in collection.examine(both, NOW)] == [None, "a.pem", "b.pem"]
    assert collection.examine(known(MIDDLE, source="a.pem"), NOW)[0].source == "a.pem"


def test_bytes_that_are_no_certificate_are_an_issue_and_the_others_go_on() -> None:
    found, issues = collection.members([("a.pem", Stored(b"\x30\x03\x02\x01\x01")), ("b.pem", Stored(ROOT.der))])
    assert [member.source for member in found] == ["b.pem"]
    assert [(issue.check, issue.source) for issue in issues] == [(CheckId.UNREADABLE, "a.pem")]


def test_the_same_certificates_in_any_order_make_the_same_collection() -> None:
    one = collection.ordered(known(MIDDLE, ROOT, MIDDLE))
    assert [member.der for member in one] == [member.der for member in collection.ordered(known(ROOT, MIDDLE))] == [ROOT.der, MIDDLE.der]


# --- for given certificates --------------------------------------------------------------------------------------------


def lacks(inside: list[Made], given: list[Made]) -> list[Issue]:
    return list(collection.issues(collection.find_gaps(known(*inside), known(*given, source="at-hand.pem"))))


def test_nothing_is_missing_for_a_person_below_the_collection() -> None:
    assert lacks([ROOT, MIDDLE], [ALICE, MIDDLE, ROOT]) == []


def test_a_missing_intermediate_is_named_from_the_persons_certificate() -> None:
    (issue,) = lacks([ROOT], [ALICE])
    assert rows([issue]) == [("error", "chain-incomplete")]
    assert issue.message == 'the issuer "CN=Middle" of "CN=Alice" is neither in the collection nor among the given certificates'


def test_where_it_may_be_fetched_is_in_the_hint() -> None:
    (issue,) = lacks([ROOT], [make("Bob", MIDDLE, ca=False, aia="http://pki.example.org/middle.cer")])
    assert issue.hint == "add the issuer's certificate; download it from http://pki.example.org/middle.cer"


def test_a_missing_intermediate_given_is_named_with_its_file() -> None:
    (issue,) = lacks([ROOT], [ALICE, MIDDLE])
    assert (issue.check, issue.source) == (CheckId.CHAIN_INCOMPLETE, "at-hand.pem")
    assert issue.message == 'the intermediate certificate "CN=Middle" is not in the collection'


def test_a_missing_root_is_told_as_untrusted() -> None:
    (issue,) = lacks([MIDDLE], [ALICE, ROOT])
    assert rows([issue]) == [("error", "chain-untrusted")]
    assert issue.message == 'the root "CN=Root" is not in the collection'


def test_one_lack_of_many_people_is_told_once_with_their_number() -> None:
    people = [make(f"Person {number}", MIDDLE, ca=False) for number in range(3)]
    assert lacks([ROOT], people[:2])[0].message.endswith("; needed by 2 people's certificates")
    (issue,) = lacks([ROOT], people)
    assert issue.message.endswith("; needed by 3 people's certificates")
    (issue,) = lacks([ROOT], [*people, MIDDLE])
    assert issue.message.endswith('"CN=Middle" is not in the collection; needed by 3 people\'s certificates')


def test_an_issuer_that_was_renewed_with_another_key_is_told_apart() -> None:
    (issue,) = lacks([ROOT, make("Middle", ROOT, own="a renewed key")], [ALICE])
    assert issue.message.endswith("nor among the given certificates; a certificate of that name is, but its key differs")


def test_the_way_that_lacks_least_counts() -> None:
    crossed = make("Middle", make("Elsewhere"))
    assert lacks([ROOT, MIDDLE], [ALICE]) == []
    assert lacks([crossed, MIDDLE, ROOT], [ALICE]) == []
    assert [sought.lacks for sought in collection.find_gaps(known(crossed, ROOT, MIDDLE), known(ALICE))] == [()]


def test_a_person_who_signed_himself_is_vouched_for_by_nobody() -> None:
    (issue,) = lacks([ROOT], [make("Self", ca=False)])
    assert rows([issue]) == [("error", "chain-untrusted")]
    assert "is self-signed" in issue.message


def test_a_persons_certificate_inside_the_collection_is_no_issuer() -> None:
    rogue = make("Rogue", ROOT, ca=False)
    assert rows(lacks([ROOT, rogue], [make("Victim", rogue, ca=False)])) == [("error", "chain-incomplete")]


def test_certificates_that_vouch_for_each_other_lead_nowhere() -> None:
    east = make("East", make("West"))
    west = make("West", make("East"))
    assert rows(lacks([east, west], [make("Eve", east, ca=False)])) == [("error", "chain-incomplete")]


# --- the tenant's --------------------------------------------------------------------------------------------------


def test_two_collections_are_compared_by_what_is_in_them() -> None:
    other = make("Other", days=-1, starts=-20)
    found = collection.compare(known(MIDDLE, ROOT), known(ROOT, other, ROOT, source="tenant.txt"))
    parts = (found.same, found.only_here, found.only_there)
    assert [[member.der for member in part] for part in parts] == [[ROOT.der], [MIDDLE.der], [other.der]]
    here, there = collection.differing(found, NOW)
    assert rows([here, there]) == [("error", "chain-untrusted"), ("warning", "chain-untrusted")]
    assert here.message.startswith('"CN=Middle" is not in the tenant\'s collection')
    assert there.message.startswith('"CN=Other" is only in the tenant\'s collection, where it expired on 2026-11-24')


def test_the_same_collection_in_another_order_does_not_differ() -> None:
    found = collection.compare(known(MIDDLE, ROOT), known(ROOT, MIDDLE))
    assert list(collection.differing(found, NOW)) == []
