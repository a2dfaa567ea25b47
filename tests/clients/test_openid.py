"""What an OpenID provider may get wrong, or an attacker may try: every check of the ID token by a provider that breaks one rule."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from distributor.clients.app_registration import SignInUnavailable
from distributor.clients.openid import LARGEST, OpenIdProvider
from distributor.errors import InvalidInput
from distributor.model.secret import Secret
from distributor.model.sign_in import SignInCancelled, SignInRefused

REDIRECT = "http://localhost:8000/signed-in"
TENANT = "5f2b1c9e-8f4f-4b7e-9a53-0c2f8f1d6a10"


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    del number
    return ec.generate_private_key(ec.SECP256R1())


def pem(number: int) -> bytes:
    return key(number).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def jwk(number: int) -> dict[str, Any]:
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key(number).public_key()))
    return {**public, "kid": f"key-{number}", "use": "sig", "alg": "ES256"}


@dataclass
class Hostile:
    """A provider that signs whatever a test asks it to."""

    path: str = "/oidc"
    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)  # over the right ones; None removes one
    metadata: dict[str, Any] = field(default_factory=dict)
    keys: list[int] = field(default_factory=lambda: [1])
    signs: int = 1
    algorithm: str = "ES256"
    nonce: str = ""
    user_info: dict[str, Any] = field(default_factory=dict)
    token_status: int = 200
    requests: list[str] = field(default_factory=list)
    forms: list[dict[str, list[str]]] = field(default_factory=list)

    def token(self) -> str:
        now = int(time.time())
        right: dict[str, Any] = {"iss": self.issuer, "aud": "portal", "sub": "u-1", "iat": now, "exp": now + 600, "auth_time": now}
        claims = {name: value for name, value in {**right, "nonce": self.nonce, **self.claims}.items() if value is not None}
        if self.algorithm == "none":
            return jwt.encode(claims, None, "none")
        if self.algorithm == "HS256":  # with the public key as the secret
            public = key(1).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            return jwt.encode(claims, base64.b64encode(public), "HS256", headers={"kid": "key-1"})
        return jwt.encode(claims, pem(self.signs), self.algorithm, headers={"kid": f"key-{self.signs}"})

    def answer(self, path: str) -> tuple[int, Any]:
        root = self.issuer
        if path.endswith("/.well-known/openid-configuration"):
            places = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "jwks", "userinfo_endpoint": "me"}
            right = {name: f"{root}/{place}" for name, place in places.items()}
            return 200, {"issuer": root, **right, **self.metadata}
        if path.endswith("/jwks"):
            return 200, {"keys": [jwk(number) for number in self.keys]}
        if path.endswith("/me"):
            return 200, self.user_info
        if path.endswith("/token"):
            return self.token_status, {"access_token": "an-access-token", "token_type": "Bearer", "id_token": self.token()}
        return 404, {}


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    yield from serve(Hostile())


@pytest.fixture
def entra() -> Iterator[Hostile]:
    yield from serve(Hostile(path=f"/{TENANT}/v2.0"))


def serve(made: Hostile) -> Iterator[Hostile]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            made.requests.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if body:
                made.forms.append(parse_qs(body.decode()))
            status, found = made.answer(self.path)
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815  as the base class calls them

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.issuer = f"http://127.0.0.1:{server.server_port}{made.path}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def opened(provider: Hostile) -> OpenIdProvider:
    return OpenIdProvider(provider.issuer, "portal", Secret("s3cret"))


def begin(provider: Hostile, client: OpenIdProvider, *, fresh: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """A sign-in that has begun, and the provider's answer to it."""
    uri, flow = client.start(REDIRECT, fresh=fresh)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(uri).query).items()}
    provider.nonce = asked["nonce"]
    return flow, {"code": "a-code", "state": asked["state"]}


def test_the_request_has_pkce_state_nonce_and_no_secret(hostile: Hostile) -> None:
    uri, flow = opened(hostile).start(REDIRECT, fresh=True)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(uri).query).items()}
    assert uri.startswith(f"{hostile.issuer}/auth?")
    assert (asked["response_type"], asked["code_challenge_method"], asked["max_age"]) == ("code", "S256", "300")
    digest = hashlib.sha256(flow["code_verifier"].encode()).digest()
    assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert len(asked["state"]) >= 22
    assert len(asked["nonce"]) >= 22
    assert "s3cret" not in uri


def test_a_right_answer_is_accepted(hostile: Hostile) -> None:
    client = opened(hostile)
    hostile.claims = {"email": "alice@example.org", "email_verified": True, "groups": ["g-1"], "name": "Alice"}
    found = client.finish(*begin(hostile, client, fresh=True))
    assert (found.account.issuer, found.account.subject) == (hostile.issuer, "u-1")
    assert (found.email, found.groups, found.entra) == ("alice@example.org", frozenset({"g-1"}), False)
    assert found.authenticated_at is not None
    assert hostile.forms[0]["code_verifier"]


