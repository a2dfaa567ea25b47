"""The Graph double goes wrong exactly when it is told to, and keeps the service's limits."""

from __future__ import annotations

import concurrent.futures
import time
from typing import Any

import httpx2
import pytest

from tests.doubles.graphd import Cloud, Refused
from tests.doubles.graphd.caller import SECRET, Caller, code, signing_in

PATIENCE = 0.5  # seconds a client waits for an answer that never comes


# --- faults ----------------------------------------------------------------------------------------------------------


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


# --- limits ----------------------------------------------------------------------------------------------------------


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
