"""Requests to Graph: what an answer says, what is lost and whether anything was sent, who is asked again, and where a token never goes."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.clients import graph as client
from distributor.clients.graph import GraphClient, HttpResponse, NoResponse, odata_literal, path_segment
from distributor.clients.http import parse_response, retry_after
from tests.authority import Authority
from tests.clients.graph_mailbox import GraphMailbox, cloud, mailbox

__all__ = ["cloud", "mailbox"]  # fixtures

# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_draft_is_made_read_and_sent(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> tuple[HttpResponse, HttpResponse]:
        place = f"{mailbox.messages}/{path_segment(await mailbox.draft(opened))}"
        return await opened.call("GET", f"{place}/$value", mailbox=mailbox.address), await opened.call(
            "POST", f"{place}/send", mailbox=mailbox.address
        )

    value, sent = mailbox.run(act)
    assert (value.content, value.body) == (mailbox.mime(), None)
    assert (sent.status, sent.code, sent.detail, sent.body, sent.good) == (202, "", "202 Accepted", None, True)
    assert [record["mailbox"] for record in mailbox.cloud.stored() if record["mailbox"] == mailbox.address] == [mailbox.address]


def test_a_refusal_is_one_line_with_graphs_own_words(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "429", retry_after=7)
    answer = mailbox.run(lambda opened: opened.call("GET", mailbox.messages, mailbox=mailbox.address))
    assert (answer.status, answer.code, answer.good) == (429, "ApplicationThrottled", False)
    assert answer.detail == "429 ApplicationThrottled: Application is over its MailboxConcurrency limit."
    assert answer.retry_after == timedelta(seconds=7)
    assert uuid.UUID(answer.request_id)
    assert answer.headers["retry-after"] == "7"


def test_what_is_said_is_harmless_and_bounded(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "status", status=400, code="Odd", message="\x1b[2J\u202egone\r\n" + "x" * 5000)
    answer = mailbox.run(lambda opened: opened.call("GET", mailbox.messages))
    assert answer.detail.startswith("400 Odd: \\x1b[2J\\u202egone xxx")
    assert len(answer.detail) == 500


def test_a_gateways_page_is_an_answer_without_graphs_words(mailbox: GraphMailbox) -> None:
    mailbox.cloud.fault("*", "html")
    answer = mailbox.run(lambda opened: opened.call("GET", mailbox.messages))
    assert (answer.status, answer.code, answer.detail, answer.body) == (502, "", "502 Bad Gateway", None)


def test_a_list_is_asked_for_with_its_words_as_they_are(mailbox: GraphMailbox) -> None:
    async def act(opened: GraphClient) -> HttpResponse:
        await mailbox.draft(opened)
        params = {"$filter": f"internetMessageId eq {odata_literal(f'<1.{mailbox.address}>')}", "$select": "id,subject"}
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
    assert path_segment("AAMk+/x==") == "AAMk%2B%2Fx%3D%3D"
    assert path_segment("o'hara+1@example.org") == "o%27hara%2B1%40example.org"
    assert odata_literal("o'hara") == "'o''hara'"
    for nothing in ("", ".", ".."):
        with pytest.raises(ValueError, match="segment"):
            path_segment(nothing)


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
    found = parse_response(status, {}, content, raw=False, now=NOW)
    assert isinstance(found, NoResponse)
    assert found.request_sent


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"error": "x"}', b'{"error": {"code": 5, "message": [], "innerError": 1}}', b"\xff"])
def test_a_refusal_without_form_is_still_a_refusal(body: bytes) -> None:
    found = parse_response(400, {}, body, raw=False, now=NOW)
    assert isinstance(found, HttpResponse)
    assert (found.code, found.detail, found.request_id) == ("", "400 Bad Request", "")


# --- lost ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("reset-before", "connection reset by peer|the connection was cut"),
        ("reset-after", "connection reset by peer|the connection was cut"),
        ("garbage", "unexpected response"),
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
    assert "SSL_CERT_FILE" in str(client.service_error(lost, "x").hint)
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
