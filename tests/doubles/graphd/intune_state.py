"""What Intune has: imported certificates, configurations, profiles and apps; and the connector's keys, which open the packages."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

HASHES = {"oaepSha256": hashes.SHA256, "oaepSha384": hashes.SHA384, "oaepSha512": hashes.SHA512}


@dataclass
class Intune:
    """`keys`: the connector's private keys by provider and name. `visible_after`: seconds until a new record can be read."""

    keys: dict[tuple[str, str], rsa.RSAPrivateKey] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    configurations: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    apps: list[dict[str, Any]] = field(default_factory=list)
    connectors: list[dict[str, Any]] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)  # POST and PATCH that changed a record, by its id
    refusals: list[str] = field(default_factory=list)
    licensed: bool = True
    opens_packages: bool = True  # else only the passwords are opened, and `opened` does the rest
    visible_after: float = 0.0
    shows_blob: str = "AA=="

    def set(self, **given: Any) -> None:  # noqa: ANN401  a test's own
        for name, value in given.items():
            match name:
                case "keys":
                    self.keys = {(provider, key): _private(pem) for provider, key, pem in value}
                case "written":
                    self.written = Counter(value)
                case "apps":
                    self.apps = [_app(*one) for one in value]
                case _ if hasattr(self, name):
                    setattr(self, name, value)
                case _:
                    raise ValueError(f"Intune has no {name}")

    def opened(self, start: int, number: int) -> list[dict[str, Any]]:
        """What the connector would install: for each record its user, purpose, certificate and whether the package opens."""
        return [self._opened(id_, record) for id_, record in list(self.records.items())[start : start + number]]

    def _opened(self, id_: str, record: dict[str, Any]) -> dict[str, Any]:
        password = self.password(record)
        certificate = open_package(base64.b64decode(record["encryptedPfxBlob"]), password)
        about = {name: record[name] for name in ("userPrincipalName", "intendedPurpose", "thumbprint")}
        return {"id": id_, **about, "certificate": certificate, "writes": self.written[id_]}

    def password(self, record: dict[str, Any]) -> bytes:
        key = self.keys[record["providerName"], record["keyName"]]
        chosen = HASHES[record["paddingScheme"]]()
        return key.decrypt(base64.b64decode(record["encryptedPfxPassword"]), padding.OAEP(padding.MGF1(chosen), chosen, None))


def _private(pem: str) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _app(name: str, kind: str) -> dict[str, Any]:
    return {"@odata.type": f"#microsoft.graph.{kind}", "id": str(uuid.uuid4()), "displayName": name}


def open_package(data: bytes, password: bytes) -> str:
    """The SHA-1 of the certificate whose key is in the package. Raises ValueError."""
    key, certificate, _ = load_key_and_certificates(data, password)
    if key is None or certificate is None or key.public_key() != certificate.public_key():
        raise ValueError("the package has no key with its certificate")
    return hashlib.sha1(certificate.public_bytes(Encoding.DER)).hexdigest()  # noqa: S324  the thumbprint


def state(intune: Intune) -> dict[str, Any]:
    """For the test's handle."""
    parts = ("records", "configurations", "profiles", "refusals")
    found = {name: getattr(intune, name) for name in parts}
    found["records"] = {id_: {**record, "encryptedPfxBlob": ""} for id_, record in intune.records.items()}  # they are large
    return {**found, "written": dict(intune.written)}
