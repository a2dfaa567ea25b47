"""The connector of Intune as tests have it: its key in the forms in which it is exported, and a workspace with [intune]."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.authority import rsa_key
from tests.doubles.graphd import Cloud
from tests.workspace import Workspace

Run = Callable[[str], subprocess.CompletedProcess[str]]
PROVIDER, KEY_NAME = "Microsoft Software Key Storage Provider", "PFXEncryptionKey"
ROLES = ["DeviceManagementConfiguration.ReadWrite.All", "User.Read.All"]
CONNECTOR = rsa_key(77)


def blob(key: rsa.RSAPrivateKey = CONNECTOR) -> bytes:
    """A CNG public key blob, as Export-IntunePublicKey writes it (facts: intune.md 4.5)."""
    numbers = key.public_key().public_numbers()
    exponent, modulus = numbers.e.to_bytes(3), numbers.n.to_bytes(key.key_size // 8)
    return b"RSA1" + struct.pack("<5I", key.key_size, len(exponent), len(modulus), 0, 0) + exponent + modulus


def pem(key: rsa.RSAPrivateKey = CONNECTOR) -> bytes:
    """The other form that it writes."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private(key: rsa.RSAPrivateKey = CONNECTOR) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def prepare(cloud: Cloud) -> None:
    """Give the double the connector's key."""
    cloud.intune(
        keys=[(PROVIDER, KEY_NAME, private())], records={}, written={}, refusals=[], licensed=True, visible_after=0.0, opens_packages=True
    )


def configure(workspace: Workspace, cloud: Cloud, roles: list[str] | None = None, more: str = "", padding: str = "oaepSha512") -> str:
    """Add [intune] and the exported key; the app's id."""
    app = cloud.app(secrets={"s3cret": None}, roles=ROLES if roles is None else roles)
    (workspace.folder / "connector.pub").write_bytes(blob())
    table = (
        f'[intune]\ntenant = "{cloud.tenant}"\nclient_id = "{app}"\nsecret = "env:APP_SECRET"\nlogin = "{cloud.login}"\n'
        f'graph = "{cloud.graph}"\n{more}[intune.connector]\npublic_key = "connector.pub"\nkey_name = "{KEY_NAME}"\npadding = "{padding}"\n'
    )
    config = workspace.folder / "distributor.toml"
    config.write_text(f"{config.read_text(encoding='utf-8')}\n{table}", encoding="utf-8")
    return app


def runner(workspace: Workspace, cloud: Cloud) -> Run:
    """Runs a command of the workspace as the app."""
    return lambda command: workspace.run(command, **cloud.environment, APP_SECRET="s3cret")


def people(cloud: Cloud, *addresses: str) -> list[str]:
    return [cloud.user(address) for address in addresses]


def key_file(folder: Path, name: str = "connector.pub") -> Path:
    path = folder / name
    path.write_bytes(blob())
    return path
