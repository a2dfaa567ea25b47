"""A certificate, its anchors, intermediates and CRLs -> the result of pyhanko-certvalidator as an Issue, or None.

It downloads nothing, so it never waits. OCSP is not used: Exchange Online checks CRLs only (facts: exchange.md 1.1).
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any

from asn1crypto import crl, x509
from pyhanko_certvalidator import CertificateValidator, ValidationContext, errors
from pyhanko_certvalidator.authority import CertTrustAnchor, TrustedServiceType, derive_quals_from_cert
from pyhanko_certvalidator.name_trees import default_excluded_subtrees, default_permitted_subtrees
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    CertRevTrustPolicy,
    DisallowWeakAlgorithmsPolicy,
    RevocationCheckingPolicy,
    RevocationCheckingRule,
)

from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe
from distributor.pki.certificate import read

# --- asn1 --------------------------------------------------------------------------------
# Certificates and CRLs in DER -> asn1crypto objects that dump exactly the bytes they were loaded from.
#
# asn1crypto takes every header that ends in 0x80 for one of indefinite length, and writes the whole anew when it is dumped: one
# certificate in 128 or so. What it writes need not be what was signed (`ldap:///…` becomes `ldap://…`), and the signature would be
# checked over other bytes.


class _KeepsBytes:
    """Dumps what was loaded; not for objects that are changed."""

    _header: bytes
    _contents: bytes
    _trailer: bytes

    def dump(self, force: bool = False) -> bytes:  # noqa: ARG002, FBT001, FBT002  asn1crypto's own signature
        """The bytes it was loaded from."""
        return self._header + self._contents + self._trailer


class _Body(_KeepsBytes, x509.TbsCertificate):  # type: ignore[misc]  # asn1crypto has no types
    """The signed part of a certificate."""


class Asn1Certificate(_KeepsBytes, x509.Certificate):  # type: ignore[misc]  # asn1crypto has no types
    """A certificate; `load` is asn1crypto's."""

    _fields = [("tbs_certificate", _Body), *x509.Certificate._fields[1:]]  # noqa: RUF012  asn1crypto's way of declaring fields


class _Listed(_KeepsBytes, crl.TbsCertList):  # type: ignore[misc]  # asn1crypto has no types
    """The signed part of a CRL."""


class Asn1Crl(_KeepsBytes, crl.CertificateList):  # type: ignore[misc]  # asn1crypto has no types
    """A CRL; `load` is asn1crypto's."""

    _fields = [("tbs_cert_list", _Listed), *crl.CertificateList._fields[1:]]  # noqa: RUF012  asn1crypto's way of declaring fields


LONGEST = 300  # characters of the library's words
PARSER_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError, RecursionError, AssertionError)
REPLACE = "report it to the CA, and have a certificate issued by a CA without this fault"
_ASK = "ask the CA"


class RevocationMode(Enum):
    """Which certificates of the path a CRL must cover: all, or none."""

    CRLS = RevocationCheckingRule.CRL_REQUIRED
    PATH_ONLY = RevocationCheckingRule.NO_CHECK


def validate_path(  # noqa: PLR0913, PLR0917  the inputs of path validation
    cert: bytes, anchors: Sequence[bytes], others: Iterable[bytes], crls: Sequence[bytes], now: datetime, rule: RevocationMode
) -> Issue | None:
    """What is wrong with the certificate's path, the certificate included; None: nothing."""
    try:
        policy = RevocationCheckingPolicy(ee_certificate_rule=rule.value, intermediate_ca_cert_rule=rule.value)
        context = ValidationContext(
            trust_roots=[_anchor(one) for one in anchors],
            other_certs=[_parsed(one) for one in others],
            crls=[_listed(one) for one in crls],
            moment=now,
            allow_fetching=False,
            algorithm_usage_policy=_policy(rule),
            revinfo_policy=CertRevTrustPolicy(policy, retroactive_revinfo=True),  # when lists begin is looked at before
        )
        _finish(CertificateValidator(_load(cert), validation_context=context).async_validate_path())
    except (errors.ValidationError, errors.PathError) as error:
        return _issue(error, now)
    except PARSER_ERRORS as error:  # a hostile certificate or list
        return _untrusted(f"cannot check the chain ({type(error).__name__})", REPLACE)
    return None


def _policy(rule: RevocationMode) -> DisallowWeakAlgorithmsPolicy:
    """Which algorithms it refuses. Old hashes and short keys are reported in our own words (checks.py)."""
    how = {"weak_hash_algos": frozenset(), "rsa_key_size_threshold": 0} if rule is RevocationMode.PATH_ONLY else {}
    return DisallowWeakAlgorithmsPolicy(**how)  # type: ignore[no-untyped-call]  # the library lacks the annotation


def _finish(work: Coroutine[Any, Any, ValidationPath]) -> None:
    """Run a coroutine that never waits, without an event loop."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise NotImplementedError


def _load(der: bytes) -> Asn1Certificate:
    loaded: Asn1Certificate = Asn1Certificate.load(der, strict=True)
    return loaded


_parsed = lru_cache(256)(_load)


def _listed(der: bytes) -> Asn1Crl:
    loaded: Asn1Crl = Asn1Crl.load(der)
    return loaded


@lru_cache(64)
def _anchor(der: bytes) -> CertTrustAnchor:
    """A root with its own dates, path length and name constraints, which Windows enforces (RFC 5280 leaves it open), not its policies."""
    root = _load(der)
    bounds = derive_quals_from_cert(root)
    names = bounds.standard_parameters
    if names is not None:  # the library wants a set for every kind of name: without, it forbids the kind, or raises KeyError
        names = replace(
            names,
            user_initial_policy_set=frozenset({"any_policy"}),
            initial_explicit_policy=False,
            initial_permitted_subtrees=default_permitted_subtrees() | (names.initial_permitted_subtrees or {}),
            initial_excluded_subtrees=default_excluded_subtrees() | (names.initial_excluded_subtrees or {}),
        )
    length = bounds.max_path_length  # without the same for attribute authorities the library raises TypeError
    own = replace(bounds, standard_parameters=names, max_aa_path_length=length, trusted_service_type=TrustedServiceType.UNSPECIFIED)
    return CertTrustAnchor(root, own)


def _issue(error: Exception, now: datetime) -> Issue:
    words = _words(error)
    match error:
        case errors.RevokedError():
            return Issue(Severity.ERROR, CheckId.REVOKED, words, REPLACE)
        case errors.StaleRevinfoError():
            return Issue(Severity.ERROR, CheckId.CRL_STALE, words, _ASK)
        case errors.InsufficientRevinfoError():
            return Issue(Severity.ERROR, CheckId.CRL_UNREACHABLE, words, _ASK)
        case errors.ExpiredError():
            return _untrusted(_over(error, now) or words, REPLACE)
    return _untrusted(words, REPLACE)


def _over(error: errors.ExpiredError, now: datetime) -> str | None:
    for one in error.current_path.iter_certs(include_root=True):
        cert = read(one.dump())
        if cert is not None and cert.not_after < now:
            return f'"{cert.name}" in its chain expired on {cert.not_after:%Y-%m-%d}'
    return None


def _words(error: Exception) -> str:
    text = getattr(error, "failure_msg", None) or str(error)
    return escape_unsafe(" ".join(text.replace("The path could not be validated because ", "").split()))[:LONGEST].rstrip(".")


def _untrusted(message: str, hint: str) -> Issue:
    return Issue(Severity.ERROR, CheckId.CHAIN_UNTRUSTED, message, hint)
