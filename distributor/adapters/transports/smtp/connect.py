"""Opens a Session: connects, EHLO, STARTTLS, AUTH; or a ConnectFailure with the reason.

A reply may repeat the proof of a sign-in, so every reply passes `Client.redact` before anything else uses it.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiosmtplib

from distributor.adapters.transports.smtp.replies import Lost, Phase, Reply
from distributor.adapters.transports.smtp.session import LONGEST_REPLY, Client, Session
from distributor.clients.app_registration import AccessToken, SignInUnavailable
from distributor.clients.entra import Entra
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.delivery import Account
from distributor.model.people import bounded
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

_UNKNOWN = {500, 502, 504}  # unknown or not implemented command
_CHALLENGE = 334  # to XOAUTH2: details of the refusal; the reply itself comes after an empty line


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect and how. `tls` is "starttls", "implicit" or "none"; time-outs in seconds."""

    host: str
    port: int
    tls: str
    hostname: str | None
    connect_timeout: float

    @property
    def where(self) -> str:
        """The server's name in errors."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """Who signs in, with a password or with an access token (XOAUTH2)."""

    username: str
    secret: Secret
    token: bool = False


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """No connection. `unreachable`: the server did not refuse us, it was not reached; `final`: a retry would fail too."""

    response: Reply | Lost
    verb: Phase
    error: Error
    unreachable: bool = False
    final: bool = False


async def connect(server: Server, trust: ssl.SSLContext | None, login: Login | None) -> Session | ConnectFailure:
    """Open a connection, signed in where there is a login."""
    implicit = server.tls == "implicit"
    client = Client(
        hostname=server.host,
        port=server.port,
        local_hostname="localhost",  # unused: EHLO is sent with a better name
        use_tls=implicit,
        start_tls=False,
        tls_context=trust,
        timeout=server.connect_timeout,
    )
    session = Session(client)
    try:
        failure = await _open(client, session, server, login)
    except BaseException:
        session.abort()
        raise
    if failure is None:
        return session
    session.abort()
    return failure


async def _open(client: Client, session: Session, server: Server, login: Login | None) -> ConnectFailure | None:
    verb = Phase.CONNECT
    try:
        await client.connect()
        verb = Phase.EHLO
        name = server.hostname or _own_name(client)
        await _greet(client, name, plain=server.tls != "starttls" and login is None)
        if server.tls == "starttls":
            verb = Phase.STARTTLS
            if not session.offers("starttls"):
                return _no_tls(server)
            await client.starttls()
            await client.ehlo(hostname=name)
        if login is not None:
            verb = Phase.AUTH
            with client.signing_in(login.secret):
                return await _sign_in(client, session, server, login)
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return _failure(verb, error, server, client.redact)
    return None


async def _greet(client: aiosmtplib.SMTP, name: str, *, plain: bool) -> None:
    """EHLO; HELO to a server that knows nothing else, where neither TLS nor AUTH is needed."""
    try:
        await client.ehlo(hostname=name)
    except aiosmtplib.SMTPHeloError as error:
        if error.code not in _UNKNOWN or not plain or not client.is_connected:
            raise
        await client.helo(hostname=name)


def _own_name(client: aiosmtplib.SMTP) -> str:
    """The name for EHLO: the host's if it is a full one, else the address literal, which is always true (RFC 5321 4.1.3)."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = client.get_transport_info("sockname")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


# --- signing in ----------------------------------------------------------------------------------------------------


async def _sign_in(client: Client, session: Session, server: Server, login: Login) -> ConnectFailure | None:
    if client.get_transport_info("sslcontext") is None:  # whatever the configuration allowed
        return _no_tls(server)
    if not login.token:
        await client.login(login.username, login.secret.reveal())
        return None
    if "xoauth2" not in client.server_auth_methods:
        return _no_xoauth2(server)
    proof = f"user={login.username}\x01auth=Bearer {login.secret.reveal()}\x01\x01"
    response = await session.say(b"AUTH", b"XOAUTH2", base64.b64encode(proof.encode()), timeout=server.connect_timeout)
    if isinstance(response, Reply) and response.code == _CHALLENGE:
        response = await session.say(b"", timeout=server.connect_timeout)
    match response:
        case Lost(why):
            return _unreached(Phase.AUTH, f"{Phase.AUTH}: {why}", server)
        case Reply(code) if code // 100 == 2:  # noqa: PLR2004  the first digit is the class
            return None
        case Reply(code, text):
            return _refused(Phase.AUTH, code, text, server)


def _no_tls(server: Server) -> ConnectFailure:
    why = "the server does not offer STARTTLS, and nothing is sent unencrypted"
    hint = 'use port 587, or `transport.tls = "implicit"` on port 465'
    return ConnectFailure(Reply(502, why), Phase.STARTTLS, ServiceUnavailable(why, where=server.where, hint=hint))


def _no_xoauth2(server: Server) -> ConnectFailure:
    why = "the server does not offer AUTH XOAUTH2"
    hint = (
        "use a server that accepts tokens, such as smtp.office365.com on port 587, or set `transport.password` instead of `transport.oauth`"
    )
    return ConnectFailure(Reply(504, why), Phase.AUTH, ServiceUnavailable(why, where=server.where, hint=hint))


