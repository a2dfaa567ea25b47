"""Signs accounts in on a server: by password, or by an access token of Entra (XOAUTH2) that all connections of a run share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from distributor.adapters.transports.smtp.connect import ConnectFailure, Login
from distributor.adapters.transports.smtp.replies import Lost, Phase, Reply
from distributor.adapters.transports.smtp.session import Session
from distributor.clients.app_registration import AccessToken, SignInUnavailable
from distributor.clients.entra import Entra
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.delivery import Account
from distributor.model.secret import Secret

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
            return ConnectFailure(Lost("nobody to sign in as"), Phase.AUTH, missing, final=True)
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
