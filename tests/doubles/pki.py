"""A certification authority on loopback: roots, intermediates and people's certificates as a test wants them, and where their CRLs lie.

`Server.pages` maps a path to what lies there: bytes, a status, a redirect, or a function that speaks for itself.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from tests.authority import DUAL, Identity, Key, key_of, key_usage

DAY = timedelta(days=1)
Answer = bytes | int | str | Callable[[BaseHTTPRequestHandler], None]
Extension = tuple[x509.ExtensionType, bool]


def der(what: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return what.public_bytes(ser.Encoding.DER)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Server:
    """What lies where, and how often it was asked for."""

    url: str
    pages: dict[str, Answer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    hosts: list[str] = field(default_factory=list)

    def put(self, path: str, what: Answer) -> str:
        """Something at a path; its URL."""
        self.pages[path] = what
        return f"{self.url}{path}"


class _Handler(BaseHTTPRequestHandler):
    pki: Server

    def do_GET(self) -> None:
        self.pki.asked[self.path] += 1
        self.pki.hosts.append(self.headers.get("Host", ""))
        match self.pki.pages.get(self.path, 404):
            case bytes() as body:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            case int() as status:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            case str() as place:
                self.send_response(302)
                self.send_header("Location", place)
                self.send_header("Content-Length", "0")
                self.end_headers()
            case speak:
                speak(self)

    do_POST = do_GET  # noqa: N815  a name of the library

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Four(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _Six(_Four):
    address_family = socket.AF_INET6


@contextmanager
def server(*, six: bool = False, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A web server on a free port of loopback."""
    made = Server("")
    handler = type("Handler", (_Handler,), {"pki": made})
    listening = (_Six if six else _Four)(("::1" if six else "127.0.0.1", 0), handler)
    if tls is not None:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    made.url = f"http{'s' if tls else ''}://{'[::1]' if six else '127.0.0.1'}:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@dataclass(frozen=True)
class CA:
    """An authority: its key, its certificate, and those above it."""

    key: Key
    certificate: x509.Certificate
    above: tuple[CA, ...] = ()

    @property
    def der(self) -> bytes:
        return der(self.certificate)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """From this one up to the root."""
        return (self.certificate, *(one.certificate for one in self.above))

    def crl(  # noqa: PLR0913  each argument is one way in which a list can be wrong
        self,
        *revoked: int | tuple[int, x509.ReasonFlags],
        now: datetime | None = None,
        begins: timedelta = -DAY,
        lasts: timedelta = 7 * DAY,
        number: int = 1,
        issuer: x509.Name | None = None,
        key: Key | None = None,
        extensions: Sequence[Extension] = (),
    ) -> bytes:
        """A list of this authority's; `key` and `issuer` forge it."""
        moment = now or datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer or self.certificate.subject)
            .last_update(moment + begins)
            .next_update(moment + begins + lasts)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        for one in revoked:
            serial, reason = one if isinstance(one, tuple) else (one, None)
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment - 2 * DAY)
            builder = builder.add_revoked_certificate((entry.add_extension(x509.CRLReason(reason), False) if reason else entry).build())
        return der(builder.sign(key or self.key, hashes.SHA256()))

    def sub(self, name: str, key: Key | None = None, **how: object) -> CA:
        """An authority below this one."""
        own = key or ec_key()
        made = certificate(name, own, self, ca=True, **how)  # type: ignore[arg-type]  # they are certificate's own
        return CA(own, made, (self, *self.above))

    def again(self, above: CA, **how: object) -> CA:
        """The same name and key certified by another authority."""
        name = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        made = certificate(str(name), self.key, above, ca=True, **how)  # type: ignore[arg-type]
        return CA(self.key, made, (above, *above.above))

    def person(self, address: str, key: Key | None = None, **how: object) -> Identity:
        """Somebody's certificate; the file holds this authority's too."""
        own = key or key_of(address)
        made = certificate(address, own, self, addresses=(address,), **how)  # type: ignore[arg-type]
        return Identity(own, made, self.chain)


def root(name: str = "Root", key: Key | None = None, **how: object) -> CA:
    """An authority of its own."""
    own = key or ec_key()
    return CA(own, certificate(name, own, None, ca=True, **how))  # type: ignore[arg-type]


def without_chain(identity: Identity) -> Identity:
    """Only the person's certificate in the file."""
    return replace(identity, chain=())


def certificate(  # noqa: PLR0913  each argument is one way in which a certificate can be wrong
    name: str,
    key: Key,
    issuer: CA | None,
    *,
    ca: bool = False,
    addresses: Sequence[str] = (),
    crl: str | Sequence[str] = (),
    aia: str | Sequence[str] = (),
    points: Sequence[x509.DistributionPoint] | None = None,
    path_length: int | None = None,
    starts: timedelta = -10 * DAY,
    lasts: timedelta = 400 * DAY,
    usage: Sequence[str] | None = None,
    signing_key: Key | None = None,
    extensions: Sequence[Extension] = (),
    serial: int | None = None,
    bare: bool = False,
) -> x509.Certificate:
    """A certificate; `signing_key` forges it, `bare` leaves basic constraints out."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = signing_key or (issuer.key if issuer else key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + starts + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer.key if issuer else key).public_key()), critical=False)
    )
    if not bare:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    builder = builder.add_extension(key_usage(usage or (("key_cert_sign", "crl_sign") if ca else DUAL)), critical=True)
    if addresses:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(one) for one in addresses]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    named = points if points is not None else [_point(one) for one in ([crl] if isinstance(crl, str) else crl)]
    if named:
        builder = builder.add_extension(x509.CRLDistributionPoints(named), critical=False)
    places = [aia] if isinstance(aia, str) else aia
    if places:
        about = AuthorityInformationAccessOID.CA_ISSUERS
        access = [x509.AccessDescription(about, x509.UniformResourceIdentifier(one)) for one in places]
        builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


def _point(url: str) -> x509.DistributionPoint:
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)


def point(url: str, *, reasons: frozenset[x509.ReasonFlags] | None = None, issuer: x509.Name | None = None) -> x509.DistributionPoint:
    """A distribution point of a kind of its own."""
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, reasons, [x509.DirectoryName(issuer)] if issuer else None)
