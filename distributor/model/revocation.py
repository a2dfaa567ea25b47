"""Events and texts of revoked certificates and of incidents."""

from __future__ import annotations

from distributor.model.states import State

REVOKED = "revoked"  # event: the delivery's certificate was revoked
RELEASED = "released"  # event: the certificate was on hold and is valid again
INCIDENT = "incident"  # the event of a certificate whose key may be in the wrong hands
INCIDENT_RECORDED = "an incident was recorded on "  # the beginning of the text about such a certificate; a date follows
IN_USE = frozenset(set(State) - {State.REJECTED, State.BOUNCED, State.WITHDRAWN})  # somebody has the certificate, or will get it
HOLD = "on hold"  # the end of a revocation's text that may be lifted again (RFC 5280 5.3.1 certificateHold); no other may
HELD_BACK_PREFIX = "held back: "  # the beginning of the text for deliveries that wait because the clock jumped
GOOD_AGAIN = "the certificate was on hold and is valid again"


def is_hold(reason: str) -> bool:
    """Whether a revocation's text says that it may be lifted again."""
    return reason.endswith(f"{HOLD})")
