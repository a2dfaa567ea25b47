"""Imports one package: find the user, look at their record, record the intent, write the record, read it back."""

from __future__ import annotations

from distributor.adapters.intune.records import IntuneRecords, NoUser, Record, User
from distributor.clients.app_registration import SignInUnavailable
from distributor.clients.graph import HttpResponse, NoResponse
from distributor.clients.http import BUSY
from distributor.clients.throttle import Sleep
from distributor.errors import Error, ServiceUnavailable
from distributor.microsoft.pfx_import import differences, record_id, thaw
from distributor.model.attempts import Accepted, Ambiguous, Deferred, DraftRef, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.people import BadAddress, bounded, parse_address
from distributor.model.ports import CommitIntent

Response = HttpResponse | NoResponse
CLAIM_LOST = NotSent("another process has claimed this import")
PERMISSION = (
    "grant the app DeviceManagementConfiguration.ReadWrite.All and User.Read.All with admin consent: Entra, App registrations, API"
    " permissions; the tenant needs an Intune licence"
)
UNSAID = (
    "Intune gives no reason. Check that the user has an Intune licence, and that `provider`, `key_name` and `padding` in [intune.connector]"
    " are the connector's"
)
_FIRST_LOOK, _LONGEST_LOOK = 0.5, 8.0  # seconds between two looks for a new record
_CONFLICT = 409


class ImportSession:
    """Writes records over one connection."""

    def __init__(self, records: IntuneRecords, sleep: Sleep, verify_seconds: float) -> None:
        self._records, self._sleep, self._verify_seconds = records, sleep, verify_seconds

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Import one package; see model.ports.Connection."""
        try:
            return await self._deliver(message, record_intent)
        except Error as error:  # the sign-in; nothing was written
            return NotSent(str(error), fatal=None if isinstance(error, SignInUnavailable) else error)

    async def _deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        user = await self._user(message.address)
        if not isinstance(user, User):
            return user
        body = thaw(message.message, user.name)
        record = record_id(user.id, body["thumbprint"])
        found = await self._records.read(record)
        if isinstance(found, HttpResponse | NoResponse):
            return self._refused("read the record", found)
        if not await record_intent(DraftRef(record, record)):
            return CLAIM_LOST
        return await self._write(record, body, there=found is not None)

    async def _user(self, address: str) -> User | Outcome:
        parsed = parse_address(address)
        if isinstance(parsed, BadAddress):
            return Rejected(parsed.reason)
        match found := await self._records.user(parsed):
            case User():
                return found
            case NoUser(why):
                return Rejected(why)
            case _:
                return self._refused("find the user", found)

    async def _write(self, record: str, body: dict[str, str], *, there: bool) -> Outcome:
        """Write the record: anew, or over the one that is there; somebody else may have made or removed it since it was looked at."""
        response = await (self._records.update(record, body) if there else self._records.create(body))
        if isinstance(response, HttpResponse) and response.status in {404, _CONFLICT} and there == (response.status == 404):  # noqa: PLR2004
            response = await (self._records.create(body) if there else self._records.update(record, body))
        if isinstance(response, NoResponse):
            return await self._after_silence(record, response)
        if response.good:
            return await self._read_back(record, body, described(response))
        return self._refused("write the record", response, written=True)

    async def _after_silence(self, record: str, response: NoResponse) -> Outcome:
        """No answer: the same request may be made again, for it can only write the same record."""
        if not response.request_sent:
            return NotSent(described(response))
        try:
            found = await self._records.read(record)
        except Error:
            return Ambiguous(described(response))
        if found is None:
            return NotSent(f"{described(response)}; the record is not there, so it is imported again")
        if isinstance(found, Record):
            return NotSent(f"{described(response)}; it is imported again, which cannot make a second record")
        return Ambiguous(described(response))

    async def _read_back(self, record: str, body: dict[str, str], said: str) -> Outcome:
        waited, wait = 0.0, _FIRST_LOOK
        while True:
            try:
                found = await self._records.read(record)
            except Error as error:
                return Ambiguous(bounded(f"{said}; it could not be read back: {error}"))
            if isinstance(found, Record):
                other = differences(found.values, body)
                return (
                    Ambiguous(bounded(f"{said}; read back, it differs in {', '.join(other)}"))
                    if other
                    else Accepted(bounded(f"imported: {said}"))
                )
            if waited >= self._verify_seconds:
                why = "it is not there" if found is None else described(found)
                return Ambiguous(bounded(f"{said}; it could not be read back in {waited:.0f} s: {why}"))
            await self._sleep(wait)
            waited, wait = waited + wait, min(2 * wait, _LONGEST_LOOK)

    def _refused(self, step: str, response: Response, *, written: bool = False) -> Outcome:
        """What a failed request means. `written`: it was the one that writes."""
        text = bounded(f"could not {step}: {described(response)}")
        if isinstance(response, NoResponse):
            return NotSent(text)
        if response.status in BUSY:
            return NotSent(text, throttled=True, retry_after=response.retry_after)
        if response.status in {401, 403}:
            return NotSent(
                text, fatal=ServiceUnavailable(f'the service refused: "{text}"', where=self._records.graph.where, hint=PERMISSION)
            )
        if response.status >= 500:  # noqa: PLR2004
            return Deferred(text, service=True, hint="run `distributor intune import` again later")
        if written:
            return Rejected(bounded(f"{text}. {UNSAID}"))
        return NotSent(text, fatal=self._records.error(response))


def described(response: Response) -> str:
    """One line: status, code and text, with both ids that Microsoft's support asks for."""
    if isinstance(response, NoResponse):
        return response.why
    ids = [f"{name} {response.headers[name]}" for name in ("request-id", "client-request-id") if response.headers.get(name)]
    return ", ".join([response.detail, *ids])
