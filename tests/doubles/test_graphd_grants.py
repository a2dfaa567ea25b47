"""The double's two kinds of grants (facts: sending.md 1.7): Entra's are in the token and hold everywhere, Exchange's in neither way."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack

from tests.doubles.graphd import Cloud
from tests.doubles.graphd.caller import SECRET, Caller, code, connected, signed_in

ADDRESS, OTHER = "granted@example.org", "ungranted@example.org"


def caller(cloud: Cloud, stack: ExitStack, *exchange: str, address: str = ADDRESS, **app: object) -> Caller:
    for each in (ADDRESS, OTHER):
        cloud.mailbox(each)
    client = cloud.app(secrets={SECRET: None}, exchange_roles={ADDRESS: list(exchange)}, **app)
    token = signed_in(cloud, client)["access_token"]
    return Caller(cloud, client, address, stack.enter_context(connected(cloud, token)))


def test_what_exchange_grants_is_in_no_token_and_holds_in_its_mailbox_only(running: Cloud) -> None:
    with ExitStack() as stack:
        client = caller(running, stack, "Mail.ReadWrite", "Mail.Send")
        token = signed_in(running, client.app)["access_token"].split(".")[1]
        assert "roles" not in json.loads(base64.urlsafe_b64decode(token + "=="))
        assert client.list().status_code == 200
        assert client.send(client.draft()).status_code == 202
        client.address = OTHER
        assert (client.list().status_code, code(client.list())) == (403, "ErrorAccessDenied")


def test_a_role_that_exchange_did_not_grant_is_missed(running: Cloud) -> None:
    with ExitStack() as stack:
        client = caller(running, stack, "Mail.Send")
        assert code(client.create(client.mime())) == "ErrorAccessDenied"


def test_grants_add_up(running: Cloud) -> None:
    with ExitStack() as stack:
        client = caller(running, stack, "Mail.ReadWrite", roles=["Mail.Send"])
        assert client.send(client.draft()).status_code == 202


def test_an_access_policy_narrows_grants_of_entra_only(running: Cloud) -> None:
    with ExitStack() as stack:
        client = caller(running, stack, "Mail.Read", roles=["Mail.ReadWrite"], mailboxes=["another@example.org"])
        assert client.list().status_code == 200
        assert client.create(client.mime()).json()["error"]["message"] == "Access to OData is disabled."


def test_a_mailbox_opens_no_directory(running: Cloud) -> None:
    with ExitStack() as stack:
        client = caller(running, stack, "User.Read.All")
        assert code(client.http.get("/users")) == "Authorization_RequestDenied"
        assert code(client.http.get(f"/users/{ADDRESS}")) == "Authorization_RequestDenied"