BROKEN: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "the issuer with a slash": {"iss": "SLASH"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "another-app"},
    "several audiences without azp": {"aud": ["portal", "another-app"]},
    "another authorized party": {"azp": "another-app"},
    "several audiences, the other's azp": {"aud": ["portal", "another-app"], "azp": "another-app"},
    "expired": {"exp": int(time.time()) - 3600},
    "no expiry": {"exp": None},
    "of the future": {"nbf": int(time.time()) + 3600},
    "another nonce": {"nonce": "x" * 64},
    "no nonce": {"nonce": None},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "no auth_time": {"auth_time": None},
    "auth_time as text": {"auth_time": "now"},
    "an old sign-in": {"auth_time": int(time.time()) - 4000},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_claim_that_is_wrong_ends_the_sign_in(hostile: Hostile, what: str) -> None:
    client = opened(hostile)
    begun = begin(hostile, client, fresh=True)
    hostile.claims = {name: f"{hostile.issuer}/" if value == "SLASH" else value for name, value in BROKEN[what].items()}
    with pytest.raises(SignInRefused):
        client.finish(*begun)


@pytest.mark.parametrize(("algorithm", "signs"), [("none", 1), ("HS256", 1), ("ES256", 2)])
def test_a_token_that_the_provider_did_not_sign_ends_the_sign_in(hostile: Hostile, algorithm: str, signs: int) -> None:
    client = opened(hostile)
    begun = begin(hostile, client)
    hostile.algorithm, hostile.signs = algorithm, signs
    with pytest.raises(SignInRefused):
        client.finish(*begun)


def test_a_key_with_the_right_id_and_another_value_does_not_verify(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened(hostile)
    begun = begin(hostile, client)
    stranger = pem(2)
    monkeypatch.setattr(f"{__name__}.pem", lambda _: stranger)
    with pytest.raises(SignInRefused, match="InvalidSignature"):
        client.finish(*begun)


def test_a_new_key_of_the_provider_is_found(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened(hostile)
    client.finish(*begin(hostile, client))
    hostile.keys, hostile.signs = [1, 3], 3
    monkeypatch.setattr("distributor.clients.openid.BETWEEN", 0.0)
    assert client.finish(*begin(hostile, client)).account.subject == "u-1"


def test_unknown_key_ids_do_not_cause_a_download_each(hostile: Hostile) -> None:
    client = opened(hostile)
    hostile.signs = 4
    for _ in range(5):
        with pytest.raises(SignInRefused, match="unknown key"):
            client.finish(*begin(hostile, client))
    assert sum(request.endswith("/jwks") for request in hostile.requests) == 1


@pytest.mark.parametrize("answer", [{"state": "x"}, {"state": ""}, {"code": "a-code"}])
def test_an_answer_with_another_state_is_refused_before_the_code_is_used(hostile: Hostile, answer: dict[str, str]) -> None:
    client = opened(hostile)
    flow, right = begin(hostile, client)
    with pytest.raises(SignInRefused, match="state"):
        client.finish(flow, {"code": right["code"], **answer} if "state" in answer else answer)
    assert not any(request.startswith("POST") for request in hostile.requests)


def test_an_answer_that_names_another_issuer_is_refused(hostile: Hostile) -> None:
    client = opened(hostile)
    flow, answer = begin(hostile, client)
    with pytest.raises(SignInRefused, match="another issuer"):
        client.finish(flow, {**answer, "iss": "https://evil.example"})


def test_a_provider_that_names_itself_must_do_so(hostile: Hostile) -> None:
    hostile.metadata = {"authorization_response_iss_parameter_supported": True}
    client = opened(hostile)
    flow, answer = begin(hostile, client)
    with pytest.raises(SignInRefused, match="another issuer"):
        client.finish(flow, answer)
    assert client.finish(flow, {**answer, "iss": hostile.issuer}).account.subject == "u-1"


def test_an_error_of_the_provider_is_named_by_its_code_only(hostile: Hostile) -> None:
    client = opened(hostile)
    flow, answer = begin(hostile, client)
    with pytest.raises(SignInCancelled) as told:
        client.finish(flow, {"state": answer["state"], "error": "access_denied", "error_description": "<script>"})
    assert "script" not in str(told.value)
    with pytest.raises(SignInCancelled, match="unknown error"):
        client.finish(flow, {"state": answer["state"], "error": "<script>"})


def test_a_mail_address_counts_only_when_it_is_verified(hostile: Hostile) -> None:
    client = opened(hostile)
    for verified in (False, None, "true", 1):
        hostile.claims = {"email": "alice@example.org", "email_verified": verified}
        assert client.finish(*begin(hostile, client)).email == ""


def test_claims_of_the_userinfo_endpoint_count_only_for_the_same_subject(hostile: Hostile) -> None:
    client = opened(hostile)
    hostile.user_info = {"sub": "u-1", "email": "alice@example.org", "email_verified": True, "iss": "https://evil.example", "aud": "x"}
    found = client.finish(*begin(hostile, client))
    assert (found.email, found.account.issuer) == ("alice@example.org", hostile.issuer)
    hostile.user_info = {**hostile.user_info, "sub": "u-2"}
    assert client.finish(*begin(hostile, client)).email == ""


def test_a_verified_address_and_an_unverified_one_are_not_mixed(hostile: Hostile) -> None:
    client = opened(hostile)
    hostile.claims = {"email": "bob@example.org"}
    hostile.user_info = {"sub": "u-1", "email": "alice@example.org", "email_verified": True}
    assert client.finish(*begin(hostile, client)).email == ""
    hostile.claims = {"email_verified": True}
    hostile.user_info = {"sub": "u-1", "email": "alice@example.org"}
    assert client.finish(*begin(hostile, client)).email == ""


# --- Entra -----------------------------------------------------------------------------------------------------------


def test_an_account_of_entra_is_known_by_its_object_id_and_its_mail_is_not_used(entra: Hostile) -> None:
    client = opened(entra)
    mail = {"email": "bob@example.org", "email_verified": True, "preferred_username": "bob@example.org"}
    entra.claims = {"oid": "o-1", "tid": TENANT, **mail}
    found = client.finish(*begin(entra, client))
    assert (found.account.subject, found.entra, found.email) == ("o-1", True, "")


@pytest.mark.parametrize("claims", [{"oid": "o-1", "tid": "another"}, {"oid": "o-1"}, {"tid": TENANT}, {"oid": 7, "tid": TENANT}])
def test_an_account_of_another_tenant_or_without_object_id_is_refused(entra: Hostile, claims: dict[str, Any]) -> None:
    client = opened(entra)
    entra.claims = claims
    with pytest.raises(SignInRefused):
        client.finish(*begin(entra, client))


@pytest.mark.parametrize("subject", ["", "x" * 256, "u-1\nforged line", "u-1\u202e"])
def test_a_subject_that_would_harm_a_log_or_a_page_is_refused(hostile: Hostile, subject: str) -> None:
    hostile.claims = {"sub": subject}
    client = opened(hostile)
    with pytest.raises(SignInRefused):
        client.finish(*begin(hostile, client))


def test_groups_that_entra_left_out_are_noticed(entra: Hostile) -> None:
    client = opened(entra)
    entra.claims = {"oid": "o-1", "tid": TENANT, "_claim_names": {"groups": "src1"}}
    assert client.finish(*begin(entra, client)).groups_left_out


# --- metadata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"issuer": "https://login.example/{tenantid}/v2.0"},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
    ],
)
def test_metadata_that_cannot_be_trusted_is_a_fault_of_the_configuration(hostile: Hostile, metadata: dict[str, Any]) -> None:
    hostile.metadata = metadata
    with pytest.raises(InvalidInput) as told:
        opened(hostile).start(REDIRECT, fresh=False)
    assert told.value.where == "portal.authority"


