"""A person's certificate -> what the CA/Browser Forum's S/MIME rules (S/MIME BR) say of it, by pkilint (extra `lint`).

A certificate that names a policy of the BR promises to keep them, so a finding is a warning; what they only recommend (SHOULD) is reported
as a recommendation. For any other certificate a finding is advice (a note), without the rules about the missing policy itself.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distributor.errors import InvalidInput
from distributor.model.issues import CheckedChain, CheckId, Issue, Severity
from distributor.model.people import escape_unsafe

if TYPE_CHECKING:
    from distributor.model.ports import Checker

LONGEST = 200  # characters of a rule's own words
# The sections of the S/MIME BR 1.0 by a part of the rule's name; the first match counts.
_SECTIONS = (
    (r"legacy_generation|reserved_policy_oid", "7.1.6.1"),
    (r"crldp|distribution_point", "7.1.2.3 b"),
    (r"aia_|authority_info", "7.1.2.3 c"),
    (r"certificate_policies|certificate_policy|anypolicy|usernotice|cps_uri", "7.1.2.3 a"),
    (r"basic_constraints|is_ca_certificate", "7.1.2.3 d"),
    (r"eku|extended_key_usage", "7.1.2.3 f"),
    (r"authority_key_identifier|\baki_", "7.1.2.3 g"),
    (r"(\b|_)ku(\b|_)|key_usage|keyusage", "7.1.2.3 e"),
    (r"skid|subject_key_identifier", "7.1.2.3 n"),
    (r"smime_capabilities", "7.1.2.3 i"),
    (r"subject_directory_attributes", "7.1.2.3 j"),
    (r"qc_statements|qualified_statement", "7.1.2.3 k"),
    (r"lei_|\blei", "7.1.2.3 l"),
    (r"adobe|adbe", "7.1.2.3 m"),
    (r"name_constraints", "7.1.2.3"),
    (r"not_in_san|\bsan_|_san_|generalname_type|othername|rfc822name|smtp_?utf8_?mailbox|email_address", "7.1.4.2.1"),
    (r"validity", "6.3.2"),
    (r"rsa_modulus_invalid_length|public_key_type", "6.1.5"),
    (r"rsa_|ecdsa_key", "6.1.6"),
    (r"spki|public_key", "7.1.3.1"),
    (r"signature_algorithm", "7.1.3.2"),
    (r"attribute|common_name|organization|country|registration|rdn_|\bname_|\bname\.", "7.1.4.2.2"),
    (r"extension", "7.1.2.3"),
)
_PROMISED_NOTHING = frozenset(
    {
        "cabf.smime.legacy_generation_certificate_issued_after_prohibition",  # one of no generation is checked by the mildest
        "cabf.smime.no_required_reserved_policy_oid",
        "cabf.smime.certificate_policies_extension_missing",
    }
)
_FALSE_ON_P521 = "cabf.smime.prohibited_spki_algorithm_encoding"  # BR 6.1.5 allows P-521 (facts: exchange.md 5)
_P521 = bytes.fromhex("06052b81040023")
_SHALL = frozenset({"cabf.smime.crldp_extension_missing"})  # pkilint says WARNING where BR 7.1.2.3 b says SHALL (facts: exchange.md 5)
_REVOCABLE = "report it to the CA, which must revoke a certificate that breaks its rules"
_RECOMMENDED = "report it to the CA; this is only a recommendation (SHOULD), and the certificate can be used"
_ADVICE = "for information, shown once for all such certificates: they claim no S/MIME BR policy, so their CA need not follow it"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a certificate does not keep: `section` is of the S/MIME BR, or the RFC where those say nothing.

    `recommended`: the rule says SHOULD and not SHALL, so that no action is needed.
    """

    rule: str
    section: str
    severity: Severity
    message: str
    recommended: bool = False

    @property
    def hint(self) -> str:
        """What to do."""
        if self.severity is not Severity.WARNING:
            return _ADVICE
        return _RECOMMENDED if self.recommended else _REVOCABLE


