"""The Graph double keeps drafts, sends messages and lists them as Microsoft's documents say."""

from __future__ import annotations

import base64
import http.client
import ssl
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from tests.doubles.graphd.caller import Caller, code, values
from tests.doubles.graphd.client import IMMUTABLE

# --- drafts and sending ----------------------------------------------------------------------------------------------


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


# --- lists -----------------------------------------------------------------------------------------------------------


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
