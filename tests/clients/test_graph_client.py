"""Requests to Graph: what an answer says, what is lost and whether anything was sent, who is asked again, and where a token never goes."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import re
import socket
import ssl
import threading
import traceback
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.clients import graph as client
from distributor.clients.app_registration import AppRegistration
from distributor.clients.graph import GraphClient, HttpResponse, NoResponse, graph, literal, segment
from distributor.clients.http import answered, retry_after
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.redaction import REDACTED
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.doubles.graphd import Cloud, verify

SECRET = "a-secret-of-the-app"
ROLES = ["Mail.Send", "Mail.ReadWrite", "User.Read.All"]
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    yield running
    faults = running.faults()
    running.clear_faults()
    assert faults == []
    assert running.violations() == []
    assert running.refusals() == []


@dataclass
class GraphMailbox:
    """A mailbox of its own, and a client that writes down how long it would have slept."""

    cloud: Cloud
    sign_in: AppRegistration
    address: str
    slept: list[float] = field(default_factory=list)

    def open(self, root: str = "") -> GraphClient:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        return graph(self.sign_in, root or self.cloud.graph, sleep=sleep)

    def run(self, act: Callable[[GraphClient], Awaitable[Any]], root: str = "") -> Any:  # noqa: ANN401  whatever it came to
        async def go() -> object:
            opened = self.open(root)
            try:
                return await act(opened)
            finally:
                await opened.close()

        return asyncio.run(go())

    @property
    def messages(self) -> str:
        return f"users/{segment(self.address)}/messages"

    def mime(self) -> bytes:
        lines = f"From: {self.address}\r\nTo: alice@elsewhere.example\r\nSubject: s\r\nMessage-ID: <1.{self.address}>\r\n\r\nhello\r\n"
        return lines.encode()

    async def draft(self, opened: GraphClient) -> str:
        content = base64.b64encode(self.mime())
        made = await opened.call("POST", self.messages, mailbox=self.address, content=content, headers={"Content-Type": "text/plain"})
        assert isinstance(made, HttpResponse), made
        assert made.status == 201, made
        return str(made.body["id"])

    def asked(self) -> list[dict[str, Any]]:
        return [one for one in self.cloud.requests() if one.get("app") == self.sign_in.client_id]


@pytest.fixture
def mailbox(cloud: Cloud) -> GraphMailbox:
    app = cloud.app(secrets={SECRET: None}, roles=ROLES)
    address = f"certs-{uuid.uuid4().hex[:8]}@example.org"
    cloud.mailbox(address)
    return GraphMailbox(cloud, AppRegistration(tenant=cloud.tenant, client_id=app, secret=Secret(SECRET), login=cloud.login), address)


# --- answers -------------------------------------------------------------------------------------------------------


def test_a_draft_is_made_read_and_sent(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> tuple[HttpResponse, HttpResponse]:
        place = f"{mailbox.messages}/{segment(await mailbox.draft(opened))}"
        return await opened.call("GET", f"{place}/$value", mailbox=mailbox.address), await opened.call(
            "POST", f"{place}/send", mailbox=mailbox.address
        )

    value, sent = mailbox.run(act)
    assert (value.content, value.body) == (mailbox.mime(), None)
    assert (sent.status, sent.code, sent.said, sent.body, sent.good) == (202, "", "202 Accepted", None, True)
    assert [record["mailbox"] for record in mailbox.cloud.stored() if record["mailbox"] == mailbox.address] == [mailbox.address]


def test_a_refusal_is_one_line_with_graphs_own_words(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "429", retry_after=7)
    answer = mailbox.run(lambda opened: opened.call("GET", mailbox.messages, mailbox=mailbox.address))
    assert (answer.status, answer.code, answer.good) == (429, "ApplicationThrottled", False)
    assert answer.said == "429 ApplicationThrottled: Application is over its MailboxConcurrency limit."
    assert answer.retry_after == timedelta(seconds=7)
    assert uuid.UUID(answer.request_id)
    assert answer.headers["retry-after"] == "7"


def test_what_is_said_is_harmless_and_bounded(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "status", status=400, code="Odd", message="\x1b[2J\u202egone\r\n" + "x" * 5000)
    answer = mailbox.run(lambda opened: opened.call("GET", mailbox.messages))
    assert answer.said.startswith("400 Odd: \\x1b[2J\\u202egone xxx")
    assert len(answer.said) == 500


def test_a_gateways_page_is_an_answer_without_graphs_words(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "html")
    answer = mailbox.run(lambda opened: opened.call("GET", mailbox.messages))
    assert (answer.status, answer.code, answer.said, answer.body) == (502, "", "502 Bad Gateway", None)


def test_a_list_is_asked_for_with_its_words_as_they_are(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> HttpResponse:
        await mailbox.draft(opened)
        params = {"$filter": f"internetMessageId eq {literal(f'<1.{mailbox.address}>')}", "$select": "id,subject"}
        return await opened.call("GET", mailbox.messages, mailbox=mailbox.address, params=params)

    assert [item["subject"] for item in mailbox.run(act).body["value"]] == ["s"]


def test_json_goes_as_json(mailbox: GraphMailbox) -> None:
    made = mailbox.run(lambda opened: opened.call("POST", mailbox.messages, mailbox=mailbox.address, json={"subject": "ünder way"}))
    assert (made.status, made.body["subject"]) == (201, "ünder way")


def test_how_far_the_services_clock_is_from_ours(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> timedelta | None:
        assert opened.skew is None
        await opened.call("GET", mailbox.messages)
        return opened.skew

    assert abs(mailbox.run(act)) < timedelta(seconds=3)


def test_names_are_quoted_for_where_they_stand() -> None:
    assert segment("AAMk+/x==") == "AAMk%2B%2Fx%3D%3D"
    assert segment("o'hara+1@example.org") == "o%27hara%2B1%40example.org"
    assert literal("o'hara") == "'o''hara'"
    for nothing in ("", ".", ".."):
        with pytest.raises(ValueError, match="segment"):
            segment(nothing)


NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("1.5", 1.5),
        ("999999999999999999999", 86400),
        ("Mon, 30 Nov 2026 12:01:00 GMT", 60),
        ("Mon, 30 Nov 2026 11:00:00 GMT", 0),
        ("Mon, 30 Nov 2099 11:00:00 GMT", 86400),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
    ],
)
def test_a_wish_to_wait_is_read_in_both_its_forms(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOW) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("status", "content"),
    [(200, b"<html>"), (200, b""), (200, b"[1]"), (201, b""), (202, b"<html>"), (204, b"hello"), (200, b"[" * 100_000), (200, b"\xff")],
)
def test_a_good_status_with_something_else_than_json_is_no_answer(status: int, content: bytes) -> None:
    found = answered(status, {}, content, raw=False, now=NOW)
    assert isinstance(found, NoResponse)
    assert found.request_sent


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"error": "x"}', b'{"error": {"code": 5, "message": [], "innerError": 1}}', b"\xff"])
def test_a_refusal_without_form_is_still_a_refusal(body: bytes) -> None:
    found = answered(400, {}, body, raw=False, now=NOW)
    assert isinstance(found, HttpResponse)
    assert (found.code, found.said, found.request_id) == ("", "400 Bad Request", "")


# --- lost ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("reset-before", "connection reset by peer|the connection was cut"),
        ("reset-after", "connection reset by peer|the connection was cut"),
        ("garbage", "an answer that makes no sense"),
        ("truncated", "the connection was cut"),
        ("silence-before", r"no answer in 0\.3 s"),
        ("silence-after", r"no answer in 0\.3 s"),
    ],
)
def test_whatever_breaks_after_the_request_began_is_lost_and_begun_and_asked_once(mailbox: GraphMailbox, fault: str, why: str) -> None:
    mailbox.cloud.fault("*", fault)

    async def act(opened: GraphClient) -> tuple[Any, Any]:
        patience = 0.3 if "silence" in fault else 60.0
        return await opened.call("GET", mailbox.messages, timeout=patience), await opened.call("GET", mailbox.messages)

    lost, next_one = mailbox.run(act)
    assert isinstance(lost, NoResponse)
    assert lost.request_sent
    assert re.search(why, lost.why)
    assert next_one.status == 200
    assert len(mailbox.asked()) == 2


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one's own: `serve` gets each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    line.settimeout(20)
                    serve(line)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def until_closed(line: socket.socket) -> None:
    """Says nothing; whoever gives up has to hang up, or the test does not end in time."""
    while line.recv(4096):
        pass


def no_tls(line: socket.socket) -> None:
    line.recv(4096)
    line.sendall(b"220 this is a mail server\r\n")


@pytest.mark.parametrize(
    ("serve", "why"), [(until_closed, r"no answer in 0\.3 s"), (no_tls, "TLS failed: "), (lambda _: None, "the connection was cut|reset")]
)
def test_whatever_breaks_before_the_request_is_lost_and_not_begun(
    mailbox: GraphMailbox, serve: Callable[[socket.socket], None], why: str
) -> None:
    with listening(serve) as port:
        patience = 0.3 if serve is until_closed else 60.0
        lost = mailbox.run(lambda opened: ask_at(opened, mailbox, f"https://localhost:{port}", patience))
    assert isinstance(lost, NoResponse)
    assert not lost.request_sent
    assert re.search(why, lost.why)


async def ask_at(opened: GraphClient, mailbox: GraphMailbox, root: str, patience: float) -> HttpResponse | NoResponse:
    """A token for the double, then a request to somewhere else."""
    opened._tokens._tokens._kept[root] = (0.0, await opened.token())  # noqa: SLF001  the double gives tokens for itself only
    opened.root = root
    return await opened.call("GET", mailbox.messages, timeout=patience)


@pytest.mark.parametrize(("root", "why"), [("https://127.0.0.1:1", "connection refused"), ("https://no-such.invalid", "no such host")])
def test_nobody_there_is_lost_and_not_begun(mailbox: GraphMailbox, root: str, why: str) -> None:
    async def act(opened: GraphClient) -> HttpResponse | NoResponse:
        opened._tokens._tokens._kept[root] = (0.0, await opened.token())  # noqa: SLF001
        opened.root = root
        return await opened.call("GET", mailbox.messages)

    assert mailbox.run(act) == NoResponse(why, request_sent=False)


def test_an_untrusted_graph_gets_nothing(mailbox: GraphMailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.pem").write_bytes(Authority().root.public_bytes(ser.Encoding.PEM))
    opened = mailbox.open()

    async def go() -> HttpResponse | NoResponse:
        await opened.token()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
        return await opened.call("GET", mailbox.messages)

    lost = asyncio.run(go())
    assert isinstance(lost, NoResponse)
    assert not lost.request_sent
    assert lost.why.startswith("the certificate is not trusted")
    assert "SSL_CERT_FILE" in str(client.trouble(lost, "x").hint)
    assert mailbox.asked() == []


def test_a_proxy_that_refuses_leaves_the_request_unsent(mailbox: GraphMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    def proxy(line: socket.socket) -> None:
        heads.append(line.recv(4096))
        line.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with listening(proxy) as port:

        async def act(opened: GraphClient) -> HttpResponse | NoResponse:
            await opened.token()
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("NO_PROXY", "")
            monkeypatch.setenv("no_proxy", "")
            return await opened.call("GET", mailbox.messages)

        lost = mailbox.run(act)
    assert lost == NoResponse("the proxy: 407 Proxy Authentication Required", request_sent=False)
    assert heads[0].startswith(b"CONNECT localhost:")
    assert b"Bearer" not in b"".join(heads)


def test_an_answer_that_trickles_is_not_waited_for_beyond_its_time(mailbox: GraphMailbox) -> None:
    stop = threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mailbox.cloud.folder / "server.pem")

    def trickle(line: socket.socket) -> None:
        with context.wrap_socket(line, server_side=True) as secure:
            secure.recv(4096)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.05):
                try:
                    secure.sendall(b" ")
                except OSError:
                    return

    with listening(trickle) as port:
        lost = mailbox.run(lambda opened: ask_at(opened, mailbox, f"https://localhost:{port}", 2.5))  # enough for TLS on a busy machine
        stop.set()
    assert lost == NoResponse("no answer in 2.5 s", request_sent=True)


def test_a_redirect_is_an_answer_and_not_a_way(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "status", status=302, headers={"Location": f"{mailbox.cloud.graph}/v1.0/users"})
    answer = mailbox.run(lambda opened: opened.call("GET", mailbox.messages))
    assert answer.status == 302
    assert len(mailbox.asked()) == 1


def test_a_cancelled_request_closes_its_connection_and_the_next_one_gets_its_own_answer(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "slow", seconds=30)

    async def act(opened: GraphClient) -> HttpResponse | NoResponse:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opened.call("GET", f"{mailbox.messages}/first", mailbox=mailbox.address), 0.3)
        return await opened.call("GET", mailbox.messages, mailbox=mailbox.address)

    assert mailbox.run(act).status == 200


# --- signed in -----------------------------------------------------------------------------------------------------


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
    with pytest.raises(ServiceUnavailable, match="the secret is wrong"):
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
    assert answer.said == f"403 Odd: not {REDACTED}, nor {REDACTED}"
    assert answer.request_id == REDACTED
    assert not [start for start in range(len(token) - 8) if token[start : start + 8] in repr(answer)]


# --- side by side --------------------------------------------------------------------------------------------------


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


# --- lists ---------------------------------------------------------------------------------------------------------


async def listed(opened: GraphClient, path: str = "users", **options: Any) -> list[str]:  # noqa: ANN401
    return [item["mail"] async for item in opened.pages(path, **options)]


@pytest.fixture
def people(mailbox: GraphMailbox) -> list[str]:
    department = uuid.uuid4().hex[:8]
    mailbox.cloud.users([{"mail": f"p{number}.{department}@example.org", "department": department} for number in range(7)])
    return [department, *(f"p{number}.{department}@example.org" for number in range(7))]


def only(people: list[str]) -> dict[str, dict[str, str]]:
    """The parameters of a list of these people, two a page."""
    return {"params": {"$filter": f"department eq {literal(people[0])}", "$select": "mail", "$top": "2"}}


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
    found = re.fullmatch(r"run the same command again after (\d{4}-\d\d-\d\d \d\d:\d\d) UTC", str(caught.value.hint))
    assert found is not None
    moment = datetime.strptime(found[1], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert timedelta(seconds=300) <= moment - before <= timedelta(seconds=375)


@pytest.mark.parametrize(
    ("roles", "path", "words", "hint"),
    [
        (["Mail.Send"], "users", "403 Authorization_RequestDenied", "User.Read.All"),
        (["Mail.Read"], "users/nobody@example.org/messages", "404 ErrorInvalidUser", "nobody in this tenant"),
        (["User.Read.All"], "users/BOX/messages", "403 ErrorAccessDenied", "RBAC for Applications"),
    ],
)
def test_a_list_that_is_refused_says_what_to_do(mailbox: GraphMailbox, roles: list[str], path: str, words: str, hint: str) -> None:
    mailbox.cloud.app(mailbox.sign_in.client_id, roles=roles)
    with pytest.raises(ServiceUnavailable, match=words) as caught:
        mailbox.run(lambda opened: listed(opened, path.replace("BOX", segment(mailbox.address))))
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
        with pytest.raises(ServiceUnavailable, match="another address") as caught:
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
    with pytest.raises(ServiceUnavailable, match="the list that was asked for is none"):
        asyncio.run(listed(opened))
