"""A time-stamping authority on loopback: OpenSSL answers the requests (RFC 3161)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.authority import Key
from tests.doubles import pki
from tests.needs import require

TYPE = "application/timestamp-query"
SETTINGS = """\
[tsa]
default_tsa = this
[this]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.4146.2.3
digests = sha256, sha384, sha512
ess_cert_id_alg = {named}
"""


@dataclass
class Authority:
    """Where it listens, and its files; `types` are those of the requests that it got."""

    url: str
    folder: Path
    types: list[str | None] = field(default_factory=list)

    def reply(self, query: bytes) -> bytes:
        """Answer a request."""
        (self.folder / "query").write_bytes(query)
        words = ["ts", "-reply", "-config", "settings", "-queryfile", "query", "-out", "reply"]
        subprocess.run([require("openssl"), *words], cwd=self.folder, check=True, capture_output=True)
        return (self.folder / "reply").read_bytes()

    def check(self, token: Path, data: Path) -> str:
        """What OpenSSL says about a token for a file."""
        words = ["ts", "-verify", "-token_in", "-in", str(token), "-data", str(data), "-CAfile", str(self.folder / "root.pem")]
        return subprocess.run([require("openssl"), *words], capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def authority(
    folder: Path, *, key: Key | None = None, named: str = "sha256", usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING
) -> Iterator[Authority]:
    """An authority. `key` is RSA unless given, `named` the hash by which a token names its certificate, `usage` what that is for."""
    root, own = pki.root("Time Root"), key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
    extended = (x509.ExtendedKeyUsage([usage]), True)
    certificate = pki.certificate("Time Stamping", own, root, extensions=[extended], usage=("digital_signature",), bare=True)
    folder.mkdir()
    (folder / "tsa.pem").write_bytes(certificate.public_bytes(ser.Encoding.PEM))
    (folder / "root.pem").write_bytes(root.certificate.public_bytes(ser.Encoding.PEM))
    (folder / "tsa.key").write_bytes(own.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()))
    (folder / "serial").write_text("01\n", encoding="ascii")
    (folder / "settings").write_text(SETTINGS.format(folder=folder, named=named), encoding="ascii")
    with pki.server() as server:
        made = Authority("", folder)

        def speak(handler: BaseHTTPRequestHandler) -> None:
            made.types.append(handler.headers.get("Content-Type"))
            body = made.reply(handler.rfile.read(int(handler.headers["Content-Length"])))
            handler.send_response(200)
            handler.send_header("Content-Type", "application/timestamp-reply")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        made.url = server.put("/tsa", speak)
        yield made
