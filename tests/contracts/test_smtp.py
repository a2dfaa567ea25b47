"""What an SMTP server does to a message, and what we make of it: a real server process with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.adapters.transports import smtp
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.attempts import Accepted, Ambiguous, Deferred, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.contracts.test_transports import intent, outbound
from tests.doubles.sink import Sink, smtpd


def deliver(
    sink: Sink, *outgoing: OutboundMessage, record_intent: Callable[[], Awaitable[bool]] | None = None, **settings: object
) -> list[Outcome]:
    """Every message on one connection."""
    made = smtp.Settings(**{"host": "127.0.0.1", "port": sink.port, "tls": "none", **settings})

    async def go() -> list[Outcome]:
        connection = smtp.open(made).connection()
        outcomes = [await connection.deliver(each, record_intent or intent(True)) for each in outgoing]
        await connection.close()
        return outcomes

    return asyncio.run(go())


def fault(verb: str, do: str, **more: object) -> dict[str, object]:
    return {"verb": verb, "do": do, "nth": [1], **more}


BEFORE = ["EHLO", "MAIL", "RCPT", "DATA"]
QUICK = {"connect_timeout": 0.3, "reply_timeout": 0.3, "data_timeout": 0.3, "dot_timeout": 0.3}


@pytest.mark.parametrize("verb", BEFORE)
@pytest.mark.parametrize("do", ["drop", "reset", "silence", "megabyte"])
def test_whatever_breaks_before_the_message_leaves_it_unsent(tmp_path: Path, verb: str, do: str) -> None:
    with smtpd(tmp_path, fault(verb, do)) as sink:
        first, second = deliver(sink, outbound(1), outbound(2), **QUICK)
        assert isinstance(first, NotSent)
        assert isinstance(second, Accepted)
        assert [record["message_id"] for record in sink.stored()] == ["<m2@x>"]


@pytest.mark.parametrize("do", ["drop", "reset", "silence", "megabyte", "stored-drop", "stored-reset", "stored-silence"])
def test_whatever_breaks_after_the_final_dot_leaves_the_message_ambiguous(tmp_path: Path, do: str) -> None:
    with smtpd(tmp_path, fault("DOT", do)) as sink:
        first, second = deliver(sink, outbound(1), outbound(2), **QUICK)
        assert isinstance(first, Ambiguous)
        assert isinstance(second, Accepted)
        assert [record["message_id"] for record in sink.stored()] == (["<m1@x>"] if "stored" in do else []) + ["<m2@x>"]


@pytest.mark.parametrize("text", ["hello?", "999 no such class", "354 go on again", "", "25", "\x00\x01", "25\u00b2 odd digit"])
def test_nonsense_is_no_answer(tmp_path: Path, text: str) -> None:
    with smtpd(tmp_path, fault("RCPT", "reply", text=text), fault("DOT", "reply", text=text)) as sink:
        before, after, fine = deliver(sink, outbound(1), outbound(2), outbound(3), **QUICK)
        assert isinstance(before, NotSent)
        assert isinstance(after, Ambiguous)
        assert isinstance(fine, Accepted)


def test_words_that_nobody_asked_for_are_not_taken_for_the_next_answer(tmp_path: Path) -> None:
    with smtpd(tmp_path, fault("DATA", "reply", text="354 go on\n250 2.0.0 queued as LIE")) as sink:
        first, second = deliver(sink, outbound(1), outbound(2))
        assert isinstance(first, NotSent)
        assert isinstance(second, Accepted)
        assert [record["message_id"] for record in sink.stored()] == ["<m2@x>"]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("text", ["451 4.3.0 later", "421 4.3.2 closing"])
def test_later_is_a_definite_no_for_now_at_every_verb(tmp_path: Path, verb: str, text: str) -> None:
    with smtpd(tmp_path, fault(verb, "reply", text=text)) as sink:
        first, second = deliver(sink, outbound(1), outbound(2))
        assert first == Deferred(text, service=text.startswith("421") or verb == "MAIL")
        assert isinstance(second, Accepted)


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("MAIL", "452 4.4.5 Maximum number of messages per session exceeded."),
        ("MAIL", "450 4.7.1 Error: too much mail from 192.0.2.1"),
        ("RCPT", "452 4.5.3 Too many recipients in this session"),
    ],
)
def test_a_used_connection_that_takes_no_more_messages_is_replaced_without_a_report(tmp_path: Path, verb: str, text: str) -> None:
    with smtpd(tmp_path, {"verb": verb, "do": "reply", "text": text, "nth": [3]}) as sink:
        assert all(isinstance(outcome, Accepted) for outcome in deliver(sink, *(outbound(number) for number in range(1, 6))))
        assert len(sink.stored()) == 5


@pytest.mark.parametrize(
    ("verb", "text", "hint"),
    [
        ("RCPT", "454 4.7.1 <x@example.org>: Relay access denied", "transport.password"),
        ("RCPT", "450 4.7.1 relaying denied", "transport.password"),
        ("MAIL", "452 4.3.1 Insufficient system storage", "free space"),
        ("DATA", "452 4.3.1 out of memory", "free space"),
        ("RCPT", "450 4.7.1 Error: too much mail from 192.0.2.1", "transport.rate"),
        ("MAIL", "451 4.3.0 try again", "again later"),
    ],
)
def test_a_4xx_about_the_server_says_so_and_what_to_do(tmp_path: Path, verb: str, text: str, hint: str) -> None:
    with smtpd(tmp_path, {"verb": verb, "do": "reply", "text": text}) as sink:
        (outcome,) = deliver(sink, outbound())
        assert isinstance(outcome, Deferred)
        assert outcome.service
        assert hint in outcome.hint


@pytest.mark.parametrize("text", ["452 4.2.2 the mailbox is full", "450 4.2.0 greylisted", "451 4.7.1 greylisting in action"])
def test_a_4xx_about_one_recipient_is_about_no_more(tmp_path: Path, text: str) -> None:
    with smtpd(tmp_path, {"verb": "RCPT", "do": "reply", "text": text}) as sink:
        (outcome,) = deliver(sink, outbound())
        assert outcome == Deferred(text)


def test_a_server_names_its_own_time(tmp_path: Path) -> None:
    with smtpd(tmp_path, fault("RCPT", "reply", text="450 4.7.1 greylisted, try again in 90 seconds")) as sink:
        (outcome,) = deliver(sink, outbound())
        assert isinstance(outcome, Deferred)
        assert outcome.retry_after is not None
        assert outcome.retry_after.total_seconds() == 90


@pytest.mark.parametrize(
    ("verb", "text", "content"),
    [
        ("RCPT", "550 5.1.1 no such user", False),
        ("RCPT", "551 5.1.6 moved", False),
        ("MAIL", "552 5.3.4 too big", True),
        ("DOT", "552 5.3.4 too big", True),
        ("DOT", "554 5.6.0 bad content", True),
        ("DOT", "550 5.0.350 x-dg-ref header: attachment type is blocked", True),
        ("DOT", "550 5.7.1 policy", True),
    ],
)
def test_a_no_to_this_message_rejects_it_and_the_next_one_goes(tmp_path: Path, verb: str, text: str, content: bool) -> None:  # noqa: FBT001
    with smtpd(tmp_path, fault(verb, "reply", text=text)) as sink:
        first, second = deliver(sink, outbound(1), outbound(2))
        assert first == Rejected(text, content=content)
        assert isinstance(second, Accepted)


@pytest.mark.parametrize(
    ("verb", "text", "hint"),
    [
        ("MAIL", "550 5.1.0 who are you", "sender.address"),
        ("MAIL", "530 5.7.57 Client not authenticated to send mail", "transport.password"),
        ("MAIL", "530 5.7.0 Must issue a STARTTLS command first", "starttls"),
        ("DOT", "554 5.2.252 SendAsDenied; a@example.org not allowed to send as b", "SendAs"),
        ("DOT", "550 5.7.60 Client does not have permissions to send as this sender", "SendAs"),
        ("DOT", "550 5.7.30 Basic authentication is not supported for Client Submission.", "relay"),
        ("DOT", "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException", "Sent Items"),
        ("DOT", "554 5.2.0 STOREDRV.Submission.Exception: daily limit", "tomorrow"),
        ("RCPT", "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization", "RejectDirectSend"),
        ("MAIL", "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients", "daily limit"),
    ],
)
def test_a_no_to_the_whole_job_stops_the_run_with_the_switch_to_turn(tmp_path: Path, verb: str, text: str, hint: str) -> None:
    with smtpd(tmp_path, fault(verb, "reply", text=text)) as sink:
        (outcome,) = deliver(sink, outbound())
        assert isinstance(outcome, NotSent)
        assert isinstance(outcome.fatal, ServiceUnavailable)
        assert hint in str(outcome.fatal.hint)
        assert outcome.fatal.where == f"127.0.0.1:{sink.port}"


@pytest.mark.parametrize(
    "text", ["432 4.3.2 Concurrent connections limit exceeded", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"]
)
def test_too_many_connections_ask_for_one_less(tmp_path: Path, text: str) -> None:
    with smtpd(tmp_path, fault("MAIL", "reply", text=text)) as sink:
        assert deliver(sink, outbound()) == [NotSent(text, throttled=True)]


def test_a_connection_that_died_of_idleness_is_made_again_without_a_word(tmp_path: Path) -> None:
    with smtpd(
        tmp_path, {"verb": "MAIL", "do": "drop", "nth": [2]}, {"verb": "MAIL", "do": "reply", "text": "421 4.4.2 idle", "nth": [4]}
    ) as sink:
        assert [type(outcome) for outcome in deliver(sink, outbound(1), outbound(2), outbound(3))] == [Accepted] * 3
        assert len(sink.stored()) == 3


def test_the_envelope_asks_for_notices_and_names_the_delivery(tmp_path: Path) -> None:
    with smtpd(tmp_path) as sink:
        message = OutboundMessage("d-1+2", "a@example.org", "o'hara+x=y@example.org", "<m@x>", outbound().message)
        deliver(sink, message)
        (record,) = sink.stored()
        assert record["mail"] == f"FROM:<a@example.org> SIZE={len(message.message)} RET=HDRS ENVID=d-1+2B2.1"
        assert record["rcpt"] == "TO:<o'hara+x=y@example.org> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;o'hara+2Bx+3Dy@example.org"


def test_an_address_beyond_ascii_goes_only_where_the_server_can_take_it(tmp_path: Path) -> None:
    message = OutboundMessage("d-1", "a@example.org", "jörg@example.org", "<m@x>", "To: jörg@example.org\r\n\r\nhello\r\n".encode())
    with smtpd(tmp_path / "can") as sink:
        assert isinstance(deliver(sink, message)[0], Accepted)
        (record,) = sink.stored()
        assert record["to"] == "jörg@example.org"
        assert "SMTPUTF8" in record["mail"]
        assert "BODY=8BITMIME" in record["mail"]
    with smtpd(tmp_path / "cannot", options=("--offer", "DSN")) as sink:
        assert deliver(sink, message, outbound(2))[0] == Rejected("the server does not offer SMTPUTF8, which this address needs")
        assert [record["to"] for record in sink.stored()] == ["p2@example.org"]


@pytest.mark.parametrize("message", [b"a\nb\r\n", b"a\rb\r\n", b"no end", b"a\r\n.\nb\r\n"])
def test_a_message_with_other_line_ends_than_crlf_never_meets_a_server(tmp_path: Path, message: bytes) -> None:
    with smtpd(tmp_path) as sink:
        (outcome,) = deliver(sink, OutboundMessage("d", "a@example.org", "b@example.org", "<m@x>", message))
        assert isinstance(outcome, Rejected)


def test_what_a_server_says_is_harmless_and_bounded(tmp_path: Path) -> None:
    with smtpd(tmp_path, fault("DOT", "reply", text="550 5.7.1 \x1b[2Jgone \u202e" + "x" * 5000)) as sink:
        (outcome,) = deliver(sink, outbound())
        assert isinstance(outcome, Rejected)
        assert outcome.response.startswith("550 5.7.1 \\x1b[2Jgone \\u202exxx")
        assert len(outcome.response) == 500


def test_a_server_that_was_never_there_stops_the_run_at_once() -> None:
    nobody = Sink(1, Path(), Path(), Path())
    (outcome,) = deliver(nobody, outbound())
    assert isinstance(outcome, NotSent)
    assert str(outcome.fatal) == "127.0.0.1:1: connection refused"


def test_an_answer_that_does_not_come_is_waited_for_as_long_as_is_set(tmp_path: Path) -> None:
    with smtpd(tmp_path, {"verb": "DOT", "do": "delay", "seconds": 0.6}) as sink:
        assert isinstance(deliver(sink, outbound(), dot_timeout=60.0)[0], Accepted)


class Stubborn:
    """A server that says yes to everything and reads nothing of the message until it is told to."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening, self.go_on, self.took = listening, threading.Event(), 0
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        line, _ = self.listening.accept()
        line.settimeout(120)
        with line, line.makefile("rb") as lines:
            line.sendall(b"220 stubborn\r\n")
            while not lines.readline().startswith(b"DATA"):
                line.sendall(b"250 yes\r\n")
            line.sendall(b"354 go on\r\n")
            self.go_on.wait(120)
            with contextlib.suppress(ConnectionError):
                while part := lines.read1(2**20):
                    self.took += len(part)


