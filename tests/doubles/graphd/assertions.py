"""A client assertion (RFC 7523) -> proof of an app: one signed with its registered certificate, or one of a federated issuer."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.doubles.graphd.apps import App, Federated
from tests.doubles.graphd.clock import stamp
from tests.doubles.graphd.refusals import Denied
from tests.doubles.graphd.tokens import SKEW, UNJUDGED

ALGORITHMS = ["PS256", "RS256"]
KIND = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Assertions:
    """Remembers which were seen, for the settings under which none may come twice."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def check(self, app: App, text: str, audiences: set[str], *, now: float, once: bool) -> None:
        """Raises Denied."""
        header, claims = _unverified(text)
        if claims.get("iss") == app.id:
            _by_certificate(app, text, header, claims, audiences)
        else:
            _by_issuer(app, text, claims)
        _in_time(claims, now)
        number = str(claims.get("jti", text))
        if once and number in self.seen:
            raise Denied(50013, "invalid_grant", "Assertion failed signature validation. [Reason - The assertion was replayed.]")
        self.seen.add(number)


def _unverified(text: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        return jwt.get_unverified_header(text), jwt.decode(text, options={"verify_signature": False, **UNJUDGED})
    except jwt.PyJWTError as wrong:
        raise Denied(50027, "invalid_request", "JWT token is invalid or malformed.") from wrong


def _by_certificate(app: App, text: str, header: Mapping[str, Any], claims: Mapping[str, Any], audiences: set[str]) -> None:
    certificate = _named(app, header)
    try:
        jwt.decode(text, certificate.public_key(), ALGORITHMS, options=UNJUDGED)
    except jwt.PyJWTError as wrong:
        raise _bad_signature("The provided signature value did not match the expected signature value.", header) from wrong
    if claims.get("sub") != app.id:
        text = "Client assertion application identifier doesn't match 'client_id' parameter."
        raise Denied(700021, "invalid_client", text, 401)
    if claims.get("aud") not in audiences:
        text = f"Client assertion audience claim does not match Realm issuer. Review the documentation. Audience: '{claims.get('aud')}'."
        raise Denied(700023, "invalid_client", text, 401)


def _named(app: App, header: Mapping[str, Any]) -> x509.Certificate:
    """The registered certificate whose thumbprint the header has; by SHA-1 only where the app is flagged for it."""
    for certificate in app.certificates:
        if _same(header.get("x5t#S256"), certificate.fingerprint(hashes.SHA256())):
            return certificate
        if app.sha1_thumbprints and _same(header.get("x5t"), certificate.fingerprint(hashes.SHA1())):  # noqa: S303  the header's own
            return certificate
    raise _bad_signature("The key was not found.", header)


def _same(given: object, fingerprint: bytes) -> bool:
    return isinstance(given, str) and given.rstrip("=") == base64.urlsafe_b64encode(fingerprint).decode().rstrip("=")


def _bad_signature(reason: str, header: Mapping[str, Any]) -> Denied:
    shown = header.get("x5t#S256") or header.get("x5t")
    text = f"Client assertion contains an invalid signature. [Reason - {reason}, Thumbprint of key used by client: '{shown}'.]"
    return Denied(700027, "invalid_client", text, 401)


def _by_issuer(app: App, text: str, claims: Mapping[str, Any]) -> None:
    issuer, subject, audience = claims.get("iss"), claims.get("sub"), claims.get("aud")
    if not app.federated:
        shown = f"Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'."
        raise Denied(70021, "invalid_request", f"No matching federated identity record found for presented assertion. {shown}")
    trusted = [one for one in app.federated if one.issuer == issuer]
    if not trusted:
        raise _no_record(700211, "issuer", issuer)
    trusted = [one for one in trusted if one.subject == subject]
    if not trusted:
        raise _no_record(700213, "subject", subject)
    trusted = [one for one in trusted if one.audience == audience]
    if not trusted:
        raise _no_record(700212, "audience", audience)
    _signed_by(trusted[0], text)


def _no_record(number: int, what: str, value: object) -> Denied:
    text = (
        f"No matching federated identity record found for presented assertion {what} '{value}'. "
        "Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
    )
    return Denied(number, "invalid_client", text, 401)


def _signed_by(issuer: Federated, text: str) -> None:
    try:
        jwt.decode(text, issuer.key, ["RS256", "ES256"], options=UNJUDGED)
    except jwt.PyJWTError as wrong:
        raise Denied(50013, "invalid_client", "Assertion failed signature validation. [Reason - The key was not found.]", 401) from wrong


def _in_time(claims: Mapping[str, Any], now: float) -> None:
    starts, ends = float(claims.get("nbf", claims.get("iat", 0))), float(claims.get("exp", 0))
    if not starts - SKEW <= now < ends:
        text = (
            f"Client assertion is not within its valid time range. Current time: {stamp(now)}, "
            f"assertion valid from {stamp(starts)}, expiry time of assertion {stamp(ends)}."
        )
        raise Denied(700024, "invalid_client", text, 401)
