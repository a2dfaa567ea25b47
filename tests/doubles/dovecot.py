"""A Dovecot of our own: in a folder, on loopback with and without TLS, run by nobody important, gone afterwards."""

from __future__ import annotations

import imaplib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.doubles.daemons import free_port, listens, unprivileged
from tests.doubles.slapd import certificates
from tests.needs import require, require_file

PASSWORD = "a password of the mailbox, grün"
USER = "certs@example.org"


@dataclass
class Dovecot:
    """A running server. Every user has the same password; a mailbox is there when it is opened."""

    folder: Path
    port: int
    secure_port: int
    ca: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @contextmanager
    def opened(self, user: str = USER, folder: str = "INBOX") -> Iterator[imaplib.IMAP4]:
        """The mailbox, as another client sees it."""
        with imaplib.IMAP4("127.0.0.1", self.port, timeout=60) as client:
            client.authenticate("PLAIN", lambda _: f"\0{user}\0{PASSWORD}".encode())
            assert client.select(folder)[0] == "OK"
            yield client

    def add(self, *mails: bytes, user: str = USER, folder: str = "INBOX", at: datetime | None = None, flags: str = "") -> None:
        """Mails that arrived, now or at some time."""
        with self.opened(user) as client:
            for mail in mails:
                when = imaplib.Time2Internaldate(at) if at is not None else ""
                assert client.append(folder, flags, when, mail)[0] == "OK"

    def create(self, folder: str, user: str = USER) -> None:
        with self.opened(user) as client:
            assert client.create(folder)[0] == "OK"

    def recreate(self, folder: str, user: str = USER) -> None:
        """An empty folder in its place, with another UIDVALIDITY."""
        with self.opened(user) as client:
            assert client.delete(folder)[0] == "OK"
            assert client.create(folder)[0] == "OK"

    def flags(self, folder: str = "INBOX", user: str = USER) -> list[set[str]]:
        """Of every mail."""
        with self.opened(user, folder) as client:
            _, found = client.fetch("1:*", "(FLAGS)")
            return [{flag.decode() for flag in imaplib.ParseFlags(line)} for line in found if isinstance(line, bytes)]

    def stop(self) -> None:
        """End it, and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def dovecot(*, extra: str = "", keys: Mapping[str, bytes] | None = None) -> Iterator[Dovecot]:
    """Started, and stopped in the end. `extra`: more configuration; `keys`: public keys (PEM) of tokens by their id.

    A token of an app (`appid`) opens the mailbox of that name.
    """
    server = require("dovecot")
    require_file("/usr/lib/dovecot/imap")  # Debian has it in a package of its own
    folder = Path(tempfile.mkdtemp(prefix="dovecot-", dir="/tmp"))  # its sockets' paths may have 107 characters
    process = None
    try:
        ca = certificates(folder)
        process, port, secure = _started(server, folder, extra + _oauth(folder, keys))
        yield (running := Dovecot(folder, port, secure, ca, process))
        running.stop()
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _conf(folder: Path, port: int, secure: int, extra: str) -> str:
    user, group = ("nobody", "nogroup") if os.geteuid() == 0 else (str(os.getuid()), str(os.getgid()))
    return f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1, 127.0.0.2
mail_location = maildir:~/Maildir
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 0
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
default_process_limit = 20
default_client_limit = 100
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
ssl = yes
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.key
passdb {{
  driver = passwd-file
  mechanisms = plain login
  args = scheme=PLAIN username_format=everybody {folder}/users
}}
userdb {{
  driver = static
  args = home={folder}/mail/%u allow_all_users=yes
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {secure}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
{extra}
"""


def _oauth(folder: Path, keys: Mapping[str, bytes] | None) -> str:
    """Tokens are believed where a key signed them; Dovecot looks keys up by algorithm and id below the name of an app, here any."""
    if keys is None:
        return ""
    place = folder / "keys" / "default" / "RS256"
    place.mkdir(parents=True)
    for name, key in keys.items():
        (place / name).write_bytes(key)
    names = ("introspection_mode = local", f"local_validation_key_dict = fs:posix:prefix={folder}/keys/", "username_attribute = appid")
    (folder / "oauth2.conf").write_text("\n".join(names) + "\n", encoding="utf-8")
    return f"""
auth_mechanisms = plain login xoauth2
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {folder}/oauth2.conf
}}
"""


def _started(server: str, folder: Path, extra: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """Free ports may be taken by somebody else between looking and listening: then again."""
    (folder / "users").write_text(f"everybody:{PASSWORD}:\n", encoding="utf-8")
    (folder / "mail").mkdir()
    for _ in range(5):
        port, secure = free_port(), free_port()
        (folder / "dovecot.conf").write_text(_conf(folder, port, secure, extra), encoding="utf-8")
        prefix = unprivileged(folder)
        with (folder / "out").open("wb") as out:
            process = subprocess.Popen([*prefix, server, "-F", "-c", folder / "dovecot.conf"], stdout=out, stderr=out)
        if listens(process, port) and listens(process, secure):
            return process, port, secure
        process.kill()
        process.wait()
    raise AssertionError((folder / "out").read_text(errors="replace"))
