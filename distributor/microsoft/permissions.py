"""The permissions that a configuration needs, and those in an app's token -> what is missing, unused or too wide. Pure.

Grants of Entra (in the token) and of Exchange (RBAC for Applications, in no token) add up; only those of Exchange can be narrowed to
mailboxes (facts: sending.md 1.7).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from distributor.microsoft import powershell
from distributor.microsoft.powershell import WINDOW, App, steps
from distributor.model.issues import Diagnostic
from distributor.model.people import key_of

_PERSONS = frozenset({"openid", "profile", "email", "offline_access", "User.Read", "Mail.Send.Shared", "Mail.ReadWrite.Shared"})
_PHONES = "DeviceManagement"  # prefix of Intune's permissions


@dataclass(frozen=True, slots=True)
class RequiredPermission:
    """A permission. `alike`: others that suffice and allow little more; `wider`: others that suffice and allow much more."""

    permission: str
    alike: frozenset[str] = frozenset()
    wider: frozenset[str] = frozenset()

    @property
    def enough(self) -> frozenset[str]:
        """Itself and `alike`: grants that are not excessive."""
        return self.alike | {self.permission}

    def met(self, shown: Collection[str]) -> bool:
        """Whether a token with these permissions suffices."""
        return not (self.enough | self.wider).isdisjoint(shown)


_ALL_OF_IT = frozenset({"Directory.Read.All", "Directory.ReadWrite.All"})
SEND = RequiredPermission("Mail.Send")
KEEP_DRAFTS = RequiredPermission("Mail.ReadWrite")
READ_CONTENT = RequiredPermission("Mail.Read", frozenset({"Mail.ReadWrite"}))  # a report is an attachment, which Mail.ReadBasic leaves out
MARK_MAIL = KEEP_DRAFTS  # the same permission: a category, or another folder
READ_TRACE = RequiredPermission("ExchangeMessageTrace.Read.All")
READ_PEOPLE = RequiredPermission("User.Read.All", wider=_ALL_OF_IT | {"User.ReadWrite.All"})
READ_GROUPS = RequiredPermission(
    "GroupMember.Read.All", wider=_ALL_OF_IT | {"GroupMember.ReadWrite.All", "Group.Read.All", "Group.ReadWrite.All"}
)
IMPORT_PFX = RequiredPermission("DeviceManagementConfiguration.ReadWrite.All")
MANAGE_APPS = RequiredPermission("DeviceManagementApps.ReadWrite.All")


@dataclass(frozen=True, slots=True)
class PermissionUse:
    """A table that signs in with a registration, what it needs, and the mailboxes that it opens."""

    key: str
    needs: tuple[RequiredPermission, ...]
    mailboxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GrantedPermissions:
    """A registration and the permissions in its token. `readable`: what is not in the token is not granted in Entra."""

    app: App
    roles: frozenset[str]
    scopes: frozenset[str]
    readable: bool = True

    @property
    def shown(self) -> frozenset[str]:
        """Roles and scopes together."""
        return self.roles | self.scopes


@dataclass(frozen=True, slots=True)
class ExcessPermission(Diagnostic):
    """About a whole registration, from the view of a single table; `doctor` replaces it when it has seen all tables."""


@dataclass(frozen=True, slots=True)
class MailboxDenied(Diagnostic):
    """A mailbox that an app may not use as it should, and why. Its hint is the command that grants all mailboxes of the registration."""

    why: str = ""


# --- missing ------------------------------------------------------------------------------------------------------


def missing(granted: GrantedPermissions, needs: Sequence[RequiredPermission]) -> list[str]:
    """Permissions that a readable token would have if they were granted."""
    return [need.permission for need in needs if granted.readable and not need.met(granted.shown)]


def lacking(area: str, granted: GrantedPermissions, names: Sequence[str]) -> Diagnostic:
    """The line of `doctor` about missing permissions."""
    text = f"the app lacks {' and '.join(names)}, which is required here"
    return Diagnostic(area, "error", text, steps(f"grant it, {WINDOW}:", (powershell.consent(granted.app, names),)))


def let_in(shut: MailboxDenied, app: App, uses: Sequence[PermissionUse], scope: str = powershell.NAME) -> MailboxDenied:
    """The line of `doctor` with that command; `doctor` puts a longer one in its place when it has seen all tables."""
    line = powershell.scope_mailboxes(app, mailboxes(uses), _exchange_roles(uses), scope)
    return replace(shut, hint=steps(f"{shut.why}; grant access, {WINDOW}, and wait up to two hours:", (line,)))


# --- excessive --------------------------------------------------------------------------------------------------------


def excess_permissions(
    area: str, granted: GrantedPermissions, uses: Sequence[PermissionUse], scope: str = powershell.NAME
) -> Iterator[ExcessPermission]:
    """What a registration may do beyond what all its tables need."""
    needed = frozenset[str]().union(*(need.enough for use in uses for need in use.needs))
    wide = sorted(role for role in granted.roles & needed if role.startswith("Mail."))
    if wide:
        text = f"{' and '.join(wide)}: granted for every mailbox of the tenant, unless an application access policy restricts it"
        yield ExcessPermission(area, "warning", text, _narrowing(granted.app, uses, wide, scope))
    if more := needless(granted.shown, needed):
        yield ExcessPermission(area, "warning", f"permissions not needed: {', '.join(more)}", _removal(granted, uses, more))
    if not wide and granted.readable and granted.roles >= granted.scopes and mailboxes(uses):
        text = "roles assigned in Exchange (RBAC) are not visible in a token; one without a scope would apply to every mailbox"
        hint = steps(
            f"check the scope of each role, {WINDOW}; ScopeType Organization means every mailbox:", (powershell.opened(granted.app),)
        )
        yield ExcessPermission(area, "ok", text, hint)


def needless(shown: Collection[str], needed: Collection[str]) -> list[str]:
    """Permissions that no table uses. Those of Intune count where one is needed; else the app may have them for other work."""
    others = () if any(one.startswith(_PHONES) for one in needed) else (_PHONES,)
    return sorted(one for one in shown if one not in needed and one not in _PERSONS and not one.startswith(others))


def _narrowing(app: App, uses: Sequence[PermissionUse], wide: Sequence[str], scope: str) -> str:
    """In two steps: the new roles take effect within two hours, and until then the old ones are needed."""
    boxes = mailboxes(uses)
    return steps(
        f"limit the app to {' and '.join(boxes)} in two steps, each {WINDOW}. First:",
        (powershell.scope_mailboxes(app, boxes, _exchange_roles(uses), scope),),
        "two hours after InScope was True for every role, and not earlier (a change takes that long):",
        (powershell.taken_back(app, wide),),
    )


def _removal(granted: GrantedPermissions, uses: Sequence[PermissionUse], more: Sequence[str]) -> str:
    """If what is removed was what met a need, the least that meets it is granted first."""
    if not granted.roles:
        return "remove them: Entra, App registrations, API permissions; people consent again at the next sign-in"
    left = replace(granted, roles=granted.roles - set(more), scopes=granted.scopes - set(more))
    needs = [need for use in uses for need in use.needs]
    lost = sorted({*missing(left, needs)} - {*missing(granted, needs)})
    gone = powershell.taken_back(granted.app, more)
    if not lost:
        return steps(f"remove them, {WINDOW}:", (gone,))
    first = powershell.consent(granted.app, lost)
    return steps(f"{' and '.join(lost)} is enough: grant that, then remove the others, {WINDOW}:", (first, gone))


# --- mailboxes -------------------------------------------------------------------------------------------------------


def mailboxes(uses: Sequence[PermissionUse]) -> list[str]:
    """The mailboxes of all tables, each once, ignoring case."""
    return list({key_of(mailbox): mailbox for use in reversed(uses) for mailbox in reversed(use.mailboxes)}.values())[::-1]


def _exchange_roles(uses: Sequence[PermissionUse]) -> list[str]:
    """The fewest Exchange roles that suffice: changing messages includes reading."""
    wanted = {need.permission for use in uses for need in use.needs if need.permission.startswith("Mail.")}
    return sorted(wanted - ({READ_CONTENT.permission} if KEEP_DRAFTS.permission in wanted else set()))


# --- sign in remedies --------------------------------------------------------------------------------
# The AADSTS number of a failed sign-in -> the line of PowerShell that fixes it, where there is one. Pure.


_NUMBER = re.compile(r"AADSTS(\d{4,8})")
_PUBLIC = "openssl x509 -in app.pem -out app.crt"  # the certificate without its key
_MENDS: Mapping[int, tuple[str, Callable[[App], str]]] = {
    7000215: (f"or create a new one, {WINDOW}", powershell.new_secret),
    7000222: (WINDOW, powershell.new_secret),
    7000112: (WINDOW, powershell.enterprise_application),
    7000229: (WINDOW, powershell.enterprise_application),
}
_CONSENT = frozenset({65001, 501051})
_UNREGISTERED, _UNTIMELY = 700027, 700024
_CLOCK = "timedatectl set-ntp true"
_EXPIRED = "the certificate expired on"  # found before Entra is asked
_ANEW = (
    "umask 077; openssl req -x509 -newkey rsa:2048 -nodes -days 730 -subj /CN=distributor -keyout app.key -out app.crt"
    " && cat app.key app.crt > app.pem && rm app.key"
)


def remedy(message: str, hint: str | None, app: App, permissions: tuple[str, ...] = (), service: str = powershell.GRAPH) -> str | None:
    """The hint of a failed sign-in, with commands. `permissions`: those of that service to consent to."""
    found = _NUMBER.search(message)
    number = int(found[1]) if found else 0
    if number in _CONSENT and permissions:
        return steps(f"{hint}; {WINDOW}:", (powershell.consent(app, permissions, service),))
    if number in _MENDS:
        words, line = _MENDS[number]
        return steps(f"{hint}; {words}:", (line(app),))
    if number == _UNREGISTERED or _EXPIRED in message:
        first = _ANEW if _EXPIRED in message else _PUBLIC
        return steps(f"{hint}; on this machine:", (first,), f"then with app.crt, {WINDOW}:", (powershell.certificate(app),))
    return steps(f"{hint}; on this machine:", (_CLOCK,)) if number == _UNTIMELY else hint


# --- clock skew --------------------------------------------------------------------------------
# The difference between this machine's clock and a service's -> a line of `doctor`.


ODD, WRONG = timedelta(seconds=30), timedelta(minutes=5)  # of difference; Entra tolerates five minutes


def clock_skew_check(skew: timedelta | None) -> Iterator[Diagnostic]:
    """`skew` is the service's clock minus ours; None: unknown."""
    if skew is None or abs(skew) <= ODD:
        return
    seconds = round(abs(skew).total_seconds())
    text = f"this machine's clock is {seconds} s {'behind' if skew > timedelta() else 'ahead of'} the service's"
    level = "error" if abs(skew) > WRONG else "warning"
    yield Diagnostic("transport", level, text, steps("set the clock and turn on NTP:", ("timedatectl set-ntp true",)))
