"""What is known of Exchange Online by its hosts' names."""

from __future__ import annotations

# its submission hosts, in every cloud; High Volume Email is none of them, since it has no mailbox
_SUBMISSION = frozenset(
    {"smtp.office365.com", "smtp-legacy.office365.com", "outlook.office365.com", "smtp.office365.us", "smtp.partner.outlook.cn"}
)


def is_exchange_online(host: str) -> bool:
    """Whether messages that are given to this host leave a mailbox, with its pace and its Sent Items."""
    return host.lower().rstrip(".") in _SUBMISSION