def test_a_document_without_end_is_not_read(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hostile, "answer", lambda *_: (200, b'{"issuer": "' + b"x" * LARGEST + b'"}'))
    with pytest.raises(SignInUnavailable, match="unexpected response"):
        opened(hostile).start(REDIRECT, fresh=False)


def test_a_document_that_arrives_byte_by_byte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributor.clients.openid.PATIENCE", 0.2)
    closed, stop = threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not stop.wait(0.01):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    closed.set()
                    return

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        client = OpenIdProvider(f"http://127.0.0.1:{server.server_port}/oidc", "portal", None)
        told: list[object] = []
        asked = threading.Thread(target=lambda: told.append(_raised(client)), daemon=True)
        asked.start()
        asked.join(20)
        assert [type(each) for each in told] == [SignInUnavailable]
        assert closed.wait(20)  # the connection is closed
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def _raised(client: OpenIdProvider) -> Exception | None:
    try:
        client.read_metadata()
    except SignInUnavailable as error:
        return error
    return None


def test_a_provider_that_cannot_be_reached_is_said(hostile: Hostile) -> None:
    client = OpenIdProvider("http://127.0.0.1:9/oidc", "portal", None)
    with pytest.raises(SignInUnavailable, match="connection refused"):
        client.start(REDIRECT, fresh=False)
    assert client.origins() == ("http://127.0.0.1:9",)
    hostile.token_status = 503
    reached = opened(hostile)
    with pytest.raises(SignInUnavailable):
        reached.finish(*begin(hostile, reached))


def test_old_metadata_serves_while_the_provider_does_not_answer(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened(hostile)
    client.read_metadata()
    monkeypatch.setattr("distributor.clients.openid.LIFETIME", -1.0)
    monkeypatch.setattr(Hostile, "answer", lambda *_: (503, {}))
    assert client.start(REDIRECT, fresh=False)[0].startswith(hostile.issuer)
