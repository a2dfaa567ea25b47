"""The Graph client signed in, with many requests side by side, and with lists of several pages."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import traceback
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from distributor.clients.app_registration import AppRegistration
from distributor.clients.graph import GraphClient, HttpResponse, NoResponse, graph, odata_literal, path_segment
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.redaction import REDACTED
from distributor.model.secret import Secret
from tests.clients.graph_mailbox import ROLES, GraphMailbox, cloud, mailbox
from tests.doubles.graphd import verify

__all__ = ["cloud", "mailbox"]  # fixtures

# --- signed in -------------------------------------------------------------------------------------------------------


def test_a_token_is_fetched_once_for_many_requests(mailbox: GraphMailbox) -> None:
    before = mailbox.cloud.counts()["token_requests"]

    async def act(opened: GraphClient) -> set[int]:
        answers = await asyncio.gather(*(opened.call("GET", mailbox.messages, mailbox=mailbox.address) for _ in range(20)))
        return {answer.status for answer in answers}

    assert mailbox.run(act) == {200}
    assert mailbox.run(act) == {200}
    assert mailbox.cloud.counts()["token_requests"] == before + 1


def test_a_token_that_was_revoked_is_replaced_once_for_all(mailbox: GraphMailbox) -> None:
    before = mailbox.cloud.counts()["token_requests"]

    async def act(opened: GraphClient) -> list[HttpResponse]:
        await opened.call("GET", mailbox.messages)
        mailbox.cloud.revoke_tokens()
        return await asyncio.gather(*(opened.call("GET", mailbox.messages, mailbox=mailbox.address) for _ in range(8)))

    assert {answer.status for answer in mailbox.run(act)} == {200}
    assert mailbox.cloud.counts()["token_requests"] == before + 2


def test_a_service_that_wants_no_token_of_ours_is_asked_twice_and_no_more(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "401", times=2)
    answer = mailbox.run(lambda opened: opened.call("POST", f"{mailbox.messages}/x/send"))
    assert (answer.status, answer.code) == (401, "InvalidAuthenticationToken")
    assert len(mailbox.asked()) == 2


def test_a_sign_in_that_fails_is_raised_with_its_hint(mailbox: GraphMailbox) -> None:
    mailbox.sign_in = AppRegistration(
        tenant=mailbox.cloud.tenant, client_id=mailbox.sign_in.client_id, secret=Secret("guessed"), login=mailbox.cloud.login
    )
    with pytest.raises(ServiceUnavailable, match="wrong secret"):
        mailbox.run(lambda opened: opened.call("GET", mailbox.messages))


def test_the_token_says_what_the_app_may(mailbox: GraphMailbox) -> None:
    token = mailbox.run(lambda opened: opened.token())
    assert token.roles == set(ROLES)
    assert verify(token.secret.reveal(), mailbox.cloud.graph, mailbox.cloud.signing_key)["appid"] == mailbox.sign_in.client_id


@pytest.mark.parametrize("root", ["http://graph.microsoft.com", "graph.microsoft.com", "https://", "https://a@graph.microsoft.com"])
def test_a_root_without_https_is_refused(root: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        graph(AppRegistration(), root)
    assert caught.value.where == "transport.graph"


def test_no_token_is_in_an_answer_a_repr_an_error_or_a_log(mailbox: GraphMailbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    mailbox.cloud.fault("*", "reset-before", skip=1)

    async def act(opened: GraphClient) -> tuple[object, ...]:
        token = await opened.token()
        response = [await opened.call("GET", mailbox.messages) for _ in range(2)]
        with pytest.raises(ServiceUnavailable) as caught:
            async for _ in opened.pages("users/nobody@example.org/messages"):
                pass
        return token.secret.reveal(), repr((opened, token, response)), "".join(traceback.format_exception(caught.value))

    token, *texts = mailbox.run(act)
    for text in [*texts, caplog.text]:
        assert token[:40] not in text
        assert token[-40:] not in text


def test_a_token_that_graph_repeats_is_in_nothing_that_is_kept(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> tuple[str, HttpResponse | NoResponse]:
        token = (await opened.token()).secret.reveal()
        message = f"not {token}, nor {token[20:60]}"
        mailbox.cloud.fault(
            "*", "status", status=403, code="Odd", message=message, headers={"request-id": token[:30], "x-more": token[-30:]}
        )
        return token, await opened.call("GET", mailbox.messages)

    token, answer = mailbox.run(act)
    assert answer.detail == f"403 Odd: not {REDACTED}, nor {REDACTED}"
    assert answer.request_id == REDACTED
    assert not [start for start in range(len(token) - 8) if token[start : start + 8] in repr(answer)]


# --- side by side ----------------------------------------------------------------------------------------------------


def test_four_requests_of_a_mailbox_go_side_by_side_and_no_more(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> set[int]:
        names = [mailbox.address, mailbox.address.upper()]
        answers = await asyncio.gather(*(opened.call("GET", mailbox.messages, mailbox=names[n % 2]) for n in range(12)))
        return {answer.status for answer in answers}

    with mailbox.cloud.during(latency=0.05):
        assert mailbox.run(act) == {200}
    assert mailbox.cloud.counts()["mailboxes"][mailbox.address]["max_in_flight"] == 4


def test_while_the_service_wants_to_be_left_alone_nobody_asks_for_the_mailbox_and_then_only_two_at_once(mailbox: GraphMailbox) -> None:
    asked: list[int] = []

    async def act(opened: GraphClient) -> tuple[list[HttpResponse], list[HttpResponse]]:
        async def sleep(seconds: float) -> None:
            mailbox.slept.append(seconds)
            asked.append(len(mailbox.asked()))
            await asyncio.sleep(0.2)
            asked.append(len(mailbox.asked()))

        opened._sleep = sleep  # noqa: SLF001
        asking = lambda: opened.call("GET", mailbox.messages, mailbox=mailbox.address)  # noqa: E731
        first = await asyncio.gather(asking())
        return first, await asyncio.gather(*(asking() for _ in range(8)))

    mailbox.cloud.fault("user.listMessages", "429", retry_after=20)
    with mailbox.cloud.during(latency=0.05):
        first, others = mailbox.run(act)
    assert [answer.status for answer in first + others] == [429, *[200] * 8]
    assert mailbox.slept == [pytest.approx(20, abs=2)]
    assert asked == [1, 1]
    assert mailbox.cloud.counts()["mailboxes"][mailbox.address]["max_in_flight"] == 2


def test_a_mailbox_that_is_held_back_does_not_hold_back_another(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> list[int]:
        one = await opened.call("GET", mailbox.messages, mailbox=mailbox.address)
        return [one.status, (await opened.call("GET", mailbox.messages, mailbox="other@example.org")).status]

    mailbox.cloud.fault("user.listMessages", "429", retry_after=20)
    assert mailbox.run(act) == [429, 200]
    assert mailbox.slept == []


def test_a_client_lives_longer_than_one_loop(mailbox: GraphMailbox) -> None:
    opened = mailbox.open()

    async def go() -> int:
        try:
            return (await opened.call("GET", mailbox.messages, mailbox=mailbox.address)).status
        finally:
            await opened.close()

    assert [asyncio.run(go()) for _ in range(2)] == [200, 200]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what was left open is left open
def test_connections_of_a_loop_that_has_ended_are_not_used(mailbox: GraphMailbox) -> None:
    opened = mailbox.open()

    async def again() -> int:
        answer = await opened.call("GET", mailbox.messages, mailbox=mailbox.address)
        await opened.close()
        return answer.status

    assert asyncio.run(opened.call("GET", mailbox.messages, mailbox=mailbox.address)).status == 200
    assert asyncio.run(again()) == 200
    gc.collect()


def test_a_kept_connection_that_died_of_idleness_is_made_again(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> list[int]:
        first = await opened.call("GET", mailbox.messages)
        mailbox.cloud.close_idle()
        await opened.call("GET", mailbox.messages)  # the double's own order came over another line; give the hang-up its turn
        return [first.status, (await opened.call("GET", mailbox.messages)).status]

    assert mailbox.run(act) == [200, 200]


# --- lists -----------------------------------------------------------------------------------------------------------


async def listed(opened: GraphClient, path: str = "users", **options: Any) -> list[str]:  # noqa: ANN401
    return [item["mail"] async for item in opened.pages(path, **options)]


@pytest.fixture
def people(mailbox: GraphMailbox) -> list[str]:
    department = uuid.uuid4().hex[:8]
    mailbox.cloud.users([{"mail": f"p{number}.{department}@example.org", "department": department} for number in range(7)])
    return [department, *(f"p{number}.{department}@example.org" for number in range(7))]


def only(people: list[str]) -> dict[str, dict[str, str]]:
    """The parameters of a list of these people, two a page."""
    return {"params": {"$filter": f"department eq {odata_literal(people[0])}", "$select": "mail", "$top": "2"}}


def test_a_list_is_read_to_its_last_page(mailbox: GraphMailbox, people: list[str]) -> None:
    assert sorted(mailbox.run(lambda opened: listed(opened, **only(people)))) == people[1:]
    assert len(mailbox.asked()) == 4


def test_a_busy_service_is_waited_for_as_it_wishes(mailbox: GraphMailbox, people: list[str]) -> None:
    mailbox.cloud.fault("user.list", "429", retry_after=7, skip=1)
    mailbox.cloud.fault("user.list", "status", status=503, skip=1)
    assert sorted(mailbox.run(lambda opened: listed(opened, **only(people)))) == people[1:]
    assert mailbox.slept == [7.0, 20.0]


def test_a_service_that_names_no_time_is_waited_for_longer_and_longer_and_not_for_ever(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("user.list", "status", status=503, times=5)
    with pytest.raises(ServiceUnavailable, match="503 ErrorServerBusy") as caught:
        mailbox.run(listed)
    assert mailbox.slept == [10.0, 20.0, 40.0, 80.0]
    assert "later" in str(caught.value.hint)


def test_a_wish_beyond_all_patience_is_left_to_a_later_command_and_nothing_is_asked_before(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("user.list", "429", retry_after=300)
    before = datetime.now(UTC)
    with pytest.raises(ServiceUnavailable, match="429 ApplicationThrottled") as caught:
        mailbox.run(listed)
    assert (mailbox.slept, len(mailbox.asked())) == ([], 1)
    found = re.fullmatch(r"run the command again after (\d{4}-\d\d-\d\d \d\d:\d\d) UTC", str(caught.value.hint))
    assert found is not None
    moment = datetime.strptime(found[1], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert timedelta(seconds=300) <= moment - before <= timedelta(seconds=375)


@pytest.mark.parametrize(
    ("roles", "path", "words", "hint"),
    [
        (["Mail.Send"], "users", "403 Authorization_RequestDenied", "User.Read.All"),
        (["Mail.Read"], "users/nobody@example.org/messages", "404 ErrorInvalidUser", "does not exist in this tenant"),
        (["User.Read.All"], "users/BOX/messages", "403 ErrorAccessDenied", "RBAC for Applications"),
    ],
)
def test_a_list_that_is_refused_says_what_to_do(mailbox: GraphMailbox, roles: list[str], path: str, words: str, hint: str) -> None:
    mailbox.cloud.app(mailbox.sign_in.client_id, roles=roles)
    with pytest.raises(ServiceUnavailable, match=words) as caught:
        mailbox.run(lambda opened: listed(opened, path.replace("BOX", path_segment(mailbox.address))))
    assert caught.value.where == f"localhost:{mailbox.cloud.port}"
    assert hint in str(caught.value.hint)
    assert mailbox.slept == []


def test_a_list_that_breaks_off_is_raised(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("user.list", "truncated")
    with pytest.raises(ServiceUnavailable, match="the connection was cut"):
        mailbox.run(listed)


FOREIGN = [
    "https://evil.example/v1.0/users?$skiptoken=x",
    "http://localhost:PORT/graph/v1.0/users",
    "https://localhost:1/graph/v1.0/users",
    "https://localhost:PORT@evil.example/graph/v1.0/users",
    "https://evil@localhost:PORT/graph/v1.0/users",
    "//localhost:PORT/graph",
    "/v1.0/users",
    "https://localhost:PORT\\@evil.example/",
    "https://[",
    "",
    7,
    {"a": 1},
]


@pytest.mark.parametrize("link", FOREIGN)
def test_a_next_page_elsewhere_is_not_asked_for(mailbox: GraphMailbox, link: object) -> None:
    opened = mailbox.open()
    link = link.replace("PORT", str(mailbox.cloud.port)) if isinstance(link, str) else link
    asked: list[str] = []

    async def call(_method: str, path: str, **_: object) -> HttpResponse:
        asked.append(path)
        return HttpResponse(200, "", "200 OK", {"value": [{"mail": "a"}], "@odata.nextLink": link})

    opened.call = call

    async def go() -> None:
        with pytest.raises(ServiceUnavailable, match="another server") as caught:
            await listed(opened)
        assert "evil" not in str(caught.value)

    asyncio.run(go())
    assert asked == ["users"]


@pytest.mark.parametrize("value", [None, 5, "x", [1], {"a": 1}])
def test_a_list_that_is_none_is_refused(mailbox: GraphMailbox, value: object) -> None:
    opened = mailbox.open()

    async def call(_method: str, _path: str, **_: object) -> HttpResponse:
        return HttpResponse(200, "", "200 OK", {"value": value})

    opened.call = call
    with pytest.raises(ServiceUnavailable, match="unexpected response: not a list"):
        asyncio.run(listed(opened))
