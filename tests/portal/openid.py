"""A real OpenID provider on loopback: the npm package oidc-provider, installed once for this machine's user from the pinned lock."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs
from tests.run import locked

HERE = Path(__file__).parent / "provider"
TENANT = "5f2b1c9e-8f4f-4b7e-9a53-0c2f8f1d6a10"
CLIENT, SECRET = "portal", "a-secret-of-the-portal-in-the-tests"
Accounts = Mapping[str, Mapping[str, object]]


def installed() -> Path:
    """The folder with the provider and its packages."""
    needs.require("node")
    npm = needs.require("npm")
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"distributor-openid-{os.getuid()}-{lock}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder / "lock"):
        if not (folder / "done").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, folder)
            home = pwd.getpwuid(os.getuid()).pw_dir  # with the user's npm configuration
            words = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(words, cwd=folder, env={**os.environ, "HOME": home}, capture_output=True, timeout=300, check=False)
            if done.returncode:
                needs.lacking("the npm package oidc-provider")
            (folder / "done").touch()
    shutil.copy(HERE / "provider.js", folder)
    return folder


@dataclass(frozen=True)
class Provider:
    """A running provider."""

    issuer: str


@contextmanager
def provider(folder: Path, accounts: Accounts, redirect_uri: str, *, entra: bool = False) -> Iterator[Provider]:
    """Run a provider with these accounts, by their `sub`. As Entra's, its issuer names a tenant, and its ID tokens have all claims."""
    client = {"client_id": CLIENT, "client_secret": SECRET, "redirect_uris": [redirect_uri], "grant_types": ["authorization_code"]}
    path = f"/{TENANT}/v2.0" if entra else "/oidc"
    given = {"path": path, "conform": not entra, "clients": [{**client, "response_types": ["code"]}], "accounts": accounts}
    file = folder / f"provider-{'entra' if entra else 'oidc'}.json"
    file.write_text(json.dumps(given), encoding="utf-8")
    words = [needs.require("node"), str(installed() / "provider.js"), str(file)]
    with (folder / "provider.log").open("ab") as log, subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            issuer = process.stdout.readline().strip()
            if not issuer:
                pytest.fail((folder / "provider.log").read_text(encoding="utf-8"))
            yield Provider(issuer)
        finally:
            process.kill()
