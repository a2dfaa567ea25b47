"""An approved request becomes one new generation, whoever plans it and however often; what cannot be planned waits with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from distributor.errors import RequestDenied, ServiceUnavailable
from distributor.model.certificates import ParsedIdentities, SourceMaterial
from distributor.model.issues import WorkerFailure
from distributor.model.ports import Ledger
from distributor.model.requests import CopyRequest, ExposedDelivery, RequestLimits
from distributor.model.states import PasswordState, RequestState, State
from distributor.workflows import incident, requests
from distributor.workflows.requests import Fulfilled, Unfulfilled
from tests.workflows import outbox
from tests.workflows.test_resend import Pool, old, places

HERE = {"/nowhere.pfx": "1"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = outbox.new_ledger(tmp_path / "distributor.db")
    outbox.queue(found, 2)
    yield found
    assert found.verify() == []
    found.close()


def approved(ledger: Ledger) -> CopyRequest:
    return ledger.ask(old(ledger).id, "new phone", limits=RequestLimits(), approve=True)


def test_an_approval_plans_a_new_generation_and_destroys_the_old_password(ledger: Ledger) -> None:
    before = old(ledger)
    done = requests.fulfil(ledger, approved(ledger), places(HERE), Pool())
    assert isinstance(done, Fulfilled)
    assert (done.delivery.generation, done.delivery.state, done.request.planned) == (2, State.PLANNED, done.delivery.id)
    was = ledger.delivery(before.id)
    assert was is not None
    assert was.password_state is PasswordState.DESTROYED
    assert ledger.unplanned() == []


def test_what_cannot_be_found_stays_approved_and_is_tried_again(ledger: Ledger) -> None:
    request, before = approved(ledger), old(ledger)
    done = requests.fulfil(ledger, request, places({}), Pool())
    assert isinstance(done, Unfulfilled)
    assert "cannot find the certificate again" in done.reason
    assert ledger.unplanned() == [request]
    assert ledger.delivery(before.id) == before
    assert isinstance(requests.fulfil(ledger, request, places(HERE), Pool()), Fulfilled)


def test_a_process_that_ended_between_planning_and_recording_leaves_no_second_generation(ledger: Ledger) -> None:
    request = approved(ledger)
    planned = ledger.regenerate(request.delivery, "new phone")  # and then it ended
    done = requests.fulfil(ledger, request, places(HERE), Pool())
    assert isinstance(done, Fulfilled)
    assert done.delivery.id == planned.id == done.request.planned
    assert max(each.generation for each in ledger.find("p1@example.org", None)) == 2


def test_a_generation_that_was_taken_back_does_not_count(ledger: Ledger) -> None:
    request = approved(ledger)
    ledger.withdraw(ledger.regenerate(request.delivery, "new phone").id, "by mistake")
    done = requests.fulfil(ledger, request, places(HERE), Pool())
    assert isinstance(done, Fulfilled)
    assert done.delivery.generation == 3


def test_the_portal_and_a_run_at_the_same_time_plan_one_generation(ledger: Ledger) -> None:
    request = approved(ledger)
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: requests.fulfil(ledger, request, places(HERE), Pool()), range(8)))
    assert {each.delivery.generation for each in done if isinstance(each, Fulfilled)} == {2}
    assert [each for each in done if isinstance(each, Unfulfilled)] == []


class Meanwhile(Pool):
    """Somebody else does something while the certificate is looked for."""

    def __init__(self, does: Callable[[], object]) -> None:
        self.does = does

    def map(self, jobs: Iterable[SourceMaterial]) -> Iterator[tuple[SourceMaterial, ParsedIdentities | WorkerFailure]]:
        self.does()
        return super().map(jobs)


def test_a_request_that_is_denied_while_its_certificate_is_looked_for_plans_nothing(ledger: Ledger) -> None:
    request, before = approved(ledger), old(ledger)
    other = ledger.acting_as("adam")
    done = requests.fulfil(ledger, request, places(HERE), Meanwhile(lambda: other.decide(request.id, "not her", approve=False)))
    assert isinstance(done, Unfulfilled)
    assert (done.request.state, done.reason) == (RequestState.DENIED, "it was denied by adam (not her)")
    assert ledger.find("p1@example.org", None) == [before]


def test_a_generation_that_somebody_planned_and_took_back_meanwhile_is_not_planned_again(ledger: Ledger) -> None:
    request = approved(ledger)

    def plan_and_withdraw() -> None:
        done = requests.fulfil(ledger, request, places(HERE), Pool())
        assert isinstance(done, Fulfilled)
        ledger.withdraw(done.delivery.id, "she has it now")

    done = requests.fulfil(ledger, request, places(HERE), Meanwhile(plan_and_withdraw))
    assert isinstance(done, Fulfilled)
    assert (done.delivery.generation, done.delivery.state) == (2, State.WITHDRAWN)


def test_a_person_who_is_gone_is_denied_before_and_after_the_approval(ledger: Ledger) -> None:
    request = approved(ledger)
    done = requests.fulfil(ledger, request, places(HERE), Pool(), is_member=lambda _: False)
    assert isinstance(done, Unfulfilled)
    (denied,) = ledger.requests()
    assert (denied.state, denied.decided_by, denied.answer) == (RequestState.DENIED, "policy", requests.GONE)
    asked = requests.ask(ledger, request.delivery, "again", RequestLimits(), automatic=True, is_member=lambda _: False)
    assert asked.state is RequestState.DENIED
    assert ledger.unplanned() == []


def test_after_an_incident_an_approved_request_is_denied_and_tried_no_more(ledger: Ledger) -> None:
    request = approved(ledger)
    ledger.incident(request.address, "phone stolen")
    done = requests.fulfil(ledger, request, places(HERE), Pool())
    assert isinstance(done, Unfulfilled)
    assert (done.request.state, done.request.decided_by) == (RequestState.DENIED, "policy")
    assert done.reason.startswith("an incident was recorded on ")
    assert ledger.unplanned() == []


def unreachable(_: str) -> bool:
    raise ServiceUnavailable("no answer", where="directory.example.org", hint="try later")


def test_a_directory_that_cannot_be_asked_lets_the_request_wait(ledger: Ledger) -> None:
    request = requests.ask(ledger, old(ledger).id, "lost", RequestLimits(), automatic=True, is_member=unreachable)
    assert request.state is RequestState.APPROVED
    done = requests.fulfil(ledger, request, places(HERE), Pool(), is_member=unreachable)
    assert isinstance(done, Unfulfilled)
    assert (done.denied, done.hint) == (False, "try later")
    assert "directory.example.org: no answer" in done.reason
    assert ledger.unplanned() == [request]
    assert isinstance(requests.fulfil(ledger, request, places(HERE), Pool(), is_member=lambda _: True), Fulfilled)


def test_a_person_who_is_gone_is_denied_by_several_at_once_without_an_error(ledger: Ledger) -> None:
    request = approved(ledger)
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: requests.fulfil(ledger, request, places(HERE), Pool(), lambda _: False), range(8)))
    assert [isinstance(each, Unfulfilled) and each.denied for each in done] == [True] * 8


@pytest.mark.parametrize(("automatic", "state"), [(True, RequestState.APPROVED), (False, RequestState.OPEN)])
def test_the_policy_decides_for_members(ledger: Ledger, state: RequestState, *, automatic: bool) -> None:
    asked = requests.ask(ledger, old(ledger).id, "lost", RequestLimits(), automatic=automatic, is_member=lambda _: True)
    assert asked.state is state


class SigningPool(Pool):
    """What it opens is for signing only."""

    def map(self, jobs: Iterable[SourceMaterial]) -> Iterator[tuple[SourceMaterial, ParsedIdentities | WorkerFailure]]:
        for job, opened in super().map(jobs):
            assert isinstance(opened, ParsedIdentities)
            only = tuple(replace(each, facts=replace(each.facts, usages=("sign",))) for each in opened.identities)
            yield job, replace(opened, identities=only)


def test_for_a_certificate_that_only_signs_a_new_one_is_suggested(ledger: Ledger) -> None:
    done = requests.fulfil(ledger, approved(ledger), places(HERE), SigningPool())
    assert isinstance(done, Fulfilled)
    assert done.signs_only


def test_a_certificate_that_also_encrypts_gets_no_such_note(ledger: Ledger) -> None:
    done = requests.fulfil(ledger, approved(ledger), places(HERE), Pool())
    assert isinstance(done, Fulfilled)
    assert not done.signs_only


def test_a_request_is_named_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    one = approved(ledger)
    assert requests.find(ledger, one.id) == requests.find(ledger, f" {one.id[2:9].lower()} ") == requests.find(ledger, "R-0") == one
    two = ledger.ask(ledger.find("p2@example.org", None)[0].id, "lost", limits=RequestLimits())
    with pytest.raises(RequestDenied, match="2 requests begin so"):
        requests.find(ledger, one.id[:8])
    assert requests.find(ledger, two.id) == two
    for text in ("", "r-", "r-ZZ"):
        with pytest.raises(RequestDenied, match="no such request"):
            requests.find(ledger, text)


# --- texts of an incident ------------------------------------------------------------------------------------------


def exposed(number: int, state: State, *, generation: int = 1, accepted: int | None = None, revealed: int | None = None) -> ExposedDelivery:
    def at(hour: int | None) -> datetime | None:
        return None if hour is None else datetime(2026, 11, 24, hour, tzinfo=UTC)

    info = outbox.draft(number).facts
    about = info.sha256, info.serial, info.issuer, info.subject, info.not_after
    return ExposedDelivery("d-1", state, generation, *about, at(accepted), at(revealed), withdrawn=False, password_destroyed=False)


def test_the_ca_gets_one_line_a_certificate_with_its_first_times() -> None:
    found = incident.certificates(
        [
            exposed(1, State.ACCEPTED, accepted=9),
            exposed(2, State.WITHDRAWN),
            exposed(1, State.INSTALLED, generation=2, accepted=11, revealed=12),
        ]
    )
    _, first, second = incident.for_ca(found)
    assert first == (
        f'serial=1 issuer="CN=Test" sha256={outbox.sha(1)} not_after=2030-01-01T00:00:00Z accepted=2026-11-24T09:00:00Z '
        "password_revealed=2026-11-24T12:00:00Z reason=keyCompromise"
    )
    assert "accepted=never password_revealed=never" in second
    assert [one.left for one in found] == [True, False]


@pytest.mark.parametrize("state", [State.TRANSMITTING, State.AMBIGUOUS, State.DELIVERED, State.BOUNCED])
def test_a_key_whose_message_may_have_left_counts_as_out(state: State) -> None:
    (found,) = incident.certificates([exposed(1, state)])
    assert found.left
    assert "accepted=unknown" in list(incident.for_ca([found]))[1]


@pytest.mark.parametrize("state", [State.WITHDRAWN, State.REJECTED])
def test_a_key_that_never_left_does_not(state: State) -> None:
    (found,) = incident.certificates([exposed(1, state)])
    assert not found.left
