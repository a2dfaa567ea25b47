"""Ways to send messages, one module per kind, each with `Settings`, `check_settings` and `open`."""

from __future__ import annotations

from distributor.errors import InvalidInput


def check_limits(per_minute: float | None, daily: int | None, daily_hint: str) -> None:
    """Raise InvalidInput for limits of a mailbox with which nothing could be sent; None: no limit."""
    if per_minute is not None and per_minute <= 0:
        message = f"{per_minute:g} messages a minute is not a positive rate"
        raise InvalidInput(message, where="transport.rate", hint='write a rate such as "30/min"')
    if daily is not None and daily < 1:
        raise InvalidInput(f"{daily} messages a day is not a positive number", where="transport.daily", hint=daily_hint)