# --- what goes wrong -----------------------------------------------------------------------------------------------


def _failure(verb: Phase, error: Exception, server: Server, redact: Redactor) -> ConnectFailure:
    cause = _root(error)
    match cause, error:
        case ssl.SSLCertVerificationError(verify_message=reason), _:
            text = f'the certificate is not trusted: "{reason}"'
            hint = "use the server name in its certificate, or trust its issuer: SSL_CERT_FILE=issuer.pem"
            return ConnectFailure(
                Reply(554, text), Phase.STARTTLS, ServiceUnavailable(text, where=server.where, hint=hint), unreachable=True
            )
        case _, aiosmtplib.SMTPResponseException(code=int(code), message=str(text)) if code > 0:
            return _refused(verb, code, redact(text[:LONGEST_REPLY]), server)
        case _, aiosmtplib.SMTPTimeoutError():
            return _unreached(verb, f"no answer to {verb} in {server.connect_timeout:g} s", server)
        case _, aiosmtplib.SMTPServerDisconnected():
            return _unreached(verb, f"the connection was cut at {verb}", server)
        case _:
            return _unreached(verb, redact(_plain(cause)), server)


def _refused(verb: Phase, code: int, text: str, server: Server) -> ConnectFailure:
    reply = Reply(code, text)
    return ConnectFailure(reply, verb, ServiceUnavailable(f'{verb} was refused: "{reply.detail}"', where=server.where))


def _unreached(verb: Phase, why: str, server: Server) -> ConnectFailure:
    hint = "check `transport.host`, `transport.port` and `transport.tls`, and that the server is running"
    return ConnectFailure(Lost(why), verb, ServiceUnavailable(why, where=server.where, hint=hint), unreachable=True)


def _root(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _plain(error: BaseException) -> str:
    match error:
        case socket.gaierror():
            return "no such host"
        case ssl.SSLError(reason=str(reason)):
            return f"TLS failed: {bounded(reason.replace('_', ' ').lower())}"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case OSError() if "Errno 111" in str(error):  # several addresses, none of them open
            return "connection refused"
        case _:
            text = bounded(str(error)).rstrip(".") or type(error).__name__  # the library's own sentence
            return text[0].lower() + text[1:]


# --- authentication --------------------------------------------------------------------------------
#
# Signs accounts in on a server: by password, or by an access token of Entra (XOAUTH2) that all connections of a run share.


Connect = Callable[[Login | None], Awaitable[Session | ConnectFailure]]
_NOBODY = "write the address of the mailbox that messages are sent from"
TOKEN_REJECTED_CODES = frozenset({"", "5.7.3", "5.7.8"})  # statuses of a 535 that names no policy, which would refuse any token


class Authenticator:
    """Signs accounts in: by token where there is `sign_in`, else by password; an account without its own uses `password`."""

    def __init__(self, password: Secret | None, sign_in: Entra | None, resource: str) -> None:
        self._password = password
        self._sign_in = sign_in
        self._resource = resource
        self._rejected: dict[str, Secret] = {}  # name -> a renewed token that was refused too

    @property
    def by_token(self) -> bool:
        """Whether accounts sign in with a token."""
        return self._sign_in is not None

    async def token(self) -> AccessToken | None:
        """The token that every connection uses; None where they use passwords. Raises ServiceUnavailable."""
        return None if self._sign_in is None else await self._sign_in.token(self._resource)

    def signed_in(self, account: Account) -> str:
        """Text for `doctor`: as whom an account is signed in."""
        if self._sign_in is not None:
            return f", signed in as {_name(account)} by OAuth"
        return f", signed in as {_name(account)}" if account.password or self._password else ""

    async def connect(self, account: Account, connect: Connect) -> Session | ConnectFailure:
        """Open a connection with `connect`, signed in."""
        if self._sign_in is not None:
            return await self._with_token(self._sign_in, _name(account), connect)
        password = account.password or self._password
        return await connect(None if password is None else Login(_name(account), password))

    async def _with_token(self, sign_in: Entra, name: str, connect: Connect) -> Session | ConnectFailure:
        """A refused token is renewed once: it may have been issued before the app got access to the mailbox."""
        if not name:
            missing = InvalidInput("missing", where="transport.username", hint=_NOBODY)
            return ConnectFailure(Lost("no account to sign in with"), Phase.AUTH, missing, final=True)
        try:
            token = await sign_in.token(self._resource)
            found = await connect(Login(name, token.secret, token=True))
            if not _is_token_rejected(found) or self._rejected.get(name) == token.secret:
                return found
            token = await sign_in.renewed(self._resource, token)
        except ServiceUnavailable as error:
            unreachable = isinstance(error, SignInUnavailable)
            return ConnectFailure(Lost(str(error)), Phase.AUTH, error, unreachable=unreachable, final=not unreachable)
        found = await connect(Login(name, token.secret, token=True))
        if _is_token_rejected(found):
            self._rejected[name] = token.secret
        return found


def _name(account: Account) -> str:
    return account.username or account.address


def _is_token_rejected(found: Session | ConnectFailure) -> bool:
    match found:
        case ConnectFailure(response=Reply(code=535) as reply, verb=Phase.AUTH):
            return reply.status in TOKEN_REJECTED_CODES
    return False