class Linter:
    """The rules, loaded once. Raises InvalidInput without the extra."""

    def __init__(self) -> None:
        try:
            from pkilint import loader  # noqa: PLC0415  0.7 s
            from pkilint.cabf import smime  # noqa: PLC0415
            from pkilint.pkix import certificate  # noqa: PLC0415
        except ModuleNotFoundError:
            raise InvalidInput("lint needs pkilint, which is not installed", hint="pip install 'distributor[lint]'") from None
        logging.getLogger("pkilint").setLevel(logging.CRITICAL)  # it writes tracebacks about odd certificates
        self._load = loader.RFC5280CertificateDocumentLoader().load_der_document
        self._smime, self._certificate = smime, certificate
        self._rules = functools.cache(self._made)

    def _made(self, level: Any, generation: Any) -> Any:  # noqa: ANN401  pkilint's own, loaded late
        rules = self._smime.create_subscriber_validators(level, generation)
        return self._certificate.create_pkix_certificate_validator_container(self._smime.create_decoding_validators(), rules)

    def issues(self, der: bytes) -> list[Issue]:
        """The findings as issues of a plan."""
        return [
            Issue(
                finding.severity,
                CheckId.LINT,
                f"{finding.rule} ({finding.section})" + (f": {finding.message}" if finding.message else ""),
                finding.hint,
            )
            for finding in self.lint(der)
        ]

    def lint(self, der: bytes) -> list[Finding]:
        """Each finding once. A certificate that pkilint cannot read is a finding too."""
        try:
            certificate = self._load(der)
            promised = self._smime.determine_validation_level_and_generation(certificate)
            results = self._rules(*(promised or self._smime.guess_validation_level_and_generation(certificate))).validate(certificate.root)
        except Exception as error:  # noqa: BLE001  a foreign parser on foreign bytes
            return [Finding("itu.invalid_asn1_syntax", "X.690", Severity.WARNING, escape_unsafe(str(error))[:LONGEST])]
        weight = Severity.WARNING if promised else Severity.NOTE
        found = (Finding(rule, section(rule), weight, words, should) for rule, words, should in _violations(results))
        return [one for one in dict.fromkeys(found) if not _without_object(one, der, promised=promised is not None)]


class LintingChecker:
    """Checks each certificate by the rules, and its chain by another checker if there is one.

    Advice is about how a CA issues its certificates, so each rule is reported once a run and not for ten thousand people.
    """

    def __init__(self, linter: Linter, chains: Checker | None) -> None:
        self._linter, self._chains = linter, chains
        self._advised: set[str] = set()

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:
        """Start the downloads of the other checker."""
        if self._chains is not None:
            self._chains.begin(leaf, chain)

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> CheckedChain:
        """The issues of both, and the other checker's path."""
        checked = self._chains.check(leaf, chain) if self._chains is not None else CheckedChain([])
        return replace(checked, issues=[*checked.issues, *self._linted(leaf)])

    def _linted(self, leaf: bytes) -> Iterator[Issue]:
        for issue in self._linter.issues(leaf):
            rule = issue.message.partition(" ")[0]
            if issue.severity is Severity.NOTE and rule in self._advised:
                continue
            self._advised.add(rule)
            yield issue


def _violations(results: Any) -> Iterator[tuple[str, str, bool]]:  # noqa: ANN401  pkilint's own
    """Rule, message, and whether it is only a recommendation, of each finding that matters."""
    for result in results:
        for description in result.finding_descriptions:
            code, weight = description.finding.code, description.finding.severity.name
            if weight in {"FATAL", "ERROR", "WARNING"}:
                yield code, escape_unsafe(description.message or "")[:LONGEST], weight == "WARNING" and code not in _SHALL


def _without_object(finding: Finding, der: bytes, *, promised: bool) -> bool:
    if finding.rule == _FALSE_ON_P521:
        return _P521 in der
    return not promised and finding.rule in _PROMISED_NOTHING


def section(rule: str) -> str:
    """Where the rule is written."""
    for pattern, number in _SECTIONS:
        if re.search(pattern, rule.replace(".", " ")):
            return f"S/MIME BR {number}"
    return "RFC 5280" if rule.startswith("pkix.") else "S/MIME BR 7.1"