def loops() -> list[Any]:
    """Python's own, and the one that comes along where it exists."""
    found = [pytest.param(None, id="asyncio")]
    if importlib.util.find_spec("uvloop"):
        found.append(pytest.param(importlib.import_module("uvloop").new_event_loop, id="uvloop"))
    return found


@pytest.mark.parametrize("loop", loops())
def test_nothing_of_a_message_goes_out_after_its_time_is_over(loop: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """Whatever is still buffered then: the message counts as unclear, and must not arrive whole by and by."""
    message = replace(outbound(), message=(b"x" * 998 + b"\r\n") * 32_768)  # more than the system's own buffers take

    async def go(port: int) -> Outcome:
        connection = smtp.open(smtp.Settings("127.0.0.1", port, "none", dot_timeout=0.3)).connection()
        outcome = await connection.deliver(message, intent(True))
        stubborn.go_on.set()
        await asyncio.to_thread(stubborn.thread.join)
        await connection.close()
        return outcome

    with socket.create_server(("127.0.0.1", 0)) as listening, asyncio.Runner(loop_factory=loop) as runner:
        stubborn = Stubborn(listening)
        stubborn.thread.start()
        assert isinstance(runner.run(go(listening.getsockname()[1])), Ambiguous)
    assert stubborn.took < len(message.message)


# --- encryption and sign-in ----------------------------------------------------------------------------------------


@pytest.fixture
def trusted(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A server certificate for localhost whose issuer SSL_CERT_FILE names."""
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    found = authority.issue(name="localhost", names=names, extended=(ExtendedKeyUsageOID.SERVER_AUTH,))
    (tmp_path / "root.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in found.chain))
    (tmp_path / "server.pem").write_bytes(found.pem + b"".join(each.public_bytes(Encoding.PEM) for each in found.chain))
    (tmp_path / "server.key").write_bytes(found.key_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    return "--tls", str(tmp_path / "server.pem"), str(tmp_path / "server.key")


def test_starttls_and_a_password_carry_the_message(tmp_path: Path, trusted: tuple[str, ...]) -> None:
    with smtpd(tmp_path, options=(*trusted, "--auth", "me:päss word")) as sink:
        (outcome,) = deliver(sink, outbound(), tls="starttls", username="me", password=Secret("päss word"))
        assert isinstance(outcome, Accepted)
        assert [(record["tls"], record["user"]) for record in sink.stored()] == [(True, "me")]


@pytest.mark.parametrize("mechanism", ["LOGIN", "PLAIN", "CRAM-MD5"])
def test_each_mechanism_signs_in(tmp_path: Path, trusted: tuple[str, ...], mechanism: str) -> None:
    with smtpd(tmp_path, options=(*trusted, "--auth", "me:word", "--mechanisms", mechanism)) as sink:
        (outcome,) = deliver(sink, outbound(), tls="starttls", username="me", password=Secret("word"))
        assert isinstance(outcome, Accepted)


def test_implicit_tls_carries_the_message(tmp_path: Path, trusted: tuple[str, ...]) -> None:
    with smtpd(tmp_path, options=(*trusted, "--implicit")) as sink:
        assert isinstance(deliver(sink, outbound(), tls="implicit")[0], Accepted)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_nobody_vouches_for_stops_the_run(
    tmp_path: Path, trusted: tuple[str, ...], tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with smtpd(tmp_path, options=(*trusted, *(["--implicit"] if tls == "implicit" else []))) as sink:
        (outcome,) = deliver(sink, outbound(), tls=tls)
        assert isinstance(outcome, NotSent)
        assert "the certificate is not trusted" in str(outcome.fatal)
        assert "SSL_CERT_FILE" in str(outcome.fatal.hint if outcome.fatal else "")


def test_a_server_without_starttls_gets_nothing(tmp_path: Path) -> None:
    with smtpd(tmp_path) as sink:
        (outcome,) = deliver(sink, outbound(), tls="starttls", username="me", password=Secret("word"))
        assert isinstance(outcome, NotSent)
        assert "does not offer STARTTLS" in str(outcome.fatal)
        assert "587" in str(outcome.fatal.hint if outcome.fatal else "")
        assert sink.stored() == []


def test_a_server_without_sign_in_stops_the_run_in_our_words(tmp_path: Path, trusted: tuple[str, ...]) -> None:
    with smtpd(tmp_path, options=trusted) as sink:
        (outcome,) = deliver(sink, outbound(), tls="starttls", username="me", password=Secret("word"))
        assert isinstance(outcome, NotSent)
        assert str(outcome.fatal) == f"127.0.0.1:{sink.port}: the SMTP AUTH extension is not supported by this server"


def test_a_wrong_password_stops_the_run_and_is_not_shown(tmp_path: Path, trusted: tuple[str, ...]) -> None:
    with smtpd(tmp_path, options=(*trusted, "--auth", "me:right")) as sink:
        (outcome,) = deliver(sink, outbound(), tls="starttls", username="me", password=Secret("hunter2"))
        assert isinstance(outcome, NotSent)
        assert outcome.fatal is not None
        assert "transport.password" in str(outcome.fatal.hint)
        assert "hunter2" not in repr((outcome, str(outcome.fatal)))
        made = smtp.Settings("127.0.0.1", sink.port, username="me", password=Secret("hunter2"))
        (diagnostic,) = asyncio.run(smtp.open(made).check())
        assert (diagnostic.level, diagnostic.hint) == ("error", outcome.fatal.hint)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"host": "192.0.2.1", "tls": "none"}, "unencrypted"),
        ({"host": "127.0.0.1", "tls": "none", "password": Secret("x")}, "password"),
        ({"host": "no-such-host.invalid", "tls": "none"}, "unencrypted"),
        ({"host": "127.0.0.1", "tls": "ssl3"}, "ssl3"),
    ],
)
def test_a_configuration_that_would_send_in_clear_is_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidInput, match=word) as caught:
        smtp.open(smtp.Settings(**settings))
    assert caught.value.where == "transport.tls"
    assert caught.value.hint


@pytest.mark.parametrize(("key", "value"), [("connections", 0), ("per_minute", 0.0), ("per_minute", -1.0)])
def test_a_transport_that_could_send_nothing_is_refused(key: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{value:g}"):
        smtp.open(smtp.Settings("127.0.0.1", tls="none", **{key: value}))
