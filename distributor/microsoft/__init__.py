"""The host names of Exchange Online."""

from __future__ import annotations

# its submission hosts, in every cloud; High Volume Email is none of them, since it has no mailbox
_SUBMISSION = frozenset(
    {"smtp.office365.com", "smtp-legacy.office365.com", "outlook.office365.com", "smtp.office365.us", "smtp.partner.outlook.cn"}
)


def is_exchange_online(host: str) -> bool:
    """Whether this host submits from a mailbox of Exchange Online, with its rate limits and its Sent Items."""
    return host.lower().rstrip(".") in _SUBMISSION
