"""Accounts -> logins on a server: by a password, or by a token of Entra's (XOAUTH2), which is fetched once for all connections of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from distributor.adapters.transports.smtp.connect import Down, Login
from distributor.adapters.transports.smtp.replies import Lost, Reply, Verb
from distributor.adapters.transports.smtp.session import Session
from distributor.clients.entra import Entra, Token, Unanswered
from distributor.errors import Unavailable, Unusable
from distributor.model.delivery import Account
from distributor.model.secret import Secret

Connect = Callable[[Login | None], Awaitable[Session | Down]]
_NOBODY = "write the address of the mailbox that letters are sent from"
_UNBELIEVED = frozenset({"", "5.7.3", "5.7.8"})  # statuses of a 535 that names no policy, which would refuse any token


class Signing:
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

    async def token(self) -> Token | None:
        """The one that every connection uses; None where they use passwords. Raises Unavailable."""
        return None if self._door is None else await self._door.token(self._resource)

    def told(self, account: Account) -> str:
        """For `doctor`: as whom one is signed in."""
        if self._door is not None:
            return f", signed in as {_name(account)} by OAuth"
        return f", signed in as {_name(account)}" if account.password or self._password else ""

    async def dial(self, account: Account, connect: Connect) -> Session | Down:
        """A connection, signed in."""
        if self._door is not None:
            return await self._with_token(self._door, _name(account), connect)
        password = account.password or self._password
        return await connect(None if password is None else Login(_name(account), password))

    async def _with_token(self, door: Entra, name: str, connect: Connect) -> Session | Down:
        """A token that is refused is replaced once: it may have been made before the app was let into the mailbox."""
        if not name:
            missing = Unusable("missing", where="transport.username", hint=_NOBODY)
            return Down(Lost("nobody to sign in as"), Verb.AUTH, missing, final=True)
        try:
            token = await door.token(self._resource)
            found = await connect(Login(name, token.secret, token=True))
            if not _unbelieved(found) or self._hopeless.get(name) == token.secret:
                return found
            token = await door.renewed(self._resource, token)
        except Unavailable as error:
            unanswered = isinstance(error, Unanswered)
            return Down(Lost(str(error)), Verb.AUTH, error, unreachable=unanswered, final=not unanswered)
        found = await connect(Login(name, token.secret, token=True))
        if _unbelieved(found):
            self._hopeless[name] = token.secret
        return found


def _name(account: Account) -> str:
    return account.username or account.address


def _unbelieved(found: Session | Down) -> bool:
    match found:
        case Down(heard=Reply(code=535) as reply, verb=Verb.AUTH):
            return reply.status in _UNBELIEVED
    return False
