"""What an app may do, compared with what all tables of its registration need."""

from __future__ import annotations

import pytest

from distributor.microsoft.permissions import (
    KEEP_DRAFTS,
    READ_CONTENT,
    READ_GROUPS,
    READ_PEOPLE,
    READ_TRACE,
    SEND,
    GrantedPermissions,
    MailboxDenied,
    PermissionUse,
    RequiredPermission,
    excess_permissions,
    let_in,
    missing,
)
from distributor.microsoft.powershell import App, command

MAILBOX, OTHER = "certificates@example.org", "reports@example.org"
SENDING = PermissionUse("transport", (SEND, KEEP_DRAFTS), (MAILBOX,))
COPIES = PermissionUse("trackers[0]", (READ_CONTENT,), (OTHER,))
PEOPLE = PermissionUse("rosters[0]", (READ_PEOPLE, READ_GROUPS))


def granted(*roles: str, readable: bool = True) -> GrantedPermissions:
    return GrantedPermissions(App("t", "app-1", "object-1", "https://graph.microsoft.com"), frozenset(roles), frozenset(), readable)


def found(seen: GrantedPermissions, *uses: PermissionUse) -> list[tuple[str, str]]:
    return [(diagnostic.level, diagnostic.message) for diagnostic in excess_permissions("transport", seen, uses)]


def commands(hint: str | None) -> list[str]:
    return [line for each in (hint or "").splitlines() if (line := command(each)) is not None]


@pytest.mark.parametrize(
    ("need", "role"),
    [
        (READ_CONTENT, "Mail.Read"),
        (READ_CONTENT, "Mail.ReadWrite"),
        (READ_PEOPLE, "Directory.Read.All"),
        (READ_GROUPS, "Group.Read.All"),
        (READ_TRACE, "ExchangeMessageTrace.Read.All"),
    ],
)
def test_a_need_is_met_by_its_permission_and_by_those_that_hold_it(need: RequiredPermission, role: str) -> None:
    assert missing(granted(role), [need]) == []
    assert missing(granted("Mail.Send"), [need]) == [need.permission]


def test_an_opaque_token_proves_nothing_missing() -> None:
    assert missing(granted(readable=False), [SEND]) == []


def test_reading_is_too_much_for_sending_alone_but_not_beside_a_tracker_that_reads() -> None:
    seen = granted("Mail.Send", "Mail.ReadWrite", "Mail.Read")
    assert ("warning", "permissions not needed: Mail.Read") in found(seen, SENDING)
    assert not [one for one in found(seen, SENDING, COPIES) if "permissions not needed" in one[1]]


def test_people_and_traces_are_too_much_where_nothing_asks_for_them() -> None:
    seen = granted("User.Read.All", "ExchangeMessageTrace.Read.All")
    assert ("warning", "permissions not needed: ExchangeMessageTrace.Read.All, User.Read.All") in found(seen, SENDING)
    assert not [one for one in found(granted("User.Read.All", "GroupMember.Read.All"), PEOPLE) if one[0] != "ok"]


def test_what_is_taken_away_is_replaced_first_where_it_was_of_use() -> None:
    (diagnostic,) = excess_permissions("roster", granted("Directory.Read.All"), [PEOPLE])
    first, second = commands(diagnostic.hint)
    assert "'GroupMember.Read.All','User.Read.All'" in first
    assert "New-MgServicePrincipalAppRoleAssignment" in first
    assert "'Directory.Read.All'" in second
    assert "Remove-MgServicePrincipalAppRoleAssignment" in second


def test_an_app_is_narrowed_in_two_steps_with_all_mailboxes_of_its_registration() -> None:
    (diagnostic,) = excess_permissions("transport", granted("Mail.Send", "Mail.ReadWrite"), [SENDING, COPIES])
    first, second = commands(diagnostic.hint)
    assert f"$names = '{MAILBOX}','{OTHER}'" in first
    assert "'Application Mail.ReadWrite','Application Mail.Send'" in first
    assert "Remove-" not in first
    assert "'Mail.ReadWrite','Mail.Send'" in second
    assert "two hours after InScope was True" in (diagnostic.hint or "")


def test_a_reader_alone_gets_the_role_of_reading_only() -> None:
    opened = let_in(MailboxDenied("tracker", "error", "no"), granted().app, [COPIES])
    assert "foreach ($role in 'Application Mail.Read')" in commands(opened.hint)[0]


def test_what_exchange_opens_is_said_to_be_out_of_sight_with_the_line_that_shows_it() -> None:
    (diagnostic,) = excess_permissions("transport", granted(), [SENDING])
    assert (diagnostic.level, "not visible in a token" in diagnostic.message) == ("ok", True)
    assert "Test-ServicePrincipalAuthorization -Identity 'object-1'" in commands(diagnostic.hint)[0]


def test_a_mailbox_is_named_once_whatever_its_messages() -> None:
    (diagnostic,) = excess_permissions(
        "transport", granted("Mail.Send"), [SENDING, PermissionUse("trackers[0]", (READ_CONTENT,), (MAILBOX.upper(),))]
    )
    assert f"$names = '{MAILBOX}';" in commands(diagnostic.hint)[0]
