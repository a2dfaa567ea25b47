"""The Graph double behaves as Microsoft's documents say, signs in real msal, and goes wrong exactly when it is told to."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import http.client
import json
import re
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import jwt
import msal
import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser

from tests.authority import Authority, Identity, rsa_key
from tests.doubles.graphd import Cloud, Refused, Unverified, graphd, verify
from tests.doubles.graphd.caller import SECRET, Caller, certificate, code, connected, signed_in, signing_in, values

ROLES = ["Mail.Send", "Mail.ReadWrite", "User.Read.All", "GroupMember.Read.All", "ExchangeMessageTrace.Read.All"]
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}
EVENTUAL = {"ConsistencyLevel": "eventual"}
PATIENCE = 0.5  # seconds a client waits for an answer that never comes


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """One double for all tests; each has its own app, mailbox and people, and leaves neither faults nor violations."""
    with left_clean(running):
        yield running


@contextmanager
def left_clean(cloud: Cloud) -> Iterator[None]:
    before = len(cloud.violations())
    yield
    faults = cloud.faults()
    cloud.clear_faults()
    assert faults == []
    assert cloud.violations()[before:] == []


@pytest.fixture
def client(cloud: Cloud) -> Iterator[Caller]:
    with ExitStack() as stack:
        yield new_client(cloud, stack)


@pytest.fixture
def later(another: Cloud) -> Iterator[Caller]:
    """A client of a double whose clock is moved; assertions are judged by that clock, so nobody signs in there."""
    with left_clean(another), ExitStack() as stack:
        yield new_client(another, stack)


def new_client(cloud: Cloud, stack: ExitStack, **app: object) -> Caller:
    name = cloud.app(**{"secrets": {SECRET: None}, "roles": ROLES, **app})
    address = f"certs-{name[:8]}@example.org"
    cloud.mailbox(address)
    return Caller(cloud, name, address, stack.enter_context(connected(cloud, cloud.token(name))))


@pytest.fixture(scope="module")
def leaf() -> Identity:
    return Authority().issue("app.example.org")


# --- signing in -----------------------------------------------------------------------------------------------------------


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


# --- who may do what ------------------------------------------------------------------------------------------------------


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


# --- drafts and sending ---------------------------------------------------------------------------------------------------


def test_a_mime_draft_keeps_our_message_id_and_its_bytes(client: Caller) -> None:
    created = client.create(client.mime()).json()
    assert (created["internetMessageId"], created["isDraft"], created["subject"]) == (client.message_id(), True, "message 1")
    assert client.http.get(f"/users/{client.address}/messages/{created['id']}/$value").content == client.mime()
    folder = client.http.get(f"/users/{client.address}/mailFolders/drafts").json()
    assert (created["parentFolderId"], folder["totalItemCount"]) == (folder["id"], 1)


def test_a_sent_draft_is_logged_before_the_answer_and_becomes_the_sent_copy(client: Caller) -> None:
    answer = client.send(client.draft())
    (record,) = client.left()
    assert (answer.status_code, answer.content, record["to"], record["message_id"]) == (
        202,
        b"",
        "alice@elsewhere.example",
        client.message_id(),
    )
    assert client.cloud.bytes_of(record) == client.mime()
    (copy,) = client.by_message_id(folder="sentitems")
    assert (copy["isDraft"], client.by_message_id(folder="drafts")) == (False, [])


def test_a_second_send_finds_nothing_and_sends_nothing(client: Caller) -> None:
    draft = client.draft(**IMMUTABLE)
    assert [client.send(draft).status_code for _ in range(2)] == [202, 404]
    assert len(client.left()) == 1


@pytest.mark.parametrize(("habit", "found"), [("same", 200), ("changed", 404)])
def test_the_immutable_id_survives_the_send_or_does_not(client: Caller, habit: str, found: int) -> None:
    draft = client.draft(**IMMUTABLE)
    with client.cloud.during(id_after_send=habit):
        client.send(draft)
    assert client.http.get(f"/users/{client.address}/messages/{draft}", headers=IMMUTABLE).status_code == found


@pytest.mark.parametrize(("looks", "seen"), [("draft", [True]), ("hidden", [])])
def test_the_sent_copy_takes_its_time(later: Caller, looks: str, seen: list[bool]) -> None:
    draft = later.draft()
    with later.cloud.during(sent_after=30, under_way=looks):
        later.send(draft)
        assert [one["isDraft"] for one in later.by_message_id()] == seen
        assert later.send(draft).status_code == 404
        later.cloud.advance(31)
        assert [one["isDraft"] for one in later.by_message_id(folder="sentitems")] == [False]


def test_a_message_from_somebody_else_is_refused_unless_allowed(client: Caller) -> None:
    draft = client.create(client.mime(sender="boss@example.org")).json()["id"]
    assert (client.send(draft).status_code, code(client.send(draft)), client.left()) == (403, "ErrorSendAsDenied", [])
    client.cloud.mailbox(client.address, send_as=["boss@example.org"])
    assert client.send(client.create(client.mime(sender="boss@example.org")).json()["id"]).status_code == 202


def test_a_recipient_that_is_no_address_is_refused(client: Caller) -> None:
    for to in ("nobody", "", "a b@example.org"):
        assert code(client.send(client.create(client.mime(to=to)).json()["id"])) == "ErrorInvalidRecipients"
    assert client.left() == []


def test_what_is_no_base64_and_what_is_too_large_is_refused(client: Caller) -> None:
    post = {"url": f"/users/{client.address}/messages", "headers": {"Content-Type": "text/plain"}}
    assert code(client.http.post(**post, content=b"From: not base64")) == "ErrorMimeContentInvalidBase64String"
    assert client.http.post(**post, content=b"A" * (4 * 2**20 + 4)).status_code == 413


def test_send_wants_an_empty_body(client: Caller) -> None:
    draft = client.draft()
    assert client.http.post(f"/users/{client.address}/messages/{draft}/send", json={}).status_code == 400
    assert client.left() == []


def test_send_wants_to_be_told_its_length(client: Caller) -> None:
    draft = client.draft()
    line = http.client.HTTPSConnection("localhost", client.cloud.port, context=ssl.create_default_context(cafile=client.cloud.ca))
    line.putrequest("POST", f"/graph/v1.0/users/{client.address}/messages/{draft}/send")
    line.putheader("Authorization", client.http.headers["authorization"])
    line.endheaders()
    assert line.getresponse().status == 411
    line.close()


def test_send_mail_by_mime_leaves_a_copy_and_by_json_when_it_may(client: Caller) -> None:
    where = f"/users/{client.address}/sendMail"
    assert client.http.post(where, content=base64.b64encode(client.mime()), headers={"Content-Type": "text/plain"}).status_code == 202
    message = {
        "subject": "by JSON",
        "body": {"contentType": "text", "content": "hi"},
        "toRecipients": [{"emailAddress": {"address": "b@x.example"}}],
    }
    message["attachments"] = [{"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.p12", "contentBytes": "AAAA"}]
    assert client.http.post(where, json={"message": message, "saveToSentItems": False}).status_code == 202
    assert [one["subject"] for one in values(client.list("sentitems"))] == ["message 1"]
    assert client.http.post(where, json={"message": message}).status_code == 202
    assert [one["subject"] for one in values(client.list("sentitems"))] == ["by JSON", "message 1"]
    assert len(client.left()) == 3


def test_own_headers_in_json_begin_with_x_and_are_five_at_most(client: Caller) -> None:
    def create(*names: str) -> httpx2.Response:
        headers = [{"name": name, "value": "1"} for name in names]
        return client.http.post(f"/users/{client.address}/messages", json={"subject": "s", "internetMessageHeaders": headers})

    assert create("x-a", "X-B").status_code == 201
    assert code(create("Auto-Submitted")) == "InvalidInternetMessageHeader"
    assert code(create(*(f"x-{number}" for number in range(6)))) == "InvalidInternetMessageHeaderCollection"


def test_a_deleted_message_is_in_deleted_items_and_a_purged_one_is_gone(client: Caller) -> None:
    first, second = client.draft(1), client.draft(2)
    assert client.http.delete(f"/users/{client.address}/messages/{first}").status_code == 204
    assert client.http.post(f"/users/{client.address}/messages/{second}/permanentDelete").status_code == 204
    (deleted,) = client.by_message_id(1, "deleteditems")
    assert client.by_message_id(2) == []
    assert [one["subject"] for one in client.cloud.messages(client.address, "recoverableitemspurges")] == ["message 2"]
    client.http.delete(f"/users/{client.address}/messages/{deleted['id']}")
    assert client.by_message_id(1) == []


def test_a_message_can_be_marked(client: Caller) -> None:
    draft = client.draft()
    changed = client.http.patch(f"/users/{client.address}/messages/{draft}", json={"isRead": False, "categories": ["sent by us"]})
    assert (changed.json()["isRead"], changed.json()["categories"]) == (False, ["sent by us"])
    assert client.http.patch(f"/users/{client.address}/messages/{draft}", json={"subject": "another"}).status_code == 400


def test_a_message_to_a_mailbox_of_the_tenant_arrives_in_its_inbox(client: Caller) -> None:
    client.cloud.mailbox(f"to-{client.address}")
    client.send(client.create(client.mime(to=f"to-{client.address}")).json()["id"])
    (arrived,) = client.cloud.messages(f"to-{client.address}", "inbox")
    assert (arrived["internetMessageId"], arrived["isRead"]) == (client.message_id(), False)


# --- lists ----------------------------------------------------------------------------------------------------------------


def test_messages_are_filtered_ordered_selected_and_paged(client: Caller) -> None:
    for number in range(1, 6):
        client.send(client.draft(number)) if number % 2 else client.draft(number)
    assert {one["subject"] for one in values(client.list(filter="isDraft eq true"))} == {"message 2", "message 4"}
    long_ago = datetime(2020, 1, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    both = f"sentDateTime ge {long_ago} and isDraft eq false"
    assert len(values(client.list("sentitems", filter=both))) == 3
    page = client.list(orderby="subject", top=2, select="subject").json()
    found = page["value"]
    while "@odata.nextLink" in page:
        page = client.http.get(page["@odata.nextLink"]).json()
        found += page["value"]
    assert [one["subject"] for one in found] == [f"message {number}" for number in range(1, 6)]
    assert set(found[0]) == {"id", "subject", "@odata.etag"}


REFUSED_LISTS = {
    "an order that the filter does not begin with": ({"filter": "isDraft eq true", "orderby": "sentDateTime desc"}, "InefficientFilter"),
    "an or": ({"filter": "isDraft eq true or isRead eq true"}, "ErrorInvalidUrlQueryFilter"),
    "a property that does not filter": ({"filter": "bodyPreview eq 'x'"}, "ErrorInvalidProperty"),
    "a text where a truth belongs": ({"filter": "isDraft eq 'true'"}, "BadRequest"),
    "a filter that cannot be read": ({"filter": "isDraft eq"}, "BadRequest"),
    "an unknown property": ({"select": "id,nonsense"}, "BadRequest"),
    "an unknown option": ({"nonsense": "1"}, "BadRequest"),
    "a number that is none": ({"top": "many"}, "BadRequest"),
    "too large a page": ({"top": "1001"}, "BadRequest"),
}


@pytest.mark.parametrize("what", REFUSED_LISTS)
def test_a_list_is_refused_with(client: Caller, what: str) -> None:
    query, wanted = REFUSED_LISTS[what]
    answer = client.list(**query)
    assert (answer.status_code, code(answer)) == (400, wanted)


def test_a_plus_that_was_not_encoded_is_a_space(client: Caller) -> None:
    mime = client.mime().replace(client.message_id().encode(), b"<a+b@x.example>")
    client.create(mime)
    where = f"/users/{client.address}/messages?$filter=internetMessageId eq '<a+b@x.example>'"
    assert values(client.http.get(where)) == []
    assert len(values(client.list(filter="internetMessageId eq '<a+b@x.example>'"))) == 1


def test_what_the_description_does_not_know_is_refused_and_remembered(client: Caller) -> None:
    before = len(client.cloud.refusals())
    answers = [
        client.http.get("/users/x/nonsense"),
        client.http.put(f"/users/{client.address}/messages", json={}),
        client.http.post(f"/users/{client.address}/messages", json={"subjekt": "x"}),
        client.http.post(f"/users/{client.address}/sendMail", json={"saveToSentItems": True}),
        client.http.post(f"/users/{client.address}/messages", content=b"x", headers={"Content-Type": "message/rfc822"}),
        client.http.post(f"/users/{client.address}/messages", content=b"{", headers={"Content-Type": "application/json"}),
    ]
    assert [answer.status_code for answer in answers] == [400] * 6
    error = answers[2].json()["error"]
    assert "subjekt" in error["message"]
    assert set(error["innerError"]) == {"date", "request-id", "client-request-id"}
    assert len(client.cloud.refusals()) == before + 6


def test_a_delta_tells_what_came_and_what_went(client: Caller) -> None:
    def arrive(number: int) -> str:
        return client.cloud.deliver(client.address, client.mime(number))

    def follow(url: str) -> tuple[list[dict[str, Any]], str]:
        found: list[dict[str, Any]] = []
        while True:
            page = client.http.get(url, headers={"Prefer": "odata.maxpagesize=2"}).json()
            found += page["value"]
            if "@odata.deltaLink" in page:
                return found, page["@odata.deltaLink"]
            url = page["@odata.nextLink"]

    ids = [arrive(number) for number in range(3)]
    found, later = follow(f"/users/{client.address}/mailFolders/inbox/messages/delta?$select=subject")
    assert [one["id"] for one in found] == ids
    assert follow(later)[0] == []
    client.http.delete(f"/users/{client.address}/messages/{ids[0]}")
    new = arrive(3)
    found, last = follow(later)
    assert [(one["id"], one.get("@removed", {}).get("reason")) for one in found] == [(ids[0], "deleted"), (new, None)]
    client.cloud.forget_deltas()
    assert client.http.get(last).status_code == 410


# --- faults ---------------------------------------------------------------------------------------------------------------

RESET = (httpx2.ReadError, httpx2.RemoteProtocolError)  # Python 3.11 takes a reset for an end of file where TLS is between
BROKEN = {
    "reset-before": (RESET, 0),
    "reset-after": (RESET, 1),
    "silence-before": (httpx2.ReadTimeout, 0),
    "silence-after": (httpx2.ReadTimeout, 1),
    "garbage": (httpx2.RemoteProtocolError, 0),
    "truncated": (httpx2.RemoteProtocolError, 1),
}


@pytest.mark.parametrize("do", BROKEN)
def test_a_broken_line_leaves_the_message_where_the_fault_says(client: Caller, do: str) -> None:
    wanted, left = BROKEN[do]
    draft = client.draft()
    client.cloud.fault("message.send", do)
    with pytest.raises(wanted):
        client.http.post(f"/users/{client.address}/messages/{draft}/send", timeout=PATIENCE)
    assert len(client.left()) == left
    assert [one["isDraft"] for one in client.by_message_id()] == [left == 0]


SPOILED: dict[str, tuple[dict[str, Any], int, str, int]] = {
    "504-before": ({}, 504, "UnknownError", 0),
    "504-after": ({}, 504, "UnknownError", 1),
    "401": ({}, 401, "InvalidAuthenticationToken", 0),
    "429": ({"retry_after": 3}, 429, "ApplicationThrottled", 0),
    "status": ({"status": 500, "code": "ErrorInternalServerError", "headers": {"x-ms-note": "1"}}, 500, "ErrorInternalServerError", 0),
}


@pytest.mark.parametrize("do", SPOILED)
def test_an_error_on_demand_is_an_error_of_the_services_form(client: Caller, do: str) -> None:
    options, status, body, left = SPOILED[do]
    draft = client.draft()
    client.cloud.fault("message.send", do, **options)
    answer = client.send(draft)
    assert (answer.status_code, code(answer), len(client.left())) == (status, body, left)
    assert answer.headers.get("retry-after") == ("3" if do == "429" else None)


def test_an_error_can_come_after_the_effect(client: Caller) -> None:
    client.cloud.fault("message.send", "status", status=503, after=True)
    assert (client.send(client.draft()).status_code, len(client.left())) == (503, 1)


def test_a_good_answer_may_carry_a_retry_after_and_a_proxy_may_answer_in_html(client: Caller) -> None:
    client.cloud.fault("message.send", "202-retry-after", seconds=9)
    client.cloud.fault("message.send", "html")
    answer = client.send(client.draft(1))
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "9")
    answer = client.send(client.draft(2))
    assert (answer.status_code, answer.headers["content-type"], len(client.left())) == (502, "text/html", 1)


def test_a_slow_answer_is_late(client: Caller) -> None:
    client.cloud.fault("message.send", "slow", seconds=0.3)
    draft, began = client.draft(), time.monotonic()
    assert client.send(draft).status_code == 202
    assert time.monotonic() - began >= 0.3


def test_the_service_may_rewrite_the_message_id_at_either_step(client: Caller) -> None:
    client.cloud.fault("user.createMessage", "rewrite-message-id")
    assert client.create(client.mime(1)).json()["internetMessageId"] != client.message_id(1)
    client.cloud.fault("message.send", "rewrite-message-id")
    client.send(client.draft(2))
    (record,) = client.left()
    assert record["message_id"] != client.message_id(2)
    assert record["message_id"].encode() in client.cloud.bytes_of(record)
    assert client.by_message_id(2) == []


def test_faults_fire_in_order_skip_repeat_and_look_into_the_message(client: Caller) -> None:
    client.cloud.fault("message.send", "401", skip=1, times=2)
    client.cloud.fault("message.send", "429", match="bob@elsewhere.example")
    drafts = [
        client.create(client.mime(n, to)).json()["id"] for n, to in enumerate(["al@x.example", "bob@elsewhere.example", "al@x.example"])
    ]
    assert [client.send(draft).status_code for draft in drafts] == [202, 401, 401]
    assert [client.send(draft).status_code for draft in drafts] == [404, 429, 202]


def test_a_fault_that_nobody_knows_is_refused_at_once(cloud: Cloud) -> None:
    for operation, do, options in (("message.send", "nonsense", {}), ("nonsense", "401", {}), ("message.send", "401", {"seconds": 1})):
        with pytest.raises(Refused):
            cloud.fault(operation, do, **options)


def test_an_idle_connection_may_be_closed(client: Caller) -> None:
    assert client.list().status_code == 200
    assert client.cloud.close_idle() >= 1
    assert client.list().status_code == 200


# --- limits ---------------------------------------------------------------------------------------------------------------


def test_a_fifth_request_in_flight_is_too_many(client: Caller) -> None:
    client.cloud.fault("user.listMessages", "slow", seconds=4.0, times=4)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(client.list) for _ in range(4)]
        await_in_flight(client, 4)
        refused = client.list()
        assert refused.json()["error"]["message"] == "Application is over its MailboxConcurrency limit."
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert [one.result().status_code for one in slow] == [200] * 4
    assert (client.list().status_code, client.counts()["max_in_flight"]) == (200, 5)


def await_in_flight(client: Caller, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while client.cloud.counts()["mailboxes"].get(client.address, {}).get("max_in_flight") != wanted:
        assert time.monotonic() < deadline


def test_requests_past_the_limit_wait_for_the_window_and_count_all_the_same(later: Caller) -> None:
    with later.cloud.during(requests_per_ten_minutes=3):
        assert [later.list().status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        assert 590 <= int(later.list().headers["retry-after"]) <= 600
        later.cloud.advance(601)
        assert later.list().status_code == 200
    assert (later.counts()["requests"], later.counts()["refused"]) == ({"user.listMessages": 7}, {"requests": 3})


def test_messages_past_the_pace_are_accepted_and_counted(client: Caller) -> None:
    before = client.cloud.over_pace
    assert [client.send(client.draft(number)).status_code for number in range(32)] == [202] * 32
    counts = client.counts()
    assert (counts["messages_per_minute"], counts["over_pace"], client.cloud.over_pace - before) == (32, 2, 2)


def test_a_day_has_so_many_recipients(later: Caller) -> None:
    with later.cloud.during(recipients_per_day=2):
        answers = [later.send(later.draft(number)) for number in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert code(answers[2]) == "ErrorSubmissionQuotaExceeded"
        later.cloud.advance(86_401)
        later.http.headers["Authorization"] = f"Bearer {later.cloud.token(later.app)}"
        assert later.send(later.draft(4)).status_code == 202


def test_token_requests_are_counted(cloud: Cloud) -> None:
    app = cloud.app(secrets={SECRET: None})
    before = cloud.counts()["token_requests"]
    with signing_in(cloud, app) as client:
        for _ in range(3):
            client.acquire_token_for_client([cloud.scope])
    assert cloud.counts()["token_requests"] == before + 1


# --- the message trace ----------------------------------------------------------------------------------------------------


def traced(client: Caller, text: str = "", **query: object) -> httpx2.Response:
    params = {f"${name}": str(value) for name, value in query.items()} | ({"$filter": text} if text else {})
    return client.http.get(
        "/admin/exchange/tracing/messageTraces", params=params, headers={"Authorization": f"Bearer {client.cloud.token(client.app)}"}
    )


def test_a_message_shows_late_and_unsure_at_first(later: Caller) -> None:
    mine = f"senderAddress eq '{later.address}'"
    later.cloud.fate("lost@elsewhere.example", "failed")
    later.send(later.draft(1))
    later.send(later.create(later.mime(2, "lost@elsewhere.example")).json()["id"])
    seen = []
    for seconds in (0, 61, 61):
        later.cloud.advance(seconds)
        seen.append([(row["messageId"], row["status"]) for row in values(traced(later, mine))])
    first, second = later.message_id(1), later.message_id(2)
    assert seen[0] == []
    assert seen[1] == [(second, "gettingStatus"), (first, "gettingStatus")]
    assert seen[2] == [(second, "failed"), (first, "delivered")]


def test_the_trace_is_deaf_to_or_and_to_a_second_value(client: Caller) -> None:
    for status in ("delivered", "failed", "quarantined"):
        client.cloud.trace(f"<{status}>", client.address, "a@x.example", status=status, at=client.cloud.now() - 300)
    mine = f"senderAddress eq '{client.address}'"
    deaf = f"{mine} and status eq 'failed' or status eq 'quarantined'"
    twice = f"{mine} and status eq 'failed' and status eq 'quarantined'"
    assert [[row["status"] for row in values(traced(client, text))] for text in (deaf, twice)] == [["failed"], ["failed"]]


def test_the_trace_pages_and_looks_back_two_days_by_itself(client: Caller) -> None:
    now = client.cloud.now()
    for hours in (1, 2, 3, 49):
        client.cloud.trace(f"<{hours}>", client.address, "a@x.example", at=now - hours * 3600)
    mine = f"senderAddress eq '{client.address}'"
    page = traced(client, mine, top=2).json()
    more = client.http.get(page["@odata.nextLink"], headers={"Authorization": f"Bearer {client.cloud.token(client.app)}"}).json()
    assert [row["messageId"] for row in page["value"] + more["value"]] == ["<1>", "<2>", "<3>"]
    assert "@odata.nextLink" not in more
    since = "receivedDateTime ge {} and receivedDateTime le {}"
    assert len(values(traced(client, f"{mine} and {since.format(at(now - 5 * 86_400), at(now))}"))) == 4


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(("since", "until"), [(11, 0), (91, 85), (1, -1), (1, None)])
def test_the_trace_refuses_a_window_that_is_too_long_too_old_or_open(client: Caller, since: int, until: int | None) -> None:
    now = client.cloud.now()
    text = f"receivedDateTime ge {at(now - since * 86_400)}"
    if until is not None:
        text += f" and receivedDateTime le {at(now - until * 86_400)}"
    assert traced(client, text).status_code == 400


def test_the_trace_hears_a_hundred_questions_in_five_minutes(client: Caller) -> None:
    with client.cloud.during(traces_per_five_minutes=2):
        answers = [traced(client) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 290 <= int(answers[2].headers["retry-after"]) <= 300


# --- people and groups ----------------------------------------------------------------------------------------------------


def test_people_come_in_pages_with_what_was_selected(client: Caller) -> None:
    tag = uuid.uuid4().hex[:8]
    client.cloud.users({"mail": f"{tag}-{number}@example.org", "department": tag} for number in range(7))
    params = {"$select": "id,mail,proxyAddresses,accountEnabled", "$top": "999", "$filter": f"startswith(mail,'{tag}')"}
    with client.cloud.during(page_cap=3):
        page = client.http.get("/users", params=params).json()
        found, pages = page["value"], 1
        while "@odata.nextLink" in page:
            page = client.http.get(page["@odata.nextLink"]).json()
            found, pages = found + page["value"], pages + 1
    assert ([one["mail"] for one in found], pages) == ([f"{tag}-{number}@example.org" for number in range(7)], 3)
    assert set(found[0]) == {"id", "mail", "proxyAddresses", "accountEnabled"}
    assert found[0]["proxyAddresses"] == [f"SMTP:{tag}-0@example.org"]


def test_without_a_selection_the_addresses_stay_away(client: Caller) -> None:
    answer = client.http.get(f"/users/{client.address}").json()
    assert answer["mail"] == client.address
    assert "proxyAddresses" not in answer
    assert client.http.get("/users/nobody").json()["error"]["code"] == "Request_ResourceNotFound"


def test_people_are_filtered_plainly_or_by_an_advanced_query(client: Caller) -> None:
    tag = uuid.uuid4().hex[:8]
    client.cloud.user(f"a@{tag}.example", displayName="Alice", accountEnabled=False)
    client.cloud.user(f"b@{tag}.example", displayName="Alicia", userType="Guest")
    client.cloud.user(f"c@{tag}.example", displayName="Alina")

    def find(text: str, **headers: str) -> httpx2.Response:
        more = {"$count": "true"} if headers else {}
        return client.http.get("/users", params={"$filter": text, "$select": "displayName", **more}, headers=headers)

    def names(text: str, **headers: str) -> list[str]:
        return [one["displayName"] for one in values(find(text, **headers))]

    mine = f"endsWith(mail,'@{tag}.example')"
    assert names(mine, **EVENTUAL) == ["Alice", "Alicia", "Alina"]
    assert names(f"{mine} and accountEnabled eq true and userType eq 'Member'", **EVENTUAL) == ["Alina"]
    assert names(f"startswith(displayName,'ali') and mail eq 'A@{tag}.example'") == ["Alice"]
    assert names(f"proxyAddresses/any(p:p eq 'smtp:b@{tag}.example')") == ["Alicia"]
    assert find(mine, **EVENTUAL).json()["@odata.count"] == 3
    assert [code(find(text)) for text in (mine, "userType ne 'Guest'", "nonsense eq 'x'")] == ["Request_UnsupportedQuery"] * 3


def test_a_page_token_expires(client: Caller) -> None:
    client.cloud.users({"mail": f"{uuid.uuid4().hex}@example.org"} for _ in range(2))
    link = client.http.get("/users", params={"$top": "1"}).json()["@odata.nextLink"]
    client.cloud.expire_page_tokens()
    assert code(client.http.get(link)) == "Directory_ExpiredPageToken"


def test_a_groups_people_are_found_through_its_groups(client: Caller) -> None:
    alice, bob = (client.cloud.user(f"{uuid.uuid4().hex}@example.org", displayName=name) for name in ("Alice", "Bob"))
    inner = client.cloud.group("Inner", [bob])
    outer = client.cloud.group("Outer", [alice, inner, bob])
    shallow = client.cloud.group("Shallow", [alice, inner])

    def people(group: str, kind: str, **query: str) -> list[str]:
        where = f"/groups/{group}/{kind}/microsoft.graph.user"
        return [one["displayName"] for one in values(client.http.get(where, params={"$count": "true", **query}, headers=EVENTUAL))]

    assert people(outer, "transitiveMembers") == ["Alice", "Bob"]
    assert people(shallow, "transitiveMembers") == ["Alice", "Bob"]
    assert people(shallow, "members") == ["Alice"]
    assert people(shallow, "transitiveMembers", **{"$filter": "displayName eq 'Bob'", "$select": "displayName"}) == ["Bob"]
    assert code(client.http.get(f"/groups/{outer}/members/microsoft.graph.user")) == "Request_UnsupportedQuery"
    assert [one["id"] for one in values(client.http.get("/groups", params={"$filter": "displayName eq 'Outer'"}))] == [outer]
    assert client.http.get("/groups/none").status_code == 404


# --- the process ----------------------------------------------------------------------------------------------------------


def test_the_log_outlives_the_double_and_the_next_one_goes_on_in_it(tmp_path: Path) -> None:
    for number in (1, 2):
        with graphd(tmp_path, orders=[{"do": "mailbox", "address": "certs@example.org", "send_as": [], "properties": {}}]) as cloud:
            app = cloud.app(roles=ROLES)
            with connected(cloud, cloud.token(app)) as http:
                message = base64.b64encode(b"From: certs@example.org\r\nTo: a@x.example\r\n\r\n%d" % number)
                where = "/users/certs@example.org/sendMail"
                assert http.post(where, content=message, headers={"Content-Type": "text/plain"}).status_code == 202
            assert cloud.violations() == []
        assert len(cloud.stored()) == number


def test_a_killed_client_does_not_take_the_double_along(client: Caller) -> None:
    program = f"""
import base64, os, signal, ssl, urllib.request
context = ssl.create_default_context(cafile={str(client.cloud.ca)!r})
body = base64.b64encode({client.mime()!r})
request = urllib.request.Request({client.cloud.graph!r} + "/v1.0/users/{client.address}/sendMail", body, method="POST")
request.add_header("Authorization", {client.http.headers["authorization"]!r})
request.add_header("Content-Type", "text/plain")
urllib.request.urlopen(request, context=context)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert len(client.left()) == 1
    assert client.list().status_code == 200


def test_what_was_asked_is_remembered(client: Caller) -> None:
    client.draft(**IMMUTABLE)
    client.send("nothing")
    mine = [one for one in client.cloud.requests() if one.get("app") == client.app]
    assert [(one["operation"], one["status"], one["code"]) for one in mine] == [
        ("user.createMessage", 201, None),
        ("message.send", 404, "ErrorItemNotFound"),
    ]
    assert (mine[0]["prefer"], mine[0]["type"]) == (IMMUTABLE["Prefer"], "text/plain")
    assert json.loads(json.dumps(client.cloud.counts()))["mailboxes"][client.address]["messages"] == 0
