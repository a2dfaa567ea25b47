"""Composes what records and fulfils requests: the directory, the places where certificates are found again, processes that open them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from distributor.model.requests import RequestLimits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from distributor import config
    from distributor.errors import InvalidInput
    from distributor.model.people import Directory
    from distributor.model.ports import Ledger
    from distributor.model.requests import CopyRequest
    from distributor.workflows.incident import ExposedCertificate
    from distributor.workflows.requests import Fulfilled, Unfulfilled
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


@dataclass(slots=True)
class Membership:
    """Whether a person is still in the directories of `[[rosters]]`; without any, in the rosters of `[[sources]]` where each has one.

    Connects when it is asked. A directory of which only a group or a filter is used says nothing about others in the rosters.
    """

    settings: config.Settings
    _opened: Directory | None = field(default=None, init=False)
    _listed: frozenset[str] | None = field(default=None, init=False)

    def __call__(self, address: str) -> bool:
        """Raises ServiceUnavailable or InvalidInput where it cannot tell."""
        from distributor.bootstrap import inputs
        from distributor.model.people import Address, key_of

        if not self.settings.rosters:
            sources = inputs.configured(self.settings)
            return any(source.roster is None for source in sources) or not sources or key_of(address) in self._people()
        self._opened = self._opened or inputs.directory(self.settings)
        assert self._opened is not None  # noqa: S101  there are some
        local, _, domain = address.rpartition("@")
        if (user := self._opened.find(Address(local, domain))) is not None:
            return user.enabled
        return not self._opened.is_full_directory and key_of(address) in self._people()

    def _people(self) -> frozenset[str]:
        """Everybody in the rosters of `[[sources]]`."""
        from distributor.bootstrap import inputs
        from distributor.model.people import Person

        if self._listed is None:
            roster = inputs.people(inputs.configured(self.settings))
            found = roster.people() if roster is not None else ()
            self._listed = frozenset(each.address.key for each in found if isinstance(each, Person))
        return self._listed


def ask(settings: config.Settings, ledger: Ledger, delivery: str, reason: str) -> CopyRequest:
    """Record a person's own request, by the policy and the limits of `[portal]`; denied at once where the person is gone.

    Whoever asks gets the same answer in every case: that of the policy, not of the request's state. Raises RequestDenied beyond the limits.
    """
    from distributor.config.schema import RequestPolicy
    from distributor.workflows import requests

    automatic = settings.portal is not None and settings.portal.requests is RequestPolicy.AUTOMATIC
    return requests.ask(ledger, delivery, reason, limits(settings), automatic=automatic, is_member=Membership(settings))


def fulfil(settings: config.Settings, ledger: Ledger, addresses: Collection[str] = ()) -> list[Fulfilled | Unfulfilled]:
    """Plan a new generation for each approved request that has none yet; `addresses` (Address.key): only for these people.

    May be called from any thread. A request of a person who is gone is denied. What cannot be checked or found stays approved, and the
    next call tries again.
    """
    from distributor.model.people import key_of

    waiting = [request for request in ledger.unplanned() if not addresses or key_of(request.address) in addresses]
    if not waiting:
        return []
    from distributor.bootstrap import inputs  # not before there is something to find: `send` comes here each time
    from distributor.workflows import requests

    with inputs.parsing_pool(settings) as pool:
        is_member = Membership(settings)
        return [requests.fulfil(ledger, request, places(settings), pool, is_member) for request in waiting]


def incident_text(
    settings: config.Settings, ledger: Ledger, address: str, certificates: Sequence[ExposedCertificate]
) -> tuple[str, InvalidInput | None]:
    """What a person is told after an incident, in the person's language; and what is wrong with the workspace's template.

    Where that cannot be rendered, the packaged text is used: an incident must not wait for a template.
    """
    from distributor.bootstrap import inputs
    from distributor.bootstrap.delivery import PACK_SECONDS, template_renderer
    from distributor.errors import InvalidInput
    from distributor.mail.templates import INCIDENT
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.issues import WorkerFailure
    from distributor.model.people import key_of
    from distributor.workers.pool import Workers
    from distributor.workflows.incident import PersonText, PersonTexts

    theirs = list(ledger.deliveries(DeliveryFilter(addresses=frozenset({key_of(address)}))))
    newest = max(theirs, key=lambda delivery: delivery.id)
    job = PersonText(newest.address, newest.name, newest.language, tuple(certificates))
    renderer = replace(template_renderer(settings), kinds=(INCIDENT,))
    contact = str(settings.sender.address)
    texts = PersonTexts(renderer, settings.organisation.name, contact, settings.organisation.helpdesk)
    try:
        with Workers(texts, 1, PACK_SECONDS, inputs.CHILD_MEMORY) as pool:
            ((_, text),) = pool.map([job])
        if not isinstance(text, WorkerFailure):
            return text, None
        fault = InvalidInput(f"rendering failed ({text.reason})", where="templates/incident", hint="run `distributor doctor`")
    except InvalidInput as error:
        fault = error
    return replace(texts, words=replace(renderer, workspace=None))(job), fault
