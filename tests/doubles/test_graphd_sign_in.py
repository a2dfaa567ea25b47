"""The Graph double signs apps and people in as Entra does, and lets them do what they were granted."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx2
import jwt
import msal
import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser

from tests.authority import Authority, Identity, rsa_key
from tests.doubles.graphd import Cloud, Unverified, verify
from tests.doubles.graphd.caller import SECRET, Caller, certificate, code, connected, signed_in, signing_in
from tests.doubles.graphd.client import new_client


@pytest.fixture(scope="module")
def leaf() -> Identity:
    return Authority().issue("app.example.org")


# --- signing in ------------------------------------------------------------------------------------------------------


def test_a_secret_gets_a_token_with_the_roles_that_were_granted(cloud: Cloud) -> None:
    app = cloud.app(secrets={SECRET: None}, roles=["Mail.Send"])
    claims = verify(signed_in(cloud, app)["access_token"], cloud.graph, cloud.signing_key)
    assert (claims["roles"], claims["appid"], claims["tid"], claims["exp"] - claims["iat"]) == (["Mail.Send"], app, cloud.tenant, 3599)


def test_a_certificate_signs_in_by_its_sha256_thumbprint(cloud: Cloud, leaf: Identity) -> None:
    app = cloud.app(certificates=[leaf.pem.decode()], roles=["Mail.Send"])
    assert "access_token" in signed_in(cloud, app, certificate(leaf))


def test_a_sha1_thumbprint_is_taken_only_where_it_is_allowed(cloud: Cloud, leaf: Identity) -> None:
    old = certificate(leaf, thumbprint=leaf.certificate.fingerprint(hashes.SHA1()).hex())  # noqa: S303
    app = cloud.app(certificates=[leaf.pem.decode()])
    assert signed_in(cloud, app, old)["error_codes"] == [700027]
    cloud.app(app, sha1_thumbprints=True)
    assert "access_token" in signed_in(cloud, app, old)


WRONG: dict[str, tuple[Callable[[Cloud], dict[str, Any]], str, int]] = {
    "a wrong secret": (lambda cloud: signed_in(cloud, cloud.app(secrets={SECRET: None}), "another"), "invalid_client", 7000215),
    "an expired secret": (lambda cloud: signed_in(cloud, cloud.app(secrets={SECRET: 1.0})), "invalid_client", 7000222),
    "an unknown app": (lambda cloud: signed_in(cloud, str(uuid.uuid4())), "unauthorized_client", 700016),
    "a disabled app": (lambda cloud: signed_in(cloud, cloud.app(secrets={SECRET: None}, enabled=False)), "unauthorized_client", 7000112),
    "no consent": (lambda cloud: signed_in(cloud, cloud.app(secrets={SECRET: None}, consented=False)), "invalid_grant", 65001),
    "an unknown resource": (
        lambda cloud: signed_in(cloud, cloud.app(secrets={SECRET: None}), scope="https://nowhere.example/.default"),
        "invalid_resource",
        500011,
    ),
    "a scope without .default": (
        lambda cloud: signed_in(cloud, cloud.app(secrets={SECRET: None}), scope=f"{cloud.graph}/Mail.Send"),
        "invalid_scope",
        1002012,
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_refused_sign_in_speaks_as_entra_does(cloud: Cloud, what: str) -> None:
    act, error, number = WRONG[what]
    body = act(cloud)
    assert (body["error"], body["error_codes"]) == (error, [number])
    assert re.match(rf"AADSTS{number}: .* Trace ID: \S+ Correlation ID: \S+ Timestamp: \S+ \S+Z$", body["error_description"])


def test_a_certificate_that_is_not_registered_is_refused(cloud: Cloud, leaf: Identity) -> None:
    other = Authority().issue("other.example.org", key=rsa_key(7))
    app = cloud.app(certificates=[other.pem.decode()])
    assert signed_in(cloud, app, certificate(leaf))["error_codes"] == [700027]


def test_a_signature_by_another_key_is_refused(cloud: Cloud, leaf: Identity) -> None:
    app = cloud.app(certificates=[leaf.pem.decode()])
    forged = {"private_key": Identity(rsa_key(7), leaf.certificate).key_pem().decode(), "public_certificate": leaf.pem.decode()}
    body = signed_in(cloud, app, forged)
    assert body["error_codes"] == [700027]
    assert "signature value did not match" in body["error_description"]


def test_an_unknown_tenant_has_no_discovery(cloud: Cloud) -> None:
    with (
        pytest.raises(ValueError, match=r"authority configuration"),
        signing_in(cloud, cloud.app(), authority=f"{cloud.login}/nowhere.example"),
    ):
        pass


def test_a_tenant_goes_by_its_domain_too(cloud: Cloud) -> None:
    app = cloud.app(secrets={SECRET: None})
    assert "access_token" in signed_in(cloud, app, authority=f"{cloud.login}/example.org")


def federated(key: rsa_key, **claims: object) -> dict[str, object]:
    now = int(time.time())
    usual = {"iss": "https://issuer.example", "sub": "system:job", "aud": "api://AzureADTokenExchange", "iat": now, "exp": now + 600}
    return {"client_assertion": lambda: jwt.encode({**usual, **claims}, key, "RS256")}


FEDERATED = {"iss": 700211, "sub": 700213, "aud": 700212, "exp": 700024}


@pytest.mark.parametrize("wrong", ["", *FEDERATED])
def test_a_workload_signs_in_with_an_assertion_of_its_issuer(cloud: Cloud, wrong: str) -> None:
    public = rsa_key(8).public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo).decode()
    app = cloud.app(federated=[{"issuer": "https://issuer.example", "subject": "system:job", "key": public}])
    body = signed_in(cloud, app, federated(rsa_key(8), **({wrong: 1 if wrong == "exp" else "another"} if wrong else {})))
    assert body.get("error_codes", []) == ([FEDERATED[wrong]] if wrong else [])


def test_a_workload_without_a_trusted_issuer_or_with_a_wrong_key_is_refused(cloud: Cloud) -> None:
    assert signed_in(cloud, cloud.app(), federated(rsa_key(8)))["error_codes"] == [70021]
    public = rsa_key(8).public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo).decode()
    app = cloud.app(federated=[{"issuer": "https://issuer.example", "subject": "system:job", "key": public}])
    assert signed_in(cloud, app, federated(rsa_key(7)))["error_codes"] == [50013]


def test_a_device_code_waits_for_its_person(cloud: Cloud) -> None:
    app, person = cloud.app(delegated=["Mail.Send"]), f"{uuid.uuid4().hex[:8]}@example.org"
    cloud.mailbox(person)
    with requests.Session() as session:
        session.verify, session.trust_env = str(cloud.ca), False
        public = msal.PublicClientApplication(app, authority=cloud.authority, instance_discovery=False, http_client=session)
        flow = public.initiate_device_flow([f"{cloud.graph}/Mail.Send"])
        endpoint, form = f"{cloud.authority}/oauth2/v2.0/token", {"client_id": app, "device_code": flow["device_code"]}
        form["grant_type"] = "urn:ietf:params:oauth:grant-type:device_code"
        assert [session.post(endpoint, data=form).json()["error"] for _ in range(2)] == ["authorization_pending", "slow_down"]
        cloud.approve(flow["user_code"], person)
        result = public.acquire_token_by_device_flow(flow)
        claims = verify(result["access_token"], cloud.graph, cloud.signing_key)
        assert (claims["scp"], claims["upn"], "roles" in claims) == ("Mail.Send", person, False)
        (account,) = public.get_accounts()
        again = public.acquire_token_silent([f"{cloud.graph}/Mail.Send"], account, force_refresh=True)
        assert again["access_token"] != result["access_token"]
    with connected(cloud, again["access_token"]) as http:
        other = new_client(cloud, ExitStack())
        assert code(http.post(f"/users/{other.address}/messages/x/send")) == "ErrorAccessDenied"
        assert code(http.post(f"/users/{person}/messages/x/send")) == "ErrorItemNotFound"
        other.http.close()


@pytest.mark.parametrize("place", ["machine_identity", "app_service_identity"])
def test_a_managed_identity_gets_a_token_without_any_secret(cloud: Cloud, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = cloud.app(managed="user", roles=["Mail.Send"])
    for name, value in getattr(cloud, place).items():
        monkeypatch.setenv(name, value)
    with requests.Session() as session:
        session.trust_env = False
        identity = msal.ManagedIdentityClient(msal.UserAssignedManagedIdentity(client_id=app), http_client=session)
        token = identity.acquire_token_for_client(resource=cloud.graph)["access_token"]
        nobody = msal.ManagedIdentityClient(msal.UserAssignedManagedIdentity(client_id="none"), http_client=session)
        assert "access_token" not in nobody.acquire_token_for_client(resource=cloud.graph)
    assert verify(token, cloud.graph, cloud.signing_key)["roles"] == ["Mail.Send"]


def test_the_machine_identity_wants_its_header(cloud: Cloud) -> None:
    url = f"http://127.0.0.1:{cloud.identity_port}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=x"
    assert httpx2.get(url, trust_env=False).json()["error_description"] == "Required metadata header not specified"


def test_a_token_for_smtp_is_another_token(cloud: Cloud) -> None:
    app = cloud.app(secrets={SECRET: None}, roles=["Mail.Send"], outlook_roles=["SMTP.SendAsApp"])
    token = signed_in(cloud, app, scope="https://outlook.office365.com/.default")["access_token"]
    assert verify(token, "https://outlook.office365.com", cloud.signing_key)["roles"] == ["SMTP.SendAsApp"]
    with pytest.raises(Unverified, match="audience"):
        verify(token, cloud.graph, cloud.signing_key)
    with connected(cloud, token) as http:
        answer = http.get("/users")
    assert (answer.status_code, code(answer)) == (401, "InvalidAuthenticationToken")


def test_the_discovered_keys_verify_a_token(cloud: Cloud) -> None:
    app = cloud.app(secrets={SECRET: None})
    context = ssl.create_default_context(cafile=cloud.ca)
    (key,) = httpx2.get(f"{cloud.authority}/discovery/v2.0/keys", verify=context, trust_env=False).json()["keys"]
    assert jwt.decode(cloud.token(app), jwt.PyJWK(key).key, ["RS256"], audience=cloud.graph)["appid"] == app


def test_sign_in_goes_wrong_on_demand(cloud: Cloud) -> None:
    app = cloud.app(secrets={SECRET: None})
    cloud.fault("token", "aadsts", number=50034, text="The user account does not exist.")
    assert signed_in(cloud, app)["error_codes"] == [50034]
    cloud.fault("token", "status", status=429, retry_after=7)
    assert signed_in(cloud, app)["error"] == "temporarily_unavailable"
    cloud.fault("token", "504-before")
    with pytest.raises(msal.exceptions.MsalServiceError):
        signed_in(cloud, app)
    cloud.fault("discovery", "reset-before")
    with pytest.raises(requests.exceptions.ConnectionError):
        signed_in(cloud, app)
    assert "access_token" in signed_in(cloud, app)


def assertion(cloud: Cloud, app: str, identity: Identity, **claims: object) -> dict[str, str]:
    """A client assertion made by hand, and what the token endpoint says to it."""
    now, endpoint = int(time.time()), f"{cloud.authority}/oauth2/v2.0/token"
    usual = {"iss": app, "sub": app, "aud": endpoint, "iat": now, "exp": now + 600, "jti": str(uuid.uuid4())}
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(identity.der).digest()).decode().rstrip("=")
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    form = {"client_id": app, "grant_type": "client_credentials", "scope": cloud.scope, "client_assertion_type": kind}
    form["client_assertion"] = jwt.encode({**usual, **claims}, identity.key, "PS256", headers={"x5t#S256": thumbprint})
    context = ssl.create_default_context(cafile=cloud.ca)
    return dict(httpx2.post(endpoint, data=form, verify=context, trust_env=False).json())


@pytest.mark.parametrize(
    ("claims", "wanted"), [({"aud": "x"}, 700023), ({"exp": 1}, 700024), ({"nbf": 2**33}, 700024), ({"sub": "x"}, 700021)]
)
def test_an_assertion_has_to_be_for_this_endpoint_this_app_and_this_hour(
    cloud: Cloud, leaf: Identity, claims: dict[str, object], wanted: int
) -> None:
    app = cloud.app(certificates=[leaf.pem.decode()])
    assert "access_token" in assertion(cloud, app, leaf)
    assert assertion(cloud, app, leaf, **claims)["error_codes"] == [wanted]


def test_an_assertion_may_come_twice_unless_told_otherwise(cloud: Cloud, leaf: Identity) -> None:
    app = cloud.app(certificates=[leaf.pem.decode()])
    assert ["access_token" in assertion(cloud, app, leaf, jti="one") for _ in range(2)] == [True, True]
    with cloud.during(replayed_assertions="refused"):
        assert assertion(cloud, app, leaf, jti="one")["error_codes"] == [50013]


# --- who may do what -------------------------------------------------------------------------------------------------


def test_an_expired_a_revoked_and_a_missing_token_are_refused(client: Caller) -> None:
    cloud = client.cloud
    with connected(cloud, cloud.token(client.app, seconds=-1)) as http:
        assert http.get("/users").status_code == 401
    with connected(cloud, "") as http:
        del http.headers["Authorization"]
        assert "Access token is empty" in http.get("/users").text
    assert client.list().status_code == 200
    cloud.revoke_tokens()
    assert (client.list().status_code, client.list().headers["www-authenticate"][:6]) == (401, "Bearer")


def test_a_token_expires_by_the_doubles_clock(later: Caller) -> None:
    assert later.list().status_code == 200
    later.cloud.advance(3600)
    assert later.list().status_code == 401


def test_a_permission_that_was_not_granted_is_missed(cloud: Cloud) -> None:
    with ExitStack() as stack:
        client = new_client(cloud, stack, roles=["Mail.Send"])
        assert (client.list().status_code, code(client.list())) == (403, "ErrorAccessDenied")
        assert code(client.http.get("/users")) == "Authorization_RequestDenied"
        assert client.send("x").status_code == 404


def test_a_larger_permission_covers_a_smaller_one(cloud: Cloud) -> None:
    with ExitStack() as stack:
        assert new_client(cloud, stack, roles=["Mail.ReadWrite"]).list().status_code == 200


def test_an_app_is_held_to_its_mailboxes(cloud: Cloud) -> None:
    with ExitStack() as stack:
        client = new_client(cloud, stack, mailboxes=["other@example.org"])
        assert client.list().json()["error"]["message"] == "Access to OData is disabled."
        cloud.app(client.app, mailboxes=[client.address.upper()])
        assert client.list().status_code == 200


def test_nobody_and_somebody_without_a_mailbox_are_told_apart(client: Caller) -> None:
    user = client.cloud.user("unlicensed@example.org")
    assert code(client.http.get("/users/nobody@example.org/messages")) == "ErrorInvalidUser"
    assert code(client.http.get(f"/users/{user}/messages")) == "MailboxNotEnabledForRESTAPI"
