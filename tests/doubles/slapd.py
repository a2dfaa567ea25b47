"""A slapd of our own: in a folder, on loopback with TLS, run by nobody important, gone afterwards."""

from __future__ import annotations

import base64
import ipaddress
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.authority import key_usage, rsa_key
from tests.doubles.daemons import free_port, listens, unprivileged
from tests.needs import require

BASE = "dc=example,dc=org"
ADMIN, PASSWORD = f"cn=admin,{BASE}", "a password of the directory"
WRITER, WRITES = f"cn=publisher,{BASE}", "a password of the publisher"
SCHEMAS = Path("/etc/ldap/schema")
# Attributes that Active Directory has, as far as people are read.
MICROSOFT = """
attributetype ( 1.2.840.113556.1.2.210 NAME 'proxyAddresses' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9.1 NAME 'microsoftUser' SUP top AUXILIARY
  MAY ( proxyAddresses $ userAccountControl $ otherMailbox $ userPrincipalName ) )
"""


@dataclass
class Slapd:
    """A running server."""

    folder: Path
    port: int
    secure_port: int
    ca: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        """With StartTLS."""
        return f"ldap://localhost:{self.port}"

    @property
    def ldaps(self) -> str:
        return f"ldaps://localhost:{self.secure_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What lets a client trust it."""
        return {"SSL_CERT_FILE": str(self.ca)}

    def run(self, program: str, *arguments: str, text: str = "") -> str:
        """One of the foreign tools, signed in as who may do everything."""
        done = subprocess.run(
            [require(program), "-x", "-H", f"ldap://127.0.0.1:{self.port}", "-D", ADMIN, "-w", PASSWORD, *arguments],
            input=text.encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def add(self, name: str, *classes: str, **values: str | bytes | Sequence[str | bytes]) -> str:
        """A person below ou=people; the name of the entry."""
        dn = f"uid={name},ou=people,{BASE}"
        self.run("ldapadd", text=entry(dn, ("person", *classes), {"uid": name, "cn": name, "sn": name, **values}))
        return dn

    def change(self, dn: str, text: str) -> None:
        """Lines of an LDIF modification."""
        self.run("ldapmodify", text=f"dn: {dn}\nchangetype: modify\n{text}\n")

    def read(self, dn: str) -> dict[str, list[bytes]]:
        """What lies at a name, as another client sees it."""
        output = self.run("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", dn)
        found: dict[str, list[bytes]] = {}
        for line in output.splitlines():
            name, colon, value = line.partition(":")
            if colon:
                found.setdefault(name, []).append(base64.b64decode(value[2:]) if value.startswith(": ") else value.strip().encode())
        return found

    def stop(self) -> None:
        """End it, and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def entry(dn: str, classes: Sequence[str], values: Mapping[str, str | bytes | Sequence[str | bytes]]) -> str:
    """An entry as LDIF."""
    lines = [f"dn: {dn}", *(f"objectClass: {name}" for name in classes)]
    for name, several in values.items():
        for value in [several] if isinstance(several, str | bytes) else several:
            raw = value if isinstance(value, bytes) else value.encode()
            lines.append(f"{name}:: {base64.b64encode(raw).decode()}")
    return "\n".join(lines) + "\n\n"


@contextmanager
def slapd(  # noqa: PLR0913  what a test may want otherwise
    *, people: str = "", anonymous: str = "read", default_base: bool = True, limit: str = "", extra: str = "", first: str = ""
) -> Iterator[Slapd]:
    """Started, and stopped in the end. `people` is LDIF of further entries; `anonymous` what nobody in particular may do.

    `extra` is for the database, `first` for the whole server.
    """
    server = require("slapd")
    folder = Path(tempfile.mkdtemp(prefix="slapd-"))
    process = None
    try:
        server = shutil.copy(server, folder)  # Ubuntu's AppArmor keeps the one in its place out of our folder
        ca = certificates(folder)
        conf = _configured(folder, anonymous=anonymous, default_base=default_base, limit=limit, extra=extra, first=first)
        (folder / "init.ldif").write_text(_tree() + people, encoding="utf-8")
        prefix = unprivileged(folder)
        done = subprocess.run([*prefix, server, "-Tadd", "-q", "-f", conf, "-l", folder / "init.ldif"], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        process, port, secure = _started(server, prefix, conf, folder)
        yield (running := Slapd(folder, port, secure, ca, process))
        running.stop()
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _tree() -> str:
    def signs_in(dn: str, password: str) -> str:
        return entry(dn, ("organizationalRole", "simpleSecurityObject"), {"cn": dn[3:].partition(",")[0], "userPassword": password})

    return (
        entry(BASE, ("organization", "dcObject"), {"dc": "example", "o": "Example"})
        + entry(f"ou=people,{BASE}", ("organizationalUnit",), {"ou": "people"})
        + signs_in(WRITER, WRITES)
    )


def _configured(folder: Path, *, anonymous: str, default_base: bool, limit: str, extra: str, first: str) -> Path:  # noqa: PLR0913  as above
    (folder / "db").mkdir()
    (folder / "microsoft.schema").write_text(MICROSOFT, encoding="utf-8")
    includes = [*(SCHEMAS / f"{name}.schema" for name in ("core", "cosine", "inetorgperson")), folder / "microsoft.schema"]
    text = "\n".join(
        [
            *(f"include {path}" for path in includes),
            f"pidfile {folder}/slapd.pid",
            "modulepath /usr/lib/ldap",
            "moduleload back_mdb",
            *(f"TLS{name} {folder}/{file}" for name, file in _TLS.items()),
            "TLSVerifyClient never",
            first,
            f'defaultsearchbase "{BASE}"' if default_base else "",
            "database mdb",
            "maxsize 67108864",
            f'suffix "{BASE}"',
            f'rootdn "{ADMIN}"',
            f"rootpw {PASSWORD!r}".replace("'", '"'),
            f"directory {folder}/db",
            "dbnosync",
            "index objectClass,mail eq",
            "access to attrs=userPassword by anonymous auth by * none",
            f'access to * by dn.exact="{WRITER}" write by anonymous {anonymous} by * read',
            limit,
            extra,
        ]
    )
    conf = folder / "slapd.conf"
    conf.write_text(text + "\n", encoding="utf-8")
    return conf


_TLS = {"CACertificateFile": "ca.pem", "CertificateFile": "server.pem", "CertificateKeyFile": "server.key"}


def _started(server: str, prefix: list[str], conf: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """Free ports may be taken by somebody else between looking and listening: then again."""
    for _ in range(5):
        port, secure = free_port(), free_port()
        urls = f"ldap://127.0.0.1:{port}/ ldaps://127.0.0.1:{secure}/"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*prefix, server, "-f", conf, "-h", urls, "-d", "0"], stdout=log, stderr=log)
        if listens(process, port) and listens(process, secure):
            return process, port, secure
        process.kill()
        process.wait()
    raise AssertionError((folder / "log").read_text(errors="replace"))


def certificates(folder: Path) -> Path:
    """An authority that signed localhost's certificate."""
    now = datetime.now(UTC)
    key, own = rsa_key(9101), rsa_key(9102)

    def made(name: str, serial: int, public: x509.CertificateBuilder) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Directory CA")])
        named = public.subject_name(subject).issuer_name(issuer).serial_number(serial)
        return named.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=30))

    authority = (
        made("Directory CA", 1, x509.CertificateBuilder().public_key(key.public_key()))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(("key_cert_sign", "crl_sign")), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = (
        made("localhost", 2, x509.CertificateBuilder().public_key(own.public_key()))
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(authority.public_bytes(ser.Encoding.PEM))
    (folder / "server.pem").write_bytes(server.public_bytes(ser.Encoding.PEM))
    (folder / "server.key").write_bytes(own.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()))
    shutil.copy(folder / "ca.pem", Path(folder / "trusted.pem"))
    return folder / "trusted.pem"
