"""pkilint's S/MIME rules: a warning for who promised to keep them, advice for who did not."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.errors import InvalidInput
from distributor.model.issues import CheckedChain, CheckId, Issue, Severity
from distributor.pki.lint import Finding, Linter, LintingChecker, section
from tests.authority import DUAL, key_usage, rsa_key

STRICT_MAILBOX = "2.23.140.1.5.1.3"
OWN_POLICY = "1.3.6.1.4.1.99999.1"
AGREES = ("digital_signature", "key_agreement")


@pytest.fixture(scope="module")
def linter() -> Linter:
    return Linter()


def made(  # noqa: PLR0913, PLR0917  each argument is one rule
    policy: str | None = STRICT_MAILBOX,
    uses: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    days: int = 365,
    crl: str | None = "http://crl.example.com/ca.crl",
    common: str = "alice@example.com",
    usage: tuple[str, ...] = DUAL,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    *,
    usage_critical: bool = True,
) -> bytes:
    """A certificate that keeps every rule, but for what is asked otherwise."""
    key, above = key or rsa_key(), rsa_key(9002)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    access = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example.com/ca.cer")
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([x509.RFC822Name("alice@example.com")]), False),
        (key_usage(usage), usage_critical),
        (x509.ExtendedKeyUsage(uses), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityInformationAccess([access]), False),
    ]
    if policy:
        extensions.append((x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(policy), None)]), False))
    if crl:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)
        extensions.append((x509.CRLDistributionPoints([point]), False))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days) - timedelta(seconds=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(above, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_that_keeps_every_rule_is_told_nothing(linter: Linter) -> None:
    assert linter.lint(made()) == []


@pytest.mark.parametrize(
    ("der", "rule", "where"),
    [
        (made(days=900), "cabf.smime.certificate_validity_period_exceeds_825_days", "6.3.2"),
        (made(crl="ldap://ldap.example.com/cn=ca"), "cabf.smime.crldp_fullname_prohibited_uri_scheme", "7.1.2.3 b"),
        (made(crl=None), "cabf.smime.crldp_extension_missing", "7.1.2.3 b"),
        (
            made(uses=(ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.CLIENT_AUTH)),
            "cabf.smime.prohibited_eku_present",
            "7.1.2.3 f",
        ),
        (made(common="Alice Example"), "cabf.smime.common_name_value_unknown_source", "7.1.4.2.2"),
        (made(usage=(*DUAL, "data_encipherment")), "cabf.smime.prohibited_ku_present", "7.1.2.3 e"),
        (made(usage=DUAL, key=ec.generate_private_key(ec.SECP256R1())), "cabf.smime.prohibited_ku_present", "7.1.2.3 e"),
    ],
)
def test_a_broken_promise_is_a_warning_with_its_rule_and_section(linter: Linter, der: bytes, rule: str, where: str) -> None:
    found = {finding.rule: finding for finding in linter.lint(der)}
    assert (found[rule].section, found[rule].severity) == (f"S/MIME BR {where}", Severity.WARNING)


def test_an_authority_that_promised_nothing_is_given_advice(linter: Linter) -> None:
    found = linter.lint(made(OWN_POLICY, days=2000, crl=None))
    assert {finding.rule for finding in found} >= {
        "cabf.smime.certificate_validity_period_exceeds_1185_days",
        "cabf.smime.crldp_extension_missing",
    }
    assert {finding.severity for finding in found} == {Severity.NOTE}


@pytest.mark.parametrize("policy", [OWN_POLICY, None])
def test_a_certificate_that_claims_no_policy_breaks_none(linter: Linter, policy: str | None) -> None:
    assert linter.lint(made(policy)) == []


def test_p521_is_allowed_whatever_the_linter_believes(linter: Linter) -> None:
    assert linter.lint(made(usage=AGREES, key=ec.generate_private_key(ec.SECP521R1()))) == []


def test_an_issue_names_rule_section_and_way_out(linter: Linter) -> None:
    (issue,) = linter.issues(made(common="Ev\u202eil"))
    assert (issue.severity, issue.check) == (Severity.WARNING, CheckId.LINT)
    assert issue.message.startswith("cabf.smime.common_name_value_unknown_source (S/MIME BR 7.1.4.2.2): ")
    assert "\u202e" not in issue.message
    assert "revoke" in (issue.hint or "")
    advice = linter.issues(made(None, crl=None))
    assert [(issue.severity, (issue.hint or "")[:7]) for issue in advice] == [(Severity.NOTE, "for inf")]


def test_what_is_only_recommended_is_not_called_an_offence(linter: Linter) -> None:
    lax = made(usage_critical=False)
    assert {(finding.rule, finding.recommended) for finding in linter.lint(lax)} == {
        ("pkix.key_usage_extension_not_critical", True),
        ("cabf.smime.ku_extension_not_critical", True),
    }
    assert {(issue.severity, "SHOULD" in (issue.hint or ""), "revoke" in (issue.hint or "")) for issue in linter.issues(lax)} == {
        (Severity.WARNING, True, False)
    }


def test_that_no_list_is_named_is_an_offence_whatever_the_linter_believes(linter: Linter) -> None:
    (finding,) = linter.lint(made(crl=None))
    assert (finding.rule, finding.recommended) == ("cabf.smime.crldp_extension_missing", False)
    (issue,) = linter.issues(made(crl=None))
    assert "revoke" in (issue.hint or "")


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 900))
def test_damaged_bytes_are_a_finding_and_no_traceback(linter: Linter, data: bytes, at: int) -> None:
    whole = made()
    found = linter.lint(data) + linter.lint(whole[:at] + data + whole[at + len(data) :])
    assert all(isinstance(finding, Finding) for finding in found)
    assert not logging.getLogger("pkilint.validation").isEnabledFor(logging.ERROR)


def test_what_cannot_be_read_at_all_is_told(linter: Linter) -> None:
    (finding,) = linter.lint(b"\x30\x00")
    assert (finding.rule, finding.severity) == ("itu.invalid_asn1_syntax", Severity.WARNING)


def test_a_plan_hears_of_the_chain_first_and_of_the_rules_then(linter: Linter) -> None:
    class Chains:
        begun: list[bytes]

        def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:
            self.begun = [leaf, *chain]

        def check(self, leaf: bytes, chain: Sequence[bytes]) -> CheckedChain:
            assert self.begun == [leaf, *chain]
            return CheckedChain([Issue(Severity.ERROR, CheckId.REVOKED, "revoked")])

    der = made(crl=None)
    both, alone = LintingChecker(linter, Chains()), LintingChecker(linter, None)
    for checker in (both, alone):
        checker.begin(der, [b"above"])
    assert [issue.check for issue in both.check(der, [b"above"]).issues] == [CheckId.REVOKED, CheckId.LINT]
    assert [issue.check for issue in alone.check(der, [b"above"]).issues] == [CheckId.LINT]


def test_advice_is_told_once_a_run_and_a_broken_promise_each_time(linter: Linter) -> None:
    checker = LintingChecker(linter, None)
    private, public = made(OWN_POLICY, crl=None), made(crl=None)
    severities = [[issue.severity for issue in checker.check(der, []).issues] for der in (private, private, public, public, private)]
    assert severities == [[Severity.NOTE], [], [Severity.WARNING], [Severity.WARNING], []]


def test_without_the_extra_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pkilint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pkilint", None)
    with pytest.raises(InvalidInput) as caught:
        Linter()
    assert caught.value.hint == "pip install 'distributor[lint]'"


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ("cabf.smime.no_required_reserved_policy_oid", "S/MIME BR 7.1.6.1"),
        ("cabf.rsa_modulus_invalid_length", "S/MIME BR 6.1.5"),
        ("pkix.aki_with_serial_number_but_cert_issuer_absent", "S/MIME BR 7.1.2.3 g"),
        ("pkix.subject_email_address_not_in_san", "S/MIME BR 7.1.4.2.1"),
        ("pkix.certificate_serial_number_out_of_range", "RFC 5280"),
        ("cabf.internal_domain_name", "S/MIME BR 7.1"),
    ],
)
def test_a_rules_section_follows_from_its_name(rule: str, where: str) -> None:
    assert section(rule) == where
