"""The password of an import, opened with the connector's key by OpenSSL and by Java, which then open the package with it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from distributor.mail.message import Mailbox
from distributor.mail.templates import TemplateRenderer
from distributor.microsoft.connector_key import encrypt, longest_password, parse_key
from distributor.microsoft.pfx_import import ConnectorKey, Padding
from distributor.model.attempts import PackedMessage, PackingJob
from distributor.model.people import Address
from distributor.model.secret import Secret
from distributor.model.states import Way
from distributor.workflows.message_factory import Packer
from tests import intune
from tests.authority import Authority, rsa_key
from tests.identities import material, todo
from tests.needs import require

NAMES = {Padding.SHA256: "sha256", Padding.SHA384: "sha384", Padding.SHA512: "sha512"}
FORMS = {"cng": intune.blob, "pem": intune.pem}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("connector")
    (made / "key.der").write_bytes(intune.CONNECTOR.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    return made


@pytest.fixture(scope="module")
def java(folder: Path) -> Path:
    shutil.copy(Path(__file__).with_name("Decrypt.java"), folder)
    subprocess.run([require("javac"), "-d", str(folder), str(folder / "Decrypt.java")], check=True, timeout=120)
    return folder


def imported(authority: Authority, padding: Padding, form: str, **about: object) -> dict[str, str]:
    """The JSON of a packed import, as it is frozen."""
    identity = authority.issue("alice@example.org", name="Alice")
    task = todo(identity)
    sender = Mailbox(Address("certificates", "example.org"), "Certificate Service")
    packer = Packer(
        TemplateRenderer(None),
        lambda *_: pytest.fail("nobody types the password, so it is not sealed"),
        "Example AG",
        (sender,),
        connector=(FORMS[form](), ConnectorKey(intune.PROVIDER, intune.KEY_NAME, padding)),
    )
    packed = packer(PackingJob(replace(task, way=Way.INTUNE, leaf=identity.der, **about), material(identity), authority.now))
    assert isinstance(packed, PackedMessage)
    assert (packed.sealed, packed.sender, packed.channel) == (None, "", "")
    head, _, body = packed.message.partition(b"\r\n\r\n")
    assert head == b"To: alice@example.org\r\nContent-Type: application/json"
    return json.loads(body)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("padding", Padding)
def test_openssl_opens_the_password_and_the_package(authority: Authority, folder: Path, padding: Padding, form: str) -> None:
    body = imported(authority, padding, form)
    (folder / "password.bin").write_bytes(base64.b64decode(body["encryptedPfxPassword"]))
    (folder / "package.pfx").write_bytes(base64.b64decode(body["encryptedPfxBlob"]))
    name = NAMES[padding]
    options = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", f"rsa_oaep_md:{name}", "-pkeyopt", f"rsa_mgf1_md:{name}"]
    decrypt = ["pkeyutl", "-decrypt", "-inkey", "key.der", "-keyform", "DER", "-in", "password.bin", *options]
    password = openssl(folder, *decrypt)
    opened = openssl(folder, "pkcs12", "-legacy", "-in", "package.pfx", "-nodes", "-passin", f"pass:{password}")
    assert "BEGIN PRIVATE KEY" in opened
    (folder / "leaf.pem").write_text(opened[opened.index("-----BEGIN CERTIFICATE") :])
    print_ = openssl(folder, "x509", "-in", "leaf.pem", "-noout", "-fingerprint", "-sha1")
    assert print_.partition("=")[2].replace(":", "").strip().lower() == body["thumbprint"]


@pytest.mark.parametrize("padding", Padding)
def test_java_opens_the_password(java: Path, padding: Padding) -> None:
    sealed = encrypt(Secret("abcde-fghjk-mnpqr"), parse_key(intune.pem(), "key"), padding)
    name = NAMES[padding].replace("sha", "SHA-")
    command = [require("java"), "-cp", str(java), "Decrypt", name, str(java / "key.der"), sealed]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.strip() == "abcde-fghjk-mnpqr"


@pytest.mark.parametrize(("padding", "longest"), [(Padding.SHA256, 190), (Padding.SHA384, 158), (Padding.SHA512, 126)])  # of 2 048 bits
def test_the_longest_password_fits_and_one_more_does_not(padding: Padding, longest: int) -> None:
    key = rsa_key(78).public_key()
    assert longest_password(key, padding) == longest
    assert encrypt(Secret("x" * longest), key, padding)
    with pytest.raises(ValueError, match="ncrypt"):
        encrypt(Secret("x" * (longest + 1)), key, padding)


def openssl(folder: Path, *command: str) -> str:
    return subprocess.run([require("openssl"), *command], cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout
