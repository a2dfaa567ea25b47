"""Composes what fulfils approved requests: the places where certificates are found again, and processes that open them."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

from distributor.model.requests import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Collection

    from distributor import config
    from distributor.model.ports import Ledger
    from distributor.workflows.requests import Fulfilled, IsMember, Unfulfilled
    from distributor.workflows.resend import Places


def limits(settings: config.Settings) -> RequestLimits:
    """How often a person may ask."""
    return RequestLimits() if settings.portal is None else RequestLimits(settings.portal.daily, settings.portal.monthly)


def places(settings: config.Settings) -> Places:
    """Where certificates are found again; each new generation needs its own, since each may begin a plan."""
    from distributor.bootstrap import inputs
    from distributor.workflows.resend import Places

    configured = inputs.configured(settings)
    return Places(partial(inputs.open_plan, settings), inputs.inputs(configured) if configured else None, secrets.token_hex(4))


def fulfil(
    settings: config.Settings, ledger: Ledger, addresses: Collection[str] = (), is_member: IsMember | None = None
) -> list[Fulfilled | Unfulfilled]:
    """Plan a new generation for each approved request that has none yet; `addresses` (Address.key): only for these people.

    May be called from any thread. What cannot be found stays approved, and the next call tries again.
    """
    from distributor.model.people import key_of

    waiting = [request for request in ledger.unplanned() if not addresses or key_of(request.address) in addresses]
    if not waiting:
        return []
    from distributor.bootstrap import inputs  # not before there is something to find: `send` comes here each time
    from distributor.workflows import requests

    with inputs.parsing_pool(settings) as pool:
        return [requests.fulfil(ledger, request, places(settings), pool, is_member) for request in waiting]
