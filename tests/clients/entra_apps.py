"""Apps registered with the Entra double, and how a client signs in with them."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.clients.app_registration import AccessToken, AppRegistration
from distributor.clients.entra import entra
from distributor.errors import ServiceUnavailable
from distributor.model.secret import Secret
from tests.authority import Authority, Identity, rsa_key
from tests.doubles.graphd import Cloud

SECRET = "a-secret-of-the-app-8Q~z"


def registered(cloud: Cloud, **more: object) -> AppRegistration:
    """An app with a secret, and the sign-in of whoever knows it."""
    app = cloud.app(secrets={SECRET: None}, roles=["Mail.Send"], outlook_roles=["SMTP.SendAsApp"])
    return AppRegistration(**{"tenant": cloud.tenant, "client_id": app, "secret": Secret(SECRET), "login": cloud.login, **more})


def by_certificate(cloud: Cloud, leaf: Identity, text: bytes | str, password: str | None = None) -> AppRegistration:
    app = cloud.app(certificates=[leaf.pem.decode()], roles=["Mail.Send"])
    secret = Secret(text.decode() if isinstance(text, bytes) else text)
    word = Secret(password) if password else None
    return AppRegistration(tenant=cloud.tenant, client_id=app, certificate=secret, certificate_password=word, login=cloud.login)


def signed_in(sign_in: AppRegistration, resource: str, **options: object) -> AccessToken:
    return asyncio.run(entra(sign_in, **options).token(resource))


def refused(sign_in: AppRegistration, resource: str, **options: object) -> ServiceUnavailable:
    with pytest.raises(ServiceUnavailable) as caught:
        signed_in(sign_in, resource, **options)
    return caught.value


def questions(cloud: Cloud) -> int:
    return len(cloud.requests("token"))


def armoured(pfx: bytes) -> str:
    """As config/secrets.py gives a PFX."""
    return f"-----BEGIN PKCS12-----\n{base64.encodebytes(pfx).decode()}-----END PKCS12-----"


def assertion(**claims: object) -> str:
    now = int(time.time())
    usual = {"iss": "https://issuer.example", "sub": "system:job", "aud": "api://AzureADTokenExchange", "iat": now, "exp": now + 600}
    return jwt.encode({**usual, "jti": str(uuid.uuid4()), **claims}, rsa_key(8), "RS256")


def workload(cloud: Cloud, file: Path, text: str, *, trusted: bool = True) -> AppRegistration:
    public = rsa_key(8).public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo).decode()
    trust = [{"issuer": "https://issuer.example", "subject": "system:job", "key": public}] if trusted else []
    file.write_text(text, encoding="ascii")
    return AppRegistration(
        tenant=cloud.tenant, client_id=cloud.app(federated=trust, roles=["Mail.Send"]), assertion=file, login=cloud.login
    )


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Trusted by SSL_CERT_FILE alone; what requests would look at names something else."""
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(running.folder / "signing.pub.pem"))
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield running
    faults = running.faults()
    running.clear_faults()
    assert faults == []


@pytest.fixture(scope="module")
def leaf() -> Identity:
    return Authority().issue("app.example.org")
