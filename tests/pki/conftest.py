"""Alice, and PFX files by OpenSSL's own program."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization as ser

from tests.authority import Authority, Identity
from tests.needs import require
from tests.pfx import PASSWORD


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org", name="Alice Example")


@pytest.fixture(scope="module")
def made(alice: Identity, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """A PFX by OpenSSL's own program."""
    folder = tmp_path_factory.mktemp("openssl")
    chain = b"".join(c.public_bytes(ser.Encoding.PEM) for c in alice.chain)
    (folder / "all.pem").write_bytes(alice.key_pem() + alice.pem + chain)

    def run(*options: str, password: str = PASSWORD) -> bytes:
        where = folder / "out.pfx"
        program = [
            require("openssl"),
            "pkcs12",
            "-export",
            "-in",
            str(folder / "all.pem"),
            "-out",
            str(where),
            "-passout",
            f"pass:{password}",
        ]
        subprocess.run([*program, *options], check=True, capture_output=True)
        return where.read_bytes()

    return run
