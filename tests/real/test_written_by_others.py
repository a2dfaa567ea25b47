"""What other programs write with their default settings, with up to five identities: it opens, within the default limits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.model.certificates import ParsedIdentities
from tests.authority import Authority, Identity, own_key
from tests.needs import require, require_file
from tests.pfx import opened
from tests.real.test_parsers import BOUNCY_CASTLE

PASSWORD = "geheim 2026"
BEYOND_ASCII = "Zürich-2026"
LOCALES = ("C", "C.UTF-8")
_V2 = "PKCS #12 V2 PBE With SHA-1 And"
OLD_NSS = ("-c", f"{_V2} 3KEY Triple DES-CBC", "-C", f"{_V2} 40 Bit RC2 CBC", "-M", "SHA-1")  # its defaults before AES
CASES = pytest.mark.parametrize(
    ("number", "password", "locale"),
    [
        (1, PASSWORD, "C.UTF-8"),
        (1, BEYOND_ASCII, "C.UTF-8"),
        (1, BEYOND_ASCII, "C"),
        pytest.param(5, PASSWORD, "C.UTF-8", marks=pytest.mark.slow(reason="600 000 rounds for each of a dozen parts")),
    ],
)


@pytest.fixture(scope="module")
def five(authority: Authority) -> list[Identity]:
    """One person's certificates; NSS exports all of one subject."""
    return [authority.issue("alice@example.org", name="Alice Example", key=own_key(number)) for number in range(5)]


def run(*command: str, typed: str = "", locale: str = "C.UTF-8") -> None:
    environment = {**os.environ, "LC_ALL": locale}
    done = subprocess.run(command, input=typed.encode(), capture_output=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, (done.stdout, done.stderr)


def found(data: bytes, password: str, people: list[Identity], levels: int = 2) -> bool:
    """Whether the file opens to all of these, each with so many authorities above, and without a problem."""
    result: ParsedIdentities = opened(data, password)
    assert result.problems == ()
    chains = {one.leaf: one.chain for one in result.identities}
    return chains == {who.der: tuple(above.public_bytes(ser.Encoding.DER) for above in who.chain[:levels]) for who in people}


def pem_files(folder: Path, people: list[Identity]) -> tuple[str, str, str]:
    """Keys, certificates, and the authorities above."""
    names = tuple(str(folder / name) for name in ("keys.pem", "certificates.pem", "chain.pem"))
    chain = b"".join(above.public_bytes(ser.Encoding.PEM) for above in people[0].chain)
    contents = (b"".join(who.key_pem() for who in people), b"".join(who.pem for who in people), chain)
    for name, content in zip(names, contents, strict=True):
        Path(name).write_bytes(content)
    return names[0], names[1], names[2]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("password", [PASSWORD, BEYOND_ASCII])
@pytest.mark.parametrize("options", [(), ("-legacy",)], ids=str)
def test_openssl(five: list[Identity], tmp_path: Path, options: tuple[str, ...], password: str, locale: str) -> None:
    keys, certificates, chain = pem_files(tmp_path, five[:1])
    (tmp_path / "password").write_text(password, encoding="utf-8")
    out = tmp_path / "out.p12"
    command = (require("openssl"), "pkcs12", "-export", "-inkey", keys, "-in", certificates, "-certfile", chain, "-out", str(out))
    run(*command, "-passout", f"file:{tmp_path / 'password'}", *options, locale=locale)
    assert found(out.read_bytes(), password, five[:1])


@CASES
def test_gnutls_in_pem_and_der(five: list[Identity], tmp_path: Path, number: int, password: str, locale: str) -> None:
    keys, certificates, chain = pem_files(tmp_path, five[:number])
    out = tmp_path / "out.p12"
    command = (require("certtool"), "--to-p12", "--load-privkey", keys, "--load-certificate", certificates)
    rest = ("--load-ca-certificate", chain, "--p12-name", "alice", "--password", password, "--outfile", str(out))
    in_pem = password == PASSWORD  # its default
    run(*command, *rest, *(() if in_pem else ("--outder",)), locale=locale)
    data = out.read_bytes()
    assert (data[:11] == b"-----BEGIN ") is in_pem
    assert found(data, password, five[:number], 1)  # certtool takes the first authority of a file


@CASES
def test_nss(five: list[Identity], tmp_path: Path, number: int, password: str, locale: str) -> None:
    nss(five, tmp_path, number, password, locale)


@pytest.mark.slow(reason="600 000 rounds for each part, and RC2")
@pytest.mark.parametrize("number", [1, 5])
def test_nss_with_its_old_algorithms(five: list[Identity], tmp_path: Path, number: int) -> None:
    nss(five, tmp_path, number, PASSWORD, "C", *OLD_NSS)


def nss(five: list[Identity], tmp_path: Path, number: int, password: str, locale: str, *options: str) -> None:
    program, database, out = require("pk12util"), f"sql:{tmp_path}", tmp_path / "out.p12"
    run(require("certutil"), "-N", "-d", database, "--empty-password")
    for who in five[:number]:
        (tmp_path / "in.p12").write_bytes(who.pfx(PASSWORD, name="alice"))
        run(program, "-i", str(tmp_path / "in.p12"), "-d", database, "-W", PASSWORD)
    run(program, "-o", str(out), "-n", "alice", "-d", database, "-W", password, *options, locale=locale)
    assert found(out.read_bytes(), password, five[:number])


@pytest.fixture(scope="module")
def java_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("java")
    run(require("javac"), "-d", str(folder), str(Path(__file__).with_name("Write.java")))
    return folder


@pytest.mark.slow(reason="starts a Java machine for each; three other programs stay")
@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize("options", [(), ("-Dkeystore.pkcs12.legacy",)], ids=["today", "legacy"])
@pytest.mark.parametrize("provider", ["SunJSSE", "BC"])
def test_java_and_bouncy_castle(  # noqa: PLR0913, PLR0917  what varies, and fixtures
    five: list[Identity], java_program: Path, tmp_path: Path, provider: str, options: tuple[str, ...], number: int
) -> None:
    path = f"{java_program}:{require_file(BOUNCY_CASTLE)}" if provider == "BC" else str(java_program)
    files, out = [tmp_path / f"{index}.p12" for index in range(number)], tmp_path / "out.p12"
    for file, who in zip(files, five, strict=False):
        file.write_bytes(who.pfx())
    run(require("java"), *options, "-cp", path, "Write", provider, str(out), *map(str, files), typed=PASSWORD)
    assert found(out.read_bytes(), PASSWORD, five[:number])


@pytest.mark.slow(reason="starts a Java machine for each certificate")
def test_keytool(five: list[Identity], tmp_path: Path) -> None:
    out = tmp_path / "out.p12"
    for number, who in enumerate(five):
        (tmp_path / "in.p12").write_bytes(who.pfx(PASSWORD, name="alice"))
        source = ("-srckeystore", str(tmp_path / "in.p12"), "-srcstorepass", PASSWORD, "-srcalias", "alice")
        target = ("-destkeystore", str(out), "-deststorepass", PASSWORD, "-destalias", f"alice {number}")
        run(require("keytool"), "-importkeystore", "-noprompt", *source, *target)
    assert found(out.read_bytes(), PASSWORD, five)
