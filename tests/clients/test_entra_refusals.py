"""Sign-ins that Entra refuses or does not answer, in our words, and no secret anywhere but in the request."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import traceback
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec

from distributor.clients import msal_client
from distributor.clients.app_registration import AppRegistration, SignInUnavailable
from distributor.clients.entra import check, entra
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.redaction import REDACTED
from distributor.model.secret import Secret
from tests.authority import Authority, Identity, rsa_key
from tests.clients.entra_apps import (
    SECRET,
    armoured,
    assertion,
    by_certificate,
    cloud,
    leaf,
    questions,
    refused,
    registered,
    signed_in,
    workload,
)
from tests.doubles.graphd import Cloud

__all__ = ["cloud", "leaf"]  # fixtures

NOWHERE = "https://127.0.0.1:1"


# --- refusals --------------------------------------------------------------------------------------------------------


REFUSALS: dict[str, tuple[Callable[[Cloud], AppRegistration], int, str, str]] = {
    "a wrong secret": (
        lambda c: registered(c, secret=Secret("guessed")),
        7000215,
        "wrong secret",
        "must be the secret's value, not its ID",
    ),
    "an expired secret": (
        lambda c: registered(c, client_id=c.app(secrets={SECRET: 1.0})),
        7000222,
        "has expired",
        "store its value in `transport.secret`",
    ),
    "an unknown app": (lambda c: registered(c, client_id="3f0c"), 700016, 'no app "3f0c"', "not an object ID"),
    "a disabled app": (lambda c: registered(c, client_id=c.app(secrets={SECRET: None}, enabled=False)), 7000112, "disabled", "enable it"),
    "no consent": (
        lambda c: registered(c, client_id=c.app(secrets={SECRET: None}, consented=False)),
        65001,
        "have no consent",
        "admin consent",
    ),
    "an unknown tenant": (lambda c: registered(c, tenant="nowhere.example"), 90002, '"nowhere.example"', "transport.tenant"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_entra_has_against_a_sign_in_is_told_with_what_to_do(cloud: Cloud, what: str) -> None:
    make, number, message, hint = REFUSALS[what]
    error = refused(make(cloud), cloud.graph)
    assert not isinstance(error, SignInUnavailable)
    assert (error.where, error.exit_code) == (f"localhost:{cloud.port}", 4)
    assert message in error.message
    assert error.message.endswith(f"(AADSTS{number})")
    assert hint in str(error.hint)
    assert not {"Trace", "Correlation", "Timestamp"} & set(re.findall(r"\w+", f"{error} {error.hint}"))


def test_a_service_that_the_tenant_does_not_know_is_named(cloud: Cloud) -> None:
    error = refused(registered(cloud), "https://nowhere.example")
    assert error.message == 'the tenant has no service "https://nowhere.example" (AADSTS500011)'


def test_a_certificate_that_is_not_registered_is_told(cloud: Cloud, leaf: Identity) -> None:
    other = Authority().issue("other.example.org", key=rsa_key(7))
    error = refused(by_certificate(cloud, leaf, other.pem + other.key_pem()), cloud.graph, key="transport.oauth")
    assert error.message == "the certificate is not registered with the app (AADSTS700027)"
    assert "transport.oauth.certificate" in str(error.hint)


@pytest.mark.parametrize(
    ("claims", "number", "word"),
    [
        ({"iss": "https://else.example"}, 700211, "issuer"),
        ({"sub": "else"}, 700213, "subject"),
        ({"aud": "else"}, 700212, "audience"),
        ({"exp": 1}, 700024, "has expired or is not valid yet"),
    ],
)
def test_a_workloads_token_that_does_not_match_is_told(
    cloud: Cloud, tmp_path: Path, claims: dict[str, object], number: int, word: str
) -> None:
    text = assertion(**claims)
    error = refused(workload(cloud, tmp_path / "token", text), cloud.graph)
    assert f"AADSTS{number}" in error.message
    assert word in error.message
    assert "transport.assertion" in str(error.hint)
    assert text not in f"{error}{error.hint}"


def test_an_app_that_trusts_no_workload_is_told(cloud: Cloud, tmp_path: Path) -> None:
    error = refused(workload(cloud, tmp_path / "token", assertion(), trusted=False), cloud.graph)
    assert error.message == "the app has no federated credential for the token's issuer (AADSTS70021)"


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (53003, "conditional access"),
        (50034, "no such account"),
        (50055, "expired"),
        (50076, "second factor"),
        (7000218, "sign people in"),
        (900382, "another cloud"),
        (501051, "no role"),
    ],
)
def test_numbers_of_entra_have_words_of_ours(cloud: Cloud, number: int, word: str) -> None:
    cloud.fault("token", "aadsts", number=number)
    error = refused(registered(cloud), cloud.graph)
    assert word in error.message
    assert error.message.endswith(f"(AADSTS{number})")
    assert error.hint
    assert "{" not in f"{error.message}{error.hint}"


def test_of_an_unknown_number_the_first_sentence_is_told_and_nothing_behind_it(cloud: Cloud) -> None:
    text = "The moon\x1b[2J is in the wrong house. Consult the stars of eyJhbGciOi."
    cloud.fault("token", "aadsts", number=1234567, text=text)
    error = refused(registered(cloud), cloud.graph)
    assert error.message == 'sign-in refused (AADSTS1234567): "The moon\\x1b[2J is in the wrong house"'


@pytest.mark.parametrize("repeated", [SECRET, SECRET.upper(), SECRET[:12], base64.b64encode(SECRET.encode()).decode()])
def test_a_secret_that_the_service_repeats_is_not_told(cloud: Cloud, repeated: str) -> None:
    cloud.fault("token", "aadsts", number=1234567, text=f"Nobody knows {repeated} here.")
    error = refused(registered(cloud), cloud.graph)
    assert error.message == f'sign-in refused (AADSTS1234567): "Nobody knows {REDACTED} here"'


@pytest.mark.parametrize("number", [90033, 50196])
def test_an_error_that_passes_is_no_fault_of_the_configuration(cloud: Cloud, number: int) -> None:
    cloud.fault("token", "aadsts", number=number, error="temporarily_unavailable")
    assert isinstance(refused(registered(cloud), cloud.graph), SignInUnavailable)


def test_a_machine_without_that_identity_is_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.machine_identity.items():
        monkeypatch.setenv(name, value)
    error = refused(AppRegistration(managed_identity=True, client_id="none"), cloud.graph)
    assert error.message == 'sign-in refused (HTTP 400): "Identity not found"'
    assert "transport.client_id" in str(error.hint)


def test_a_machine_without_any_identity_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    error = refused(AppRegistration(managed_identity=True, client_id=str(uuid.uuid4())), "https://graph.microsoft.com")
    assert str(error) == "the machine's identity service: connection refused"
    assert "Azure" in str(error.hint)


# --- the line --------------------------------------------------------------------------------------------------------


def test_a_login_where_nobody_listens_is_named(cloud: Cloud) -> None:
    error = refused(registered(cloud, login=NOWHERE), cloud.graph)
    assert isinstance(error, SignInUnavailable)
    assert str(error) == "127.0.0.1:1: connection refused"


@pytest.mark.parametrize("operation", ["discovery", "token"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("reset-before", r"connection reset by peer|the connection was cut"),
        ("garbage", "unexpected response|the connection was cut"),
        ("truncated", "unexpected response|the connection was cut"),
        ("504-before", r"asks to try again later \(AADSTS90033\)"),
        ("html", r"asks to try again later \(HTTP 502\)"),
    ],
)
def test_a_broken_line_is_told_and_the_next_one_is_tried(cloud: Cloud, operation: str, fault: str, words: str) -> None:
    sign_in = registered(cloud)
    cloud.fault(operation, fault)
    error = refused(sign_in, cloud.graph)
    assert isinstance(error, SignInUnavailable)
    assert re.search(words, error.message)
    assert error.where == f"localhost:{cloud.port}"


def test_a_broken_line_is_no_reason_to_give_up_for_ever(cloud: Cloud) -> None:
    client = entra(registered(cloud))
    for operation in ("discovery", "token"):
        cloud.fault(operation, "reset-before")
        with pytest.raises(SignInUnavailable):
            asyncio.run(client.token(cloud.graph))
    assert asyncio.run(client.token(cloud.graph)).roles == {"Mail.Send"}


def test_a_page_instead_of_a_token_is_told(cloud: Cloud) -> None:
    cloud.fault("token", "html", status=200)
    assert refused(registered(cloud), cloud.graph).message == "unexpected response"


def test_an_untrusted_login_is_refused_whatever_requests_would_trust(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.pem").write_bytes(Authority().root.public_bytes(ser.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(cloud.ca))
    before = questions(cloud)
    error = refused(registered(cloud), cloud.graph)
    assert error.message.startswith("the certificate is not trusted")
    assert "SSL_CERT_FILE" in str(error.hint)
    assert questions(cloud) == before


def test_a_proxy_of_the_environment_is_used(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    assert refused(registered(cloud), cloud.graph).message == "the proxy: connection refused"


def test_a_redirect_carries_the_secret_nowhere(cloud: Cloud) -> None:
    app = registered(cloud)
    cloud.fault("token", "status", status=307, headers={"Location": f"{cloud.login}/{cloud.tenant}/oauth2/v2.0/token"})
    before = questions(cloud)
    refused(app, cloud.graph)
    assert questions(cloud) == before + 1


# --- what is looked at before anything is sent -----------------------------------------------------------------------


def ec_leaf() -> bytes:
    found = Authority().issue("ec.example.org", key=ec.generate_private_key(ec.SECP256R1()))
    return found.pem + found.key_pem()


FAULTY: dict[str, tuple[Callable[[Identity], tuple[bytes | str, str | None]], str, str]] = {
    "expired": (lambda _: (pair(days=10, starts=timedelta(days=-30)), None), "the certificate expired on 20", "certificate"),
    "too early": (lambda _: (pair(starts=timedelta(days=2)), None), "is not valid before 20", "certificate"),
    "another key": (lambda leaf: (leaf.pem + Identity(rsa_key(7), leaf.certificate).key_pem(), None), "does not match", "certificate"),
    "no key": (lambda leaf: (leaf.pem, None), "no private key found", "certificate"),
    "no certificate": (lambda leaf: (leaf.key_pem(), None), "no certificate found", "certificate"),
    "neither": (lambda _: ("hello", None), "no private key found", "certificate"),
    "not RSA": (lambda _: (ec_leaf(), None), "not an RSA key", "certificate"),
    "damaged": (lambda leaf: (leaf.pem.replace(b"MII", b"M!I=", 1) + leaf.key_pem(), None), "(damaged|cannot be read)", "certificate"),
    "wrong password": (lambda leaf: (leaf.pem + leaf.key_pem("right"), "wrong"), "wrong password for its key", "certificate_password"),
    "no password": (lambda leaf: (leaf.pem + leaf.key_pem("right"), None), "its key needs a password", "certificate_password"),
    "wrong pfx password": (lambda leaf: (armoured(leaf.pfx("right")), "wrong"), "wrong password for the PFX", "certificate_password"),
    "no pfx password": (lambda leaf: (armoured(leaf.pfx("right")), None), "the PFX needs a password", "certificate_password"),
    "der": (lambda leaf: (armoured(leaf.der), None), "neither PEM nor PFX", "certificate"),
}


def pair(**validity: object) -> bytes:
    found = Authority().issue("app.example.org", **validity)
    return found.pem + found.key_pem()


@pytest.mark.parametrize("what", FAULTY)
def test_a_certificate_that_cannot_sign_in_is_told_before_anything_is_sent(cloud: Cloud, leaf: Identity, what: str) -> None:
    make, words, field = FAULTY[what]
    sign_in = by_certificate(cloud, leaf, *make(leaf))
    found = check(sign_in, "transport.oauth")
    assert isinstance(found, InvalidInput)
    assert (found.where, bool(found.hint)) == (f"transport.oauth.{field}", True)
    assert re.search(words, found.message)
    before = questions(cloud)
    error = refused(sign_in, cloud.graph, key="transport.oauth")
    assert (error.where, error.message, error.hint) == (found.where, found.message, found.hint)
    assert questions(cloud) == before


GOOD = {"tenant": "example.org", "client_id": "id", "secret": Secret("x")}


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"secret": None}, "transport", "no credential is configured"),
        ({"certificate": Secret("y")}, "transport", "certificate and secret cannot be combined"),
        ({"managed_identity": True}, "transport", "secret and managed_identity cannot be combined"),
        ({"device_code": True, "assertion": Path("x")}, "transport", "secret and assertion and device_code cannot be combined"),
        ({"tenant": ""}, "transport.tenant", "missing"),
        ({"tenant": "a/b"}, "transport.tenant", "not a tenant ID or domain"),
        ({"tenant": "common"}, "transport.tenant", 'cannot sign in at "common"'),
        ({"client_id": ""}, "transport.client_id", "missing"),
        ({"certificate_password": Secret("z")}, "transport.certificate_password", "without a certificate"),
        ({"login": "http://login.example"}, "transport.login", "https"),
        ({"login": "https://login.example/tenant"}, "transport.login", "https"),
        ({"login": "https://user@login.example"}, "transport.login", "https"),
        ({"login": "login.example"}, "transport.login", "https"),
    ],
)
def test_a_sign_in_that_cannot_work_is_told_by_its_key(changes: dict[str, Any], where: str, words: str) -> None:
    found = check(AppRegistration(**{**GOOD, **changes}), "transport")
    assert isinstance(found, InvalidInput)
    assert found.where == where
    assert words in found.message
    assert found.hint


@pytest.mark.parametrize(
    "sign_in",
    [
        AppRegistration(**GOOD),
        AppRegistration(**{**GOOD, "login": "https://login.microsoftonline.us/"}),
        AppRegistration(**{**GOOD, "secret": Secret("")}),
        AppRegistration(tenant="t", client_id="c", certificate=Secret(""), certificate_password=Secret("")),
        AppRegistration(tenant="common", client_id="c", device_code=True),
        AppRegistration(managed_identity=True),
    ],
)
def test_a_sign_in_that_may_work_passes_and_a_secret_that_was_not_opened_counts_as_there(sign_in: AppRegistration) -> None:
    assert check(sign_in, "transport") is None


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_a_repr_an_error_a_traceback_or_a_log(
    cloud: Cloud, leaf: Identity, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    key = leaf.pem + leaf.key_pem()
    good, wrong, certified = registered(cloud), registered(cloud, secret=Secret("hunter2-hunter2")), by_certificate(cloud, leaf, key)
    token, another = signed_in(good, cloud.graph), signed_in(certified, cloud.graph)
    seen = [repr((good, certified, token, another)), caplog.text]
    cloud.fault("token", "garbage", skip=1)
    for sign_in in (wrong, registered(cloud)):
        with pytest.raises(ServiceUnavailable) as caught:
            signed_in(sign_in, cloud.graph)
        seen += ["".join(traceback.format_exception(caught.value)), str(caught.value), str(caught.value.hint)]
    text = "\n".join([*seen, caplog.text, *capfd.readouterr()])
    body = leaf.key_pem().decode().splitlines()[3]
    for secret in (SECRET, "hunter2-hunter2", body, token.secret.reveal()[:40], another.secret.reveal()[-40:]):
        assert secret not in text


def test_an_opaque_token_says_nothing_of_itself() -> None:
    for text in ("opaque", "a.b.c", "a.bm90IGpzb24.c", "a.WzFd.c"):
        token = msal_client._token(text, {"expires_in": 60})  # noqa: SLF001  Entra's are never opaque for Graph
        assert (token.roles, token.scopes) == (frozenset(), frozenset())
