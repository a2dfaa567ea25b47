"""What others make of our packages: each program opens both profiles, finds one key and its chain, and refuses a wrong password."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from distributor.model.secret import Secret
from distributor.pki import package
from tests.authority import Authority, Identity, rsa_key
from tests.identities import credential
from tests.needs import require, require_file

PASSWORD = "abcde-fghjk-mnpqr-stuvw-xyzab"
WRONG = "abcde-fghjk-mnpqr-stuvw-xyzac"
NAME = "Alice Example 2026-11"
BOUNCY_CASTLE = "/usr/share/java/bcprov.jar"
KEYS = {"rsa-2048": rsa_key, "rsa-4096": lambda: rsa_key(1, 4096), "ec-p256": lambda: ec.generate_private_key(ec.SECP256R1())}


@dataclass(frozen=True)
class Made:
    """A package in a file, with whom it is for."""

    path: Path
    identity: Identity


@pytest.fixture(scope="module", params=[(profile, kind) for profile in ("phone", "modern") for kind in KEYS], ids="-".join)
def made(request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Made:
    profile, kind = request.param
    identity = authority.issue("alice@example.org", name="Alice Example", key=KEYS[kind]())
    path = tmp_path_factory.mktemp("package") / "Alice Example SMIME 2026.pfx"
    path.write_bytes(package.build(credential(identity), Secret(PASSWORD), profile, NAME))
    return Made(path, identity)


def run(*command: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=typed, capture_output=True, text=True, check=False, timeout=300)


def test_openssl_opens_it_without_its_legacy_provider(made: Made) -> None:
    openssl = require("openssl")
    command = (openssl, "pkcs12", "-in", str(made.path), "-passin", "stdin", "-noenc")
    opened = run(*command, typed=PASSWORD)
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout.count("BEGIN CERTIFICATE") == 2
    assert opened.stdout.count("BEGIN PRIVATE KEY") == 1
    assert opened.stdout.count(f"friendlyName: {NAME}") == 2
    assert run(*command, typed=WRONG).returncode != 0


def test_nss_lists_and_imports_it(made: Made, tmp_path: Path) -> None:
    pk12util, certutil = require("pk12util"), require("certutil")
    database = f"sql:{tmp_path}"
    assert run(certutil, "-N", "-d", database, "--empty-password").returncode == 0
    imported = run(pk12util, "-i", str(made.path), "-d", database, "-W", PASSWORD)
    assert imported.returncode == 0, imported.stderr
    keys = run(certutil, "-K", "-d", database)
    assert keys.stdout.count("< 0>") == 1
    assert NAME in keys.stdout
    assert run(pk12util, "-l", str(made.path), "-d", database, "-W", WRONG).returncode != 0


def test_gnutls_opens_it(made: Made) -> None:
    certtool = require("certtool")
    command = (certtool, "--p12-info", "--inder", "--infile", str(made.path))
    opened = run(*command, "--password", PASSWORD)
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE KEY" in opened.stdout
    assert run(*command, "--password", WRONG).returncode != 0


def test_keytool_shows_one_key_with_its_chain(made: Made, tmp_path: Path) -> None:
    keytool = require("keytool")
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    command = (
        keytool,
        "-J-Duser.language=en",
        "-list",
        "-v",
        "-storetype",
        "PKCS12",
        "-keystore",
        str(made.path),
        "-storepass:file",
        str(password),
    )
    listed = run(*command)
    assert listed.returncode == 0, listed.stdout
    assert "Entry type: PrivateKeyEntry" in listed.stdout
    assert "Certificate chain length: 2" in listed.stdout
    password.write_text(WRONG)
    assert run(*command).returncode != 0


@pytest.fixture(scope="module")
def java_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("java")
    shutil.copy(Path(__file__).with_name("Open.java"), folder)
    compiled = run(require("javac"), "-d", str(folder), str(folder / "Open.java"))
    assert compiled.returncode == 0, compiled.stderr
    return folder


@pytest.mark.slow(reason="starts a Java machine for each; three other parsers stay")
@pytest.mark.parametrize("provider", ["SunJSSE", "BC"])
def test_java_signs_with_the_key_and_verifies_with_the_certificate(made: Made, java_program: Path, provider: str) -> None:
    path = f"{java_program}:{require_file(BOUNCY_CASTLE)}" if provider == "BC" else str(java_program)
    command = (require("java"), "-cp", path, "Open", provider, str(made.path))
    opened = run(*command, typed=PASSWORD)
    assert opened.returncode == 0, opened.stderr
    alias, chain, verified = opened.stdout.strip().split("|")
    assert (NAME.lower(), "2", "true") == (alias.lower(), chain, verified)
    assert run(*command, typed=WRONG).returncode != 0
