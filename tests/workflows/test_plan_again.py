"""Planning again: nothing twice, and a certificate that lies elsewhere now is found there by the next `send` and `resend`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.adapters.sources import files
from distributor.errors import RequestDenied
from distributor.model.attempts import AttemptResult, RecordIntent
from distributor.model.certificates import SourceMaterial
from distributor.model.delivery import Delivery, DeliveryFilter, ExistingDelivery
from distributor.model.issues import CheckId, Issue
from distributor.model.people import Person
from distributor.model.states import State, Way
from distributor.workflows import plan_messages, resend
from tests.authority import Authority, Identity
from tests.ledger.world import draft
from tests.source_files import look
from tests.workflows import outbox
from tests.workflows.inbox import Inbox, Opening, issue_rows


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org")


@pytest.fixture
def inbox(tmp_path: Path, alice: Identity) -> Iterator[Inbox]:
    ledger = outbox.new_ledger(tmp_path / "ledger.db")
    made = Inbox(tmp_path, ledger)
    made.put("alice.pfx", alice)
    yield made
    assert ledger.verify() == []
    ledger.close()


def only(inbox: Inbox) -> Delivery:
    (delivery,) = inbox.ledger.deliveries(DeliveryFilter())
    return delivery


def bring(inbox: Inbox, state: State) -> None:
    """The only delivery to a state."""
    if state is not State.PLANNED:
        outbox.pack(inbox.ledger)
    if state is State.ACCEPTED:
        me, lease = outbox.me(), timedelta(seconds=60)
        (claim,) = inbox.ledger.claim(me, 1, lease, DeliveryFilter())
        assert inbox.ledger.write([RecordIntent(claim, lease)], me) == [True]
        assert inbox.ledger.write([AttemptResult(claim, State.ACCEPTED, "250 ok")], me) == [True]


def events(inbox: Inbox) -> list[str]:
    return [event.event for event in inbox.ledger.history("alice@example.org")]


def fetched(inbox: Inbox) -> SourceMaterial | Issue:
    _, locator = inbox.ledger.locator(only(inbox).id)
    return files.open(files.Settings((inbox.folder,)), look).fetch(locator, None)


def move(inbox: Inbox) -> None:
    for extension in ("pfx", "txt"):
        (inbox.folder / f"alice.{extension}").rename(inbox.folder / f"a.{extension}")


def test_a_file_that_moved_is_found_at_its_new_place_once_it_is_planned_again(inbox: Inbox) -> None:
    (planned,) = inbox.plan().deliveries
    move(inbox)
    gone = fetched(inbox)
    assert isinstance(gone, Issue)
    assert f'back into "{inbox.folder}", or run `distributor plan`' in str(gone.hint)
    again = inbox.plan()
    assert issue_rows(again) == [("note", "already-sent", "a.pfx", None, "alice@example.org")]
    assert isinstance(fetched(inbox), SourceMaterial)
    assert (only(inbox).id, only(inbox).plan) == (planned.id, again.plan)
    assert events(inbox) == ["planned", "relocated"]


def test_a_file_that_changed_is_taken_as_it_is_now_once_it_is_planned_again(inbox: Inbox, alice: Identity) -> None:
    inbox.plan()
    inbox.put("alice.pfx", alice, "another")
    assert isinstance(fetched(inbox), Issue)
    inbox.plan()
    assert isinstance(fetched(inbox), SourceMaterial)


def test_what_lies_where_it_lay_is_not_told_to_have_moved(inbox: Inbox) -> None:
    first = inbox.plan(sources=[{"paths": [str(inbox.folder)], "roster": None}])
    inbox.plan(sources=[{"paths": [str(inbox.folder / "alice.pfx")], "roster": None}])
    assert (events(inbox), only(inbox).plan) == (["planned"], first.plan)


def test_a_list_of_passwords_that_moved_is_found_by_planning_again(inbox: Inbox) -> None:
    inbox.plan(sources=[{"paths": [], "passwords": "old.csv"}])
    again = inbox.plan(sources=[{"paths": [], "passwords": "new.csv"}])
    assert (events(inbox), only(inbox).plan) == (["planned", "relocated"], again.plan)


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        (State.PLANNED, "`distributor send` sends it"),
        (State.QUEUED, "`distributor send` sends it"),
        (State.ACCEPTED, "`distributor resend` makes a new message with a new password"),
    ],
)
def test_the_hint_for_what_is_there_already_depends_on_how_far_it_is(inbox: Inbox, state: State, hint: str) -> None:
    inbox.plan()
    bring(inbox, state)
    (note,) = inbox.plan().issues
    assert (note.check, note.hint) == (CheckId.ALREADY_SENT, hint)
    assert f"is {state} for this person" in note.message
    assert ("not sent yet" in note.message) == (state is not State.ACCEPTED)


def test_a_certificate_in_an_archive_is_named_with_it_when_it_is_there_already(inbox: Inbox) -> None:
    archive = inbox.base / "people.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for path in inbox.folder.iterdir():
            written.write(path, f"export/{path.name}")
    inbox.plan(None, archive)
    assert issue_rows(inbox.plan(None, archive)) == [("note", "already-sent", "people.zip/export/alice.pfx", None, "alice@example.org")]


# --- and a new generation -------------------------------------------------------------------------------------------------


def renewed(inbox: Inbox, **folders: Path) -> Delivery:
    """A new generation; `folders` by plan."""

    def open_plan(inputs: Mapping[str, object]) -> tuple[files.Files, Mapping[str, Person]]:
        return files.open(files.Settings((folders[str(inputs["name"])],)), look), {}

    return resend.renew(inbox.ledger, only(inbox), "new phone", resend.Places(open_plan, None, "p-new"), Opening())


def test_a_new_generation_finds_its_certificate_under_another_name_in_the_same_folder(inbox: Inbox) -> None:
    inbox.plan(name="first")
    bring(inbox, State.ACCEPTED)
    move(inbox)
    new = renewed(inbox, first=inbox.folder)
    assert inbox.ledger.locator(new.id)[1].parts[0][0] == str(inbox.folder / "a.pfx")


def test_a_new_generation_finds_its_certificate_where_a_later_plan_saw_it(inbox: Inbox) -> None:
    first = inbox.plan(name="first")
    bring(inbox, State.ACCEPTED)
    other = inbox.base / "other"
    inbox.folder.rename(other)
    inbox.folder.mkdir()
    with pytest.raises(RequestDenied, match="cannot find the certificate again") as refused:
        renewed(inbox, first=inbox.folder)
    assert "run `distributor plan` on its new place" in str(refused.value.hint)
    later = inbox.plan(None, other, name="later")
    assert only(inbox).plan == first.plan  # what was sent stays with the plan that it was sent by
    new = renewed(inbox, first=inbox.folder, later=other)
    assert (new.plan, new.generation) == (later.plan, 2)


@pytest.mark.parametrize(
    ("way", "state", "hint"),
    [
        (Way.MAIL, State.DEFERRED, "run `distributor send` when it is due again, or `distributor send --now`"),
        (Way.INTUNE, State.DEFERRED, "`distributor intune import` imports it"),
        (Way.INTUNE, State.CLAIMED, "wait for `distributor intune import` to finish"),
        (Way.INTUNE, State.ACCEPTED, "`distributor resend` imports it again"),
    ],
)
def test_the_note_of_a_certificate_that_is_known_names_the_command_of_its_way(way: Way, state: State, hint: str) -> None:
    known = ExistingDelivery(replace(draft("anna"), way=way), "d-1", state, datetime(2026, 1, 1, tzinfo=UTC))
    assert plan_messages.already(known, "anna.pfx").hint == hint
