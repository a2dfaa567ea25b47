"""Access tokens: JWTs with the claims of Entra's, signed with the double's key. `verify` works in any process that has the public key."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization as ser

ALGORITHM = "RS256"


class Unverified(Exception):
    """A token that must not be believed; `reason` is one of malformed, signature, audience, expired, early."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def verify(token: str, audience: str | Iterable[str], public_key: bytes, *, now: float | None = None) -> dict[str, Any]:
    """The claims of a token that the double signed for this audience. `now` in seconds, real time by default.

    `public_key` is the PEM of `Cloud.signing_key`. Raises Unverified.
    """
    try:
        claims: dict[str, Any] = jwt.decode(token, public_key, [ALGORITHM], options={"verify_signature": True, **UNJUDGED})
    except jwt.InvalidSignatureError as wrong:
        raise Unverified("signature") from wrong
    except jwt.PyJWTError as wrong:
        raise Unverified("malformed") from wrong
    moment = time.time() if now is None else now
    if claims.get("aud") not in ({audience} if isinstance(audience, str) else set(audience)):
        raise Unverified("audience")
    if claims["exp"] <= moment:
        raise Unverified("expired")
    if claims["nbf"] > moment + SKEW:
        raise Unverified("early")
    return claims


UNJUDGED = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False, "verify_iss": False}
SKEW = 300  # seconds


@dataclass(frozen=True)
class TokenSigner:
    """Signs. Its key's id is in the key set that the discovery document names."""

    private_key: bytes
    public_key: bytes

    @classmethod
    def of(cls, private: Path, public: Path) -> TokenSigner:
        return cls(private.read_bytes(), public.read_bytes())

    @property
    def key_id(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.public_key).digest()[:20]).decode().rstrip("=")

    def sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode(dict(claims), self.private_key, ALGORITHM, headers={"kid": self.key_id, "x5t": self.key_id})

    def access_token(self, audience: str, now: float, seconds: float, **claims: object) -> str:
        moment = int(now)
        times = {"iat": moment, "nbf": moment, "exp": moment + int(seconds)}
        return self.sign({"aud": audience, **times, "uti": uuid.uuid4().hex, "ver": "1.0", **claims})

    def key_set(self) -> dict[str, object]:
        numbers = ser.load_pem_public_key(self.public_key).public_numbers()
        parts = {"n": _number(numbers.n), "e": _number(numbers.e)}
        return {"keys": [{"kty": "RSA", "use": "sig", "kid": self.key_id, "alg": ALGORITHM, **parts}]}


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode().rstrip("=")


def peek(token: str) -> dict[str, Any]:
    """The claims of a token, believed or not; {} where there are none."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False, **UNJUDGED})
    except jwt.PyJWTError:
        return {}
    return claims
