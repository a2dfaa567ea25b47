"""A new generation: its certificate is found again first, and the old password dies only then."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.errors import InvalidInput, RequestDenied
from distributor.model.certificates import FilePart, Identity, Locator, ParsedIdentities, ParseProblem, SourceMaterial
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Person
from distributor.model.ports import Ledger
from distributor.model.states import PasswordState, State
from distributor.workflows import resend
from tests.workflows import outbox

CONFIGURED = {"sources": ["configured"]}


class Files:
    """A source of files by path; what a file holds is its text: the number of a person."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def finds(self, people: Mapping[str, Person]) -> Iterator[SourceMaterial | Issue]:
        assert len(people) <= 1, "only the one who asked is looked for"
        yield from (self._material(path) for path in self._files)

    def fetch(self, locator: Locator, _: Person | None) -> SourceMaterial | Issue:
        path = locator.parts[0][0]
        return self._material(path) if path in self._files else Issue(Severity.ERROR, CheckId.UNREADABLE, "it is gone", source=path)

    def _material(self, path: str) -> SourceMaterial:
        data = self._files[path].encode()
        return SourceMaterial("pkcs12", (FilePart(path, path, None, hashlib.sha256(data).hexdigest(), data),))


class Pool:
    """Opens a file in this process."""

    def map(self, jobs: Iterable[SourceMaterial]) -> Iterator[tuple[SourceMaterial, ParsedIdentities | WorkerFailure]]:
        for job in jobs:
            text = job.parts[0].data.decode()
            if not text.isdigit():
                yield job, ParsedIdentities(problems=(ParseProblem(CheckId.UNREADABLE, "damaged"),))
            else:
                yield job, ParsedIdentities((Identity(outbox.draft(int(text)).facts, b"leaf", (), None),))


def places(where_it_was: Mapping[str, str], configured: Mapping[str, str] | None = None) -> resend.Places:
    def open_plan(inputs: Mapping[str, object]) -> tuple[Files, Mapping[str, Person]]:
        return Files((configured or {}) if inputs == CONFIGURED else where_it_was), {}

    return resend.Places(open_plan, None if configured is None else CONFIGURED, "p-new")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = outbox.new_ledger(tmp_path / "distributor.db")
    outbox.queue(found, 2)
    yield found
    assert found.verify() == []
    found.close()


def old(ledger: Ledger) -> Delivery:
    return resend.choose(ledger, "p1@example.org", None, outbox.now())


def test_the_certificate_is_found_where_its_plan_found_it(ledger: Ledger) -> None:
    before = old(ledger)
    new = resend.renew(ledger, before, "new phone", places({"/nowhere.pfx": "1"}), Pool())
    assert (new.generation, new.state, new.plan) == (2, State.PLANNED, before.plan)
    was = ledger.delivery(before.id)
    assert was
    assert (was.state, was.password_state) == (State.WITHDRAWN, PasswordState.DESTROYED)


def test_configured_sources_come_first_and_the_new_place_is_kept(ledger: Ledger) -> None:
    new = resend.renew(ledger, old(ledger), "new phone", places({}, {"/new/other.pfx": "2", "/new/mine.pfx": "1"}), Pool())
    plan, locator = ledger.locator(new.id)
    assert plan == "p-new" == new.plan
    assert locator.parts[0][0] == "/new/mine.pfx"
    assert ledger.plan_inputs("p-new") == CONFIGURED


def test_what_configured_sources_lack_is_looked_for_where_it_was(ledger: Ledger) -> None:
    before = old(ledger)
    new = resend.renew(ledger, before, "new phone", places({"/nowhere.pfx": "1"}, {"/new/other.pfx": "2"}), Pool())
    assert new.plan == before.plan


@pytest.mark.parametrize("was", [{}, {"/nowhere.pfx": "2"}, {"/nowhere.pfx": "damaged"}])
def test_a_certificate_that_is_nowhere_costs_nobody_a_password(ledger: Ledger, was: Mapping[str, str]) -> None:
    before = old(ledger)
    with pytest.raises(RequestDenied, match="cannot find the certificate again"):
        resend.renew(ledger, before, "new phone", places(was, {}), Pool())
    assert ledger.delivery(before.id) == before


def test_a_plan_whose_roster_is_gone_is_refused_in_words(ledger: Ledger) -> None:
    def gone(_: Mapping[str, object]) -> tuple[Files, Mapping[str, Person]]:
        raise InvalidInput("no such file", where="people.csv")

    with pytest.raises(RequestDenied, match=r"people\.csv: no such file"):
        resend.renew(ledger, old(ledger), "new phone", resend.Places(gone, None, "p-new"), Pool())


# --- which delivery ------------------------------------------------------------------------------------------------


def also(ledger: Ledger, number: int, **info: object) -> None:
    """One more certificate for p1."""
    ledger.begin_plan(f"p-{number}", {})
    more = outbox.draft(1)
    ledger.plan(f"p-{number}", [replace(more, facts=replace(more.facts, sha256=outbox.sha(number), **info), leaf=outbox.leaf(number))])


def refused(call: Callable[[], object]) -> RequestDenied:
    with pytest.raises(RequestDenied) as caught:
        call()
    assert caught.value.hint
    return caught.value


def test_the_newest_generation_is_renewed(ledger: Ledger) -> None:
    new = resend.renew(ledger, old(ledger), "new phone", places({"/nowhere.pfx": "1"}), Pool())
    assert old(ledger).id == new.id


def test_two_good_certificates_want_a_choice(ledger: Ledger) -> None:
    also(ledger, 99)
    error = refused(lambda: old(ledger))
    assert "--certificate" in str(error.hint)
    assert resend.choose(ledger, "p1@example.org", outbox.sha(99).upper(), outbox.now()).certificate_sha256 == outbox.sha(99)


def test_an_expired_certificate_is_no_choice(ledger: Ledger) -> None:
    also(ledger, 99, not_after=datetime(2026, 2, 1, tzinfo=UTC))
    assert old(ledger).certificate_sha256 == outbox.sha(1)
    assert "expired on 2026-02-01" in str(refused(lambda: resend.choose(ledger, "p1@example.org", outbox.sha(99), outbox.now())))


def test_nothing_is_renewed_for_somebody_whose_certificates_all_expired(ledger: Ledger) -> None:
    later = outbox.now() + timedelta(days=365 * 10)
    assert "expired" in str(refused(lambda: resend.choose(ledger, "p1@example.org", None, later)))


@pytest.mark.parametrize(
    ("address", "certificate"), [("nobody@example.org", None), ("p1@example.org", "beef" * 16), ("p1@example.org", "0")]
)
def test_an_unknown_person_or_certificate_is_refused(ledger: Ledger, address: str, certificate: str | None) -> None:
    refused(lambda: resend.choose(ledger, address, certificate, outbox.now()))
    assert len(list(ledger.deliveries(DeliveryFilter()))) == 2


def test_a_revoked_certificate_is_not_sent_again(ledger: Ledger) -> None:
    (delivery,) = ledger.deliveries(DeliveryFilter(addresses=frozenset({"p1@example.org"})))
    ledger.revoke(delivery.certificate_sha256, "revoked on 2026-11-20 (keyCompromise)")
    with pytest.raises(RequestDenied, match="the certificate was revoked, and there is no newer one"):
        resend.choose(ledger, "p1@example.org", None, datetime.now(UTC))
    with pytest.raises(RequestDenied, match="revoked"):
        resend.choose(ledger, "p1@example.org", delivery.certificate_sha256, datetime.now(UTC))
    assert resend.choose(ledger, "p2@example.org", None, datetime.now(UTC)).address == "p2@example.org"
