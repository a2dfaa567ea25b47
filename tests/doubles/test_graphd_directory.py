"""The Graph double's message trace, people and groups, and its process."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from tests.doubles.graphd import graphd
from tests.doubles.graphd.caller import Caller, code, connected, values
from tests.doubles.graphd.client import IMMUTABLE, ROLES

EVENTUAL = {"ConsistencyLevel": "eventual"}


# --- the message trace -----------------------------------------------------------------------------------------------


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


# --- people and groups -----------------------------------------------------------------------------------------------


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


# --- the process -----------------------------------------------------------------------------------------------------


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
