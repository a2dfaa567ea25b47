"""What every route gets: the portal's parts, and the request that is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from starlette.responses import Response

from distributor.config.schema import Organisation
from distributor.config.schema import Portal as PortalSettings
from distributor.errors import InvalidInput
from distributor.model.delivery import Delivery
from distributor.model.ports import Ledger, Vault
from distributor.model.requests import CopyRequest, DayCount
from distributor.model.secret import Secret
from distributor.model.sign_in import IdentityProvider
from distributor.model.states import State
from distributor.portal.security import RateLimits, network_of
from distributor.portal.sessions import Role, Session, SessionStore
from distributor.portal.views import Views
from distributor.workflows.incident import ExposedCertificate

LONGEST_REASON = 500  # characters
FIGURES_KEPT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Actions:
    """What the portal starts and the composition root composes. Each may raise an Error.

    `vault` is None where this host has no identity that opens passwords.
    """

    vault: Vault | None
    ask: Callable[[Ledger, str, str], CopyRequest]  # records a person's request for a delivery, with a reason
    fulfil: Callable[[Ledger, str], str]  # plans what was approved for an address; why it cannot, or nothing
    send_again: Callable[[Ledger, str, str], None]  # an ambiguous delivery, with a reason
    incident_text: Callable[
        [Ledger, str, Sequence[ExposedCertificate]], tuple[str, InvalidInput | None]
    ]  # for a person; a template's fault
    metrics: Callable[[Ledger], str]  # figures for Prometheus
    metrics_token: Secret | None  # who has it may read them
    address_of: Callable[[str], str | None]  # Entra's object id -> the person's address, by the directory


@dataclass(frozen=True, slots=True)
class Figures:
    """What the overview counts; of 100 000 deliveries that takes some 20 ms, in which the ledger answers nobody else."""

    at: datetime
    days: Sequence[DayCount]
    counts: Mapping[State, int]


class FigureCache:
    """The figures of the last seconds."""

    def __init__(self) -> None:
        self._last: Figures | None = None

    def get(self, now: datetime, count: Callable[[], Figures]) -> Figures:
        """The last figures, or new ones where they are too old."""
        last = self._last
        if last is None or not timedelta(0) <= now - last.at <= FIGURES_KEPT:
            last = self._last = count()
        return last


@dataclass(frozen=True, slots=True)
class Portal:
    """The parts of the portal."""

    settings: PortalSettings
    organisation: Organisation
    ledger: Ledger
    sessions: SessionStore
    provider: IdentityProvider
    actions: Actions
    views: Views
    rates: RateLimits
    now: Callable[[], datetime]
    figures: FigureCache = field(default_factory=FigureCache)


@dataclass(frozen=True, slots=True)
class Visit:
    """A request. Of its headers only what routes need."""

    path: str
    post: bool
    query: Mapping[str, str]
    form: Mapping[str, str] = field(repr=False)
    params: Mapping[str, str]  # of the path
    cookies: Mapping[str, str] = field(repr=False)
    visitor: str  # the address it comes from
    phone: str  # "iphone", "android", or empty
    language: str
    form_token: str = field(repr=False)
    session: Session | None = None

    @property
    def network(self) -> str:
        """What limits by address count."""
        return network_of(self.visitor)

    @property
    def signed_in(self) -> Session:
        """The session, on pages for people who are signed in."""
        assert self.session is not None  # noqa: S101  the route says so, and `app` keeps to it
        return self.session

    def text(self, name: str, longest: int = LONGEST_REASON) -> str:
        """A field of the form on one line, cut to a length."""
        return " ".join(self.form.get(name, "").split())[:longest]


class NotHere(Exception):
    """There is no such page, or it is not for this account: the same answer."""


class Limited(Exception):
    """Too many requests of one kind."""


Handler = Callable[[Portal, Visit], Response]


@dataclass(frozen=True, slots=True)
class Page:
    """A route. `role`: who may see it, besides being signed in; `open`: everybody; `once`: HEAD is refused, because GET does something.

    `limited`: a form that one account can only send so often.
    """

    path: str
    handler: Handler
    role: Role | None = None
    open: bool = False
    post: bool = False
    once: bool = False
    limited: bool = True


@dataclass(frozen=True, slots=True)
class PersonalDelivery:
    """The newest generation of a certificate on its owner's page. `until`: for how long its password is available."""

    delivery: Delivery
    until: datetime | None
    request: CopyRequest | None
    expired: bool
