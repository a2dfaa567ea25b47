"""An SMTP server with faults on demand, as a process of its own: `python smtpd.py --log FILE [--rules JSON] [--control FILE] ...`.

It prints its port, writes one JSON line a stored message (with fsync, before the 250) and ends when its standard input does.
A rule is `{"verb": "DOT", "do": "reply", "text": "451 4.3.0 later", "nth": [1, 3], "match": "bob@"}`; `verb` is CONNECT, EHLO,
STARTTLS, AUTH, MAIL, RCPT, DATA, DOT, RSET or QUIT. `do`: reply, drop, reset, silence, delay (`seconds`), megabyte, and at DOT
also stored-drop, stored-silence and stored-reply. `nth` counts how often the rule's verb was said; without it every time counts.
In a reply's text SIGN_IN stands for what this connection signed in with, word for word, and TOKEN for the token in it.
The control file holds rules that are read again at each command.

`--xoauth2 FILE` offers AUTH XOAUTH2, over TLS only; the file is read at each attempt. It says whom tokens let in:
`{"tokens": {USER: [TOKEN]}}`, or `{"key": PEM_FILE, "audience": URL, "role": ROLE, "mailboxes": [USER]}` for tokens that the
Graph double signed. Each attempt is a line in LOG.attempts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import ssl
import sys
from collections import Counter
from pathlib import Path
from typing import Any

SECOND_STEP = {"LOGIN": 2, "PLAIN": 1}


class Cut(Exception):
    """The connection ends here."""


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seen: Counter[str] = Counter()
        self.log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.attempts = Path(f"{options.log}.attempts")
        self.tls = None
        if options.tls:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*options.tls)

    def rule(self, verb: str, line: str) -> dict[str, Any]:
        self.seen[verb] += 1
        rules = json.loads(self.options.rules)
        if self.options.control and Path(self.options.control).exists():
            rules = rules + json.loads(Path(self.options.control).read_text() or "[]")
        for rule in rules:
            times = rule.get("nth")
            if rule["verb"] == verb and (times is None or self.seen[verb] in times) and rule.get("match", "") in line:
                return rule
        return {}

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Session(self, reader, writer)
        try:
            await talk.run()
        except (Cut, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    def store(self, talk: Session, body: bytes) -> str:
        message = re.sub(rb"(?m)^\.", b"", body)
        found = re.search(rb"(?im)^message-id:\s*(\S+)", message)
        number = f"{os.fstat(self.log).st_size:X}"
        record = {
            "message_id": found[1].decode() if found else None,
            "from": talk.sender,
            "to": talk.recipient,
            "mail": talk.mail_words,
            "rcpt": talk.rcpt_words,
            "sha256": hashlib.sha256(message).hexdigest(),
            "tls": talk.secure,
            "user": talk.user,
        }
        if self.options.keep:
            Path(self.options.keep, f"{record['sha256']}.eml").write_bytes(message)
        os.write(self.log, (json.dumps(record) + "\n").encode())
        os.fsync(self.log)
        return number

    def lets_in(self, user: str, token: str) -> bool:
        """As Exchange Online does: a token for it, with the role, and a mailbox that the app may open."""
        wanted = json.loads(Path(self.options.xoauth2).read_text())
        good = token in wanted.get("tokens", {}).get(user, ()) or (
            "key" in wanted and user in wanted["mailboxes"] and signed(token, wanted)
        )
        with self.attempts.open("a") as file:
            file.write(json.dumps({"user": user, "token": hashlib.sha256(token.encode()).hexdigest(), "good": good}) + "\n")
        return good


def signed(token: str, wanted: dict[str, Any]) -> bool:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.doubles.graphd.tokens import Unverified, verify  # noqa: PLC0415  this is a program by itself, which seldom needs it

    try:
        claims = verify(token, wanted["audience"], Path(wanted["key"]).read_bytes())
    except Unverified:
        return False
    return wanted["role"] in claims.get("roles", ())


class Session:
    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.sender = self.recipient = self.mail_words = self.rcpt_words = self.user = None
        self.secure = bool(server.options.implicit)
        self.proof = self.token = ""

    async def run(self) -> None:
        await self.answer("CONNECT", "", "220 double.example.org ESMTP")
        while line := await self.reader.readline():
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            handler = getattr(self, f"on_{verb.lower()}", None)
            if handler is None:
                await self.reply("500 5.5.1 what?")
            else:
                await handler(rest)

    async def reply(self, text: str) -> None:
        self.writer.write("".join(f"{part}\r\n" for part in text.split("\n")).encode("utf-8", "surrogateescape"))
        await self.writer.drain()

    async def answer(self, verb: str, line: str, good: str, body: bytes | None = None) -> bool:
        """Whether it went well."""
        rule = self.server.rule(verb, line)
        action = rule.get("do", "")
        if body is not None and (action.startswith("stored-") or action in {"", "delay"}):
            good = good.replace("NUMBER", self.server.store(self, body))
        match action.removeprefix("stored-"):
            case "drop":
                raise Cut
            case "reset":
                self.writer.transport.abort()
                raise Cut
            case "silence":
                await asyncio.sleep(3600)
            case "megabyte":
                await self.reply("250 " + "x" * 2**20)
                return False
            case "reply":
                await self.reply(rule["text"].replace("SIGN_IN", self.proof).replace("TOKEN", self.token))
                if rule["text"].startswith("421"):
                    raise Cut
                return rule["text"][:1] in "23"
            case "delay":
                await asyncio.sleep(rule["seconds"])
        await self.reply(good)
        return True

    async def on_ehlo(self, rest: str) -> None:
        offers = ["double.example.org", "SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES", *self.server.options.offer]
        if self.server.tls and not self.secure:
            offers.append("STARTTLS")
        if self.server.options.auth and self.secure:
            offers.append(f"AUTH {self.server.options.mechanisms}")
        if self.server.options.xoauth2 and self.secure:
            offers.append("AUTH LOGIN XOAUTH2")
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        await self.answer("EHLO", rest, "\n".join(lines))

    async def on_starttls(self, rest: str) -> None:
        if await self.answer("STARTTLS", rest, "220 2.0.0 go on"):
            await self.writer.start_tls(self.server.tls)
            self.secure = True

    async def on_auth(self, rest: str) -> None:
        kind, _, first = rest.partition(" ")
        self.proof = f"AUTH {rest}"
        if not self.secure:
            await self.reply("538 5.7.11 Encryption required for requested authentication mechanism")
            return
        if kind == "XOAUTH2":
            await self.by_token(first)
            return
        if kind == "LOGIN":
            if first:  # as strict as the oldest servers
                await self.reply("501 5.5.2 LOGIN takes the name in a line of its own")
                return
            await self.reply("334 VXNlcm5hbWU6")
            user = base64.b64decode(await self.listen()).decode()
            await self.reply("334 UGFzc3dvcmQ6")
            given = f"{user}:{base64.b64decode(await self.listen()).decode()}"
        elif kind == "CRAM-MD5":
            await self.reply("334 " + base64.b64encode(b"<1896.697170952@double.example.org>").decode())
            name, _, digest = base64.b64decode(await self.listen()).decode().partition(" ")
            word = self.server.options.auth.partition(":")[2]
            good = hmac.new(word.encode(), b"<1896.697170952@double.example.org>", "md5").hexdigest() == digest
            given = f"{name}:{word if good else ''}"
        else:
            given = ":".join(base64.b64decode(first).decode().split("\0")[1:])
        good = given == self.server.options.auth
        if await self.answer("AUTH", rest, "235 2.7.0 welcome" if good else "535 5.7.8 wrong name or password") and good:
            self.user = given.partition(":")[0]

    async def listen(self) -> bytes:
        """One more line of a sign-in."""
        line = await self.reader.readline()
        self.proof += f" {line.decode().strip()}"
        return line

    async def by_token(self, first: str) -> None:
        """The refusal comes after an empty line that answers the challenge, as the protocol has it."""
        found = re.fullmatch(r"user=([^\x01]+)\x01auth=Bearer ([^\x01 ]+)\x01\x01", base64.b64decode(first, validate=True).decode())
        self.token = found[2] if found else ""
        good = bool(self.server.options.xoauth2 and found) and self.server.lets_in(*found.groups())
        if not good:
            await self.reply("334 " + base64.b64encode(b'{"status":"401","schemes":"bearer","scope":"SMTP.Send"}').decode())
            if (await self.reader.readline()).strip():
                await self.reply("501 5.5.2 an empty line was expected")
                return
        text = "235 2.7.0 Authentication successful" if good else "535 5.7.3 Authentication unsuccessful [DOUBLE.example.org]"
        if await self.answer("AUTH", first, text) and good:
            self.user = found[1]

    async def on_mail(self, rest: str) -> None:
        if self.sender is not None:
            await self.reply("503 5.5.1 nested MAIL")
        elif (self.server.options.auth or self.server.options.xoauth2) and not self.user:
            await self.reply("530 5.7.57 Client not authenticated to send mail")
        elif await self.answer("MAIL", rest, "250 2.1.0 sender ok"):
            self.sender, self.mail_words = re.search(r"<(.*?)>", rest)[1], rest

    async def on_rcpt(self, rest: str) -> None:
        if self.sender is None:
            await self.reply("503 5.5.1 MAIL first")
        elif await self.answer("RCPT", rest, "250 2.1.5 recipient ok"):
            self.recipient, self.rcpt_words = re.search(r"<(.*?)>", rest)[1], rest

    async def on_data(self, rest: str) -> None:
        if self.recipient is None:
            await self.reply("503 5.5.1 RCPT first")
        elif await self.answer("DATA", rest, "354 go on"):
            body = (await self.reader.readuntil(b"\r\n.\r\n"))[:-3]
            whom = self.recipient
            try:
                await self.answer("DOT", whom, "250 2.0.0 queued as NUMBER", body)
            finally:
                self.sender = self.recipient = None

    async def on_rset(self, rest: str) -> None:
        if await self.answer("RSET", rest, "250 2.0.0 forgotten"):
            self.sender = self.recipient = None

    async def on_quit(self, rest: str) -> None:
        await self.answer("QUIT", rest, "221 2.0.0 bye")
        raise Cut


async def main(options: argparse.Namespace) -> None:
    server = Server(options)
    secure = server.tls if options.implicit else None
    listening = await asyncio.start_server(server.talk, options.host, options.port, ssl=secure, limit=2**24)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201  the test reads it
    await asyncio.to_thread(sys.stdin.read)  # until the test that started us is gone
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--rules", default="[]")
    parser.add_argument("--control")
    parser.add_argument("--keep")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--implicit", action="store_true")
    parser.add_argument("--auth")
    parser.add_argument("--mechanisms", default="PLAIN LOGIN")
    parser.add_argument("--xoauth2")
    parser.add_argument("--offer", nargs="*", default=["DSN", "SMTPUTF8"])
    asyncio.run(main(parser.parse_args()))
