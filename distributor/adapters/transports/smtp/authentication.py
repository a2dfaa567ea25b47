"""Accounts -> logins on a server: by a password, or by a token of Entra's (XOAUTH2), which is fetched once for all connections of a run."""

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
    """How accounts sign in. Without a `door` by password; an account without its own uses `password`."""

    def __init__(self, password: Secret | None, door: Entra | None, resource: str) -> None:
        self._password = password
        self._door = door
        self._resource = resource
        self._hopeless: dict[str, Secret] = {}  # name -> a fresh token that was refused as well

    @property
    def by_token(self) -> bool:
        """Whether it is OAuth."""
        return self._door is not None

    async def token(self) -> AccessToken | None:
        """The one that every connection uses; None where they use passwords. Raises Unavailable."""
        return None if self._door is None else await self._door.token(self._resource)

    def told(self, account: Account) -> str:
        """For `doctor`: as whom one is signed in."""
        if self._door is not None:
            return f", signed in as {_name(account)} by OAuth"
        return f", signed in as {_name(account)}" if account.password or self._password else ""

    async def dial(self, account: Account, connect: Connect) -> Session | ConnectFailure:
        """A connection, signed in."""
        if self._door is not None:
            return await self._with_token(self._door, _name(account), connect)
        password = account.password or self._password
        return await connect(None if password is None else Login(_name(account), password))

    async def _with_token(self, door: Entra, name: str, connect: Connect) -> Session | ConnectFailure:
        """A token that is refused is replaced once: it may have been made before the app was let into the mailbox."""
        if not name:
            missing = InvalidInput("missing", where="transport.username", hint=_NOBODY)
            return ConnectFailure(Lost("nobody to sign in as"), Phase.AUTH, missing, final=True)
        try:
            token = await door.token(self._resource)
            found = await connect(Login(name, token.secret, token=True))
            if not _unbelieved(found) or self._hopeless.get(name) == token.secret:
                return found
            token = await door.renewed(self._resource, token)
        except ServiceUnavailable as error:
            unanswered = isinstance(error, SignInUnavailable)
            return ConnectFailure(Lost(str(error)), Phase.AUTH, error, unreachable=unanswered, final=not unanswered)
        found = await connect(Login(name, token.secret, token=True))
        if _unbelieved(found):
            self._hopeless[name] = token.secret
        return found


def _name(account: Account) -> str:
    return account.username or account.address


def _unbelieved(found: Session | ConnectFailure) -> bool:
    match found:
        case ConnectFailure(heard=Reply(code=535) as reply, verb=Phase.AUTH):
            return reply.status in TOKEN_REJECTED_CODES
    return False
