"""PFX files taken apart and put together again, and what opening them says."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from asn1crypto import pkcs12 as asn1
from asn1crypto.algos import DigestInfo

from distributor.model.certificates import FilePart, ParsedIdentities, SourceMaterial
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.model.secret import Secret
from distributor.pki import parse_material, pbe
from distributor.pki.pbe import EncodedPassword

PASSWORD = "in-comes-a-file"
LIMITS = Limits()


def opened(data: bytes, *passwords: str, expected_sha256: str | None = None, limits: Limits = LIMITS) -> ParsedIdentities:
    part = FilePart("a.pfx", "/a.pfx", None, hashlib.sha256(data).hexdigest(), data)
    return parse_material(SourceMaterial("pkcs12", (part,), tuple(map(Secret, passwords))), limits, expected_sha256=expected_sha256)


def checks(result: ParsedIdentities) -> list[CheckId]:
    return [problem.check for problem in result.problems]


def refused(data: bytes, *passwords: str, limits: Limits = LIMITS) -> CheckId:
    result = opened(data, *passwords, limits=limits)
    assert result.identities == ()
    (problem,) = result.problems
    assert problem.hint
    return problem.check


def mac_again(content: bytes, password: str = PASSWORD) -> bytes:
    """A PFX around an authenticated safe, with a MAC that fits."""
    key = pbe.pkcs12_key("sha1", EncodedPassword.of(password), b"saltsalt", 2048, pbe.MAC, 20)
    digest = DigestInfo({"digest_algorithm": {"algorithm": "sha1"}, "digest": hmac.digest(key, content, "sha1")})
    mac = {"mac": digest, "mac_salt": b"saltsalt", "iterations": 2048}
    safe = {"content_type": "data", "content": content}
    whole: bytes = asn1.Pfx({"version": "v3", "auth_safe": safe, "mac_data": mac}).dump()
    return whole


def safes_of(data: bytes) -> list[object]:
    return list(asn1.Pfx.load(data).authenticated_safe)


def together(files: Iterable[bytes]) -> bytes:
    """All that is in several PFX files, in one."""
    return mac_again(asn1.AuthenticatedSafe([safe for data in files for safe in safes_of(data)]).dump())


def only(data: bytes, kind: str) -> bytes:
    """The same file with only its certificates ("encrypted_data") or its keys ("data")."""
    return mac_again(asn1.AuthenticatedSafe([safe for safe in safes_of(data) if safe["content_type"].native == kind]).dump())  # type: ignore[index]
