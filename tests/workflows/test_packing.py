from __future__ import annotations

import email
import email.policy
import functools
import hashlib
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.errors import InvalidInput
from distributor.ledger.repository import SqlLedger
from distributor.mail.message import Mailbox
from distributor.mail.templates import TemplateRenderer
from distributor.model.attempts import PackedMessage, PackingJob, PackingTask
from distributor.model.certificates import Locator, ParseProblem, SourceMaterial
from distributor.model.delivery import Delivery, DeliveryFilter, DeliveryRequest, LeaseHolder
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Address, Person
from distributor.model.secret import Secret
from distributor.model.states import State
from distributor.workflows.message_factory import Packer
from distributor.workflows.packing import BATCH, Batch, pack
from distributor.workflows.sending.report import WaitNotice
from tests import oldphone
from tests.authority import Authority, Identity
from tests.identities import CAME_WITH, attachment, credential, material, todo
from tests.workflows.outbox import new_ledger

OWNER = LeaseHolder("o-1", "here", 1, None)
NOW = datetime.now(UTC).replace(microsecond=0)
OPTIONS = {
    "owner": OWNER,
    "lease": timedelta(seconds=60),
    "scope": DeliveryFilter(),
    "limit": None,
    "now": lambda: NOW,
    "stop": lambda: False,
}
SEALED: list[str] = []


def note(password: Secret, delivery: str) -> bytes:
    """Seals nothing, so that a test sees what was sealed."""
    assert delivery.startswith("d-")
    SEALED.append(password.reveal())
    return b"sealed"


def packer() -> Packer:
    return Packer(TemplateRenderer(None), note, "Example AG", (Mailbox(Address("certificates", "example.org"), "Certificate Service"),))


@functools.cache
def _identity(authority: Authority) -> Identity:
    return authority.issue("alice@example.org", name="Alice Example")


@pytest.fixture
def alice(authority: Authority) -> Identity:
    return _identity(authority)


def packed(result: PackedMessage | ParseProblem) -> PackedMessage:
    assert isinstance(result, PackedMessage), result
    return result


# --- the child's work ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pem", "pkcs12"])
def test_a_chain_that_came_from_files_beside_it_is_in_the_message(alice: Identity, form: str) -> None:
    alone = replace(alice, chain=())
    file = material(alone)
    if form == "pem":
        file = replace(file, form="pem", parts=(replace(file.parts[0], data=alone.key_pem() + alone.pem),))
    chain = tuple(one.public_bytes(ser.Encoding.DER) for one in alice.chain)
    task = replace(todo(alone), leaf=alice.der, chain=chain)
    message = packed(packer()(PackingJob(task, file, NOW)))
    bags = oldphone.install(attachment(message), SEALED[-1])
    assert [bag.content for bag in bags if bag.kind == "certificate"] == [alice.der, chain[0]]


def test_a_message_carries_the_person_s_key_under_a_new_password(alice: Identity) -> None:
    message = packed(packer()(PackingJob(todo(alice), material(alice), NOW)))
    password = SEALED[-1]
    bags = oldphone.install(attachment(message), password)
    assert [bag.kind for bag in bags] == ["certificate", "certificate", "key"]
    assert alice.der == bags[0].content
    assert message.package_sha256 == hashlib.sha256(attachment(message)).hexdigest()
    assert re.fullmatch(r"[abcdefghjkmnpqrstuvwxyz]{5}(-[abcdefghjkmnpqrstuvwxyz]{5}){4}", password)
    with pytest.raises(oldphone.WrongPasswordError):
        oldphone.install(attachment(message), CAME_WITH)


def test_the_password_is_nowhere_in_the_message(alice: Identity) -> None:
    packed_message = packed(packer()(PackingJob(todo(alice), material(alice), NOW)))
    for secret in (SEALED[-1], SEALED[-1].replace("-", ""), CAME_WITH):
        message = email.message_from_bytes(packed_message.message, policy=email.policy.default)
        for part in message.walk():
            assert secret not in str(part.items())
            assert part.is_multipart() or secret not in str(part.get_content())
    assert SEALED[-1].encode() not in packed_message.message
    assert SEALED[-1] not in repr(packed_message)


def test_two_messages_share_neither_password_nor_message_id_nor_boundary(alice: Identity) -> None:
    job = PackingJob(todo(alice), material(alice), NOW)
    one, two = packed(packer()(job)), packed(packer()(job))
    assert SEALED[-1] != SEALED[-2]
    assert one.message_id != two.message_id
    assert one.package_sha256 != two.package_sha256
    boundaries = [re.search(rb'boundary="([^"]+)"', message.message) for message in (one, two)]
    assert boundaries[0] and boundaries[1] and boundaries[0][1] != boundaries[1][1]  # noqa: PT018  one claim


def test_message_id_date_and_addresses_of_the_ledger_are_those_of_the_message(alice: Identity) -> None:
    packed_message = packed(packer()(PackingJob(todo(alice), material(alice), NOW)))
    message = email.message_from_bytes(packed_message.message, policy=email.policy.default)
    assert packed_message.message_id == message["Message-ID"]
    assert packed_message.message_id.endswith("@example.org>")
    assert message["Date"].datetime == NOW
    assert packed_message.sender == "certificates@example.org" == message["From"].addresses[0].addr_spec
    assert message["To"].addresses[0].addr_spec == "alice@example.org"


def test_a_changed_password_of_the_incoming_file_is_a_problem_not_a_crash(alice: Identity) -> None:
    result = packer()(PackingJob(todo(alice), material(alice, "another"), NOW))
    assert isinstance(result, ParseProblem)
    assert result.check == CheckId.WRONG_PASSWORD


def test_a_file_that_holds_another_certificate_now_is_a_problem(authority: Authority, alice: Identity) -> None:
    other = authority.issue("alice@example.org", name="Alice Example")
    result = packer()(PackingJob(todo(alice), material(other), NOW))
    assert isinstance(result, ParseProblem)


def test_a_column_that_a_person_lacks_keeps_only_that_message_back(alice: Identity) -> None:
    words = TemplateRenderer(None)

    class Wants:
        def render(self, language: str, values: Mapping[str, object]) -> object:
            columns = values["column"]
            assert isinstance(columns, dict)
            if "room" not in columns:
                raise InvalidInput("'column.room' is undefined", where="templates/message/en/body.txt line 4", hint="add it")
            return words.render(language, values)

    wanting = replace(packer(), words=Wants())  # type: ignore[arg-type]  the test's own words
    assert isinstance(wanting(PackingJob(todo(alice, room="B 12"), material(alice), NOW)), PackedMessage)
    result = wanting(PackingJob(todo(alice), material(alice), NOW))
    assert isinstance(result, ParseProblem)
    assert result.message == "templates/message/en/body.txt line 4: 'column.room' is undefined"


def test_a_packer_crosses_into_another_process() -> None:
    assert packer() == pickle.loads(pickle.dumps(packer()))  # noqa: S301  our own bytes


# --- the verb ------------------------------------------------------------------------------------------------------


@dataclass
class FakeLedger:
    """What `pack` asks of a ledger: loans and stored messages, held in memory."""

    planned: dict[str, PackingTask]
    stored: list[str] = field(default_factory=list)
    lent: set[str] = field(default_factory=set)
    stores: int = 0
    taken: set[str] = field(default_factory=set)

    def lease(self, _owner: object, limit: int, _lease: object, _scope: object, _dead: object) -> list[PackingTask]:
        free = [t for t in self.planned.values() if t.id not in self.lent][:limit]
        self.lent |= {t.id for t in free}
        return free

    def enqueue(self, messages: list[PackedMessage], _owner: LeaseHolder) -> list[bool]:
        self.stores += 1
        verdicts = [message.id not in self.taken for message in messages]
        self.stored += [message.id for message, good in zip(messages, verdicts, strict=True) if good]
        for message in messages:
            self.planned.pop(message.id, None)
        return verdicts

    def plan_inputs(self, plan: str) -> Mapping[str, object]:
        return {"plan": plan}


@dataclass
class Inline:
    """A pool whose child is this process."""

    work: Callable[[PackingJob], PackedMessage | ParseProblem | WorkerFailure]

    def map(self, jobs: Iterable[PackingJob]) -> Iterator[tuple[PackingJob, PackedMessage | ParseProblem | WorkerFailure]]:
        for job in jobs:
            yield job, self.work(job)


@dataclass
class FakeSource:
    """A source whose files are all the same, but for those that are gone."""

    what: SourceMaterial
    gone: frozenset[str] = frozenset()
    asked: list[Person | None] = field(default_factory=list)

    def fetch(self, locator: Locator, person: Person | None) -> SourceMaterial | Issue:
        self.asked.append(person)
        if locator.parts[0][0] in self.gone:
            return Issue(Severity.ERROR, CheckId.UNREADABLE, "the file is gone", source="alice.pfx")
        return self.what


def quick(job: PackingJob) -> PackedMessage:
    return PackedMessage(
        job.task.id, f"<{job.task.id}@x>", b"To: alice@example.org\r\n\r\nm", "00", "phone", "c@example.org", b"s", "reveal", None
    )


def run(
    ledger: FakeLedger,
    source: FakeSource,
    work: Callable[[PackingJob], PackedMessage | ParseProblem | WorkerFailure] = quick,
    **more: object,
) -> list[Batch]:
    people: Mapping[str, Person] = {}
    return list(pack(ledger, lambda _: (source, people), Inline(work), **{**OPTIONS, **more}))  # type: ignore[arg-type]  doubles


def ledger_with(identity: Identity, count: int) -> FakeLedger:
    todos = [todo(identity, n) for n in range(count)]
    return FakeLedger({t.id: t for t in todos})


def test_everything_planned_is_packed_and_stored_in_batches(alice: Identity) -> None:
    ledger = ledger_with(alice, 2 * BATCH + 7)
    batches = run(ledger, FakeSource(material(alice)))
    assert [len(batch.stored) for batch in batches] == [BATCH, BATCH, 7]
    assert len(set(ledger.stored)) == 2 * BATCH + 7
    assert ledger.stores == 3


def test_the_real_packer_fits_the_verb(alice: Identity) -> None:
    (batch,) = run(ledger_with(alice, 2), FakeSource(material(alice)), packer())
    assert Batch(("d-0000", "d-0001"), ()) == batch


def test_a_real_ledger_hands_out_all_that_a_message_needs(alice: Identity, tmp_path: Path) -> None:
    found = credential(alice)
    ledger = new_ledger(tmp_path / "distributor.db")
    ledger.begin_plan("p-1", {})
    planned = todo(alice)
    (delivery,) = ledger.plan("p-1", [DeliveryRequest(planned.person, "en", found.facts, found.leaf, found.chain, planned.locator)])
    (lent,) = ledger.lease(OWNER, 1, timedelta(seconds=60), DeliveryFilter())
    assert (found.leaf, found.chain) == (lent.leaf, lent.chain)
    message = packed(packer()(PackingJob(lent, material(alice), NOW)))
    assert isinstance(delivery, Delivery)
    assert message.id == delivery.id
    assert ledger.enqueue([message], OWNER) == [True]
    ledger.close()


def test_a_file_that_is_gone_is_an_issue_and_the_others_go_on(alice: Identity) -> None:
    ledger = ledger_with(alice, 3)
    ledger.planned["d-0001"] = replace(ledger.planned["d-0001"], locator=Locator("pkcs12", (("/in/gone.pfx", None, "00"),)))
    (batch,) = run(ledger, FakeSource(material(alice), frozenset({"/in/gone.pfx"})))
    assert batch.stored == ("d-0000", "d-0002")
    (issue,) = batch.issues
    assert (issue.address, issue.check) == ("alice@example.org", CheckId.UNREADABLE)
    assert list(ledger.planned) == ["d-0001"]


def test_when_every_file_is_gone_the_verb_ends(alice: Identity) -> None:
    batches = run(ledger_with(alice, 3), FakeSource(material(alice), frozenset({"/in/alice.pfx"})))
    assert [(len(batch.stored), len(batch.issues)) for batch in batches] == [(0, 3)]


def test_a_plan_that_cannot_be_opened_is_told_for_each_of_its_messages(alice: Identity) -> None:
    opened = []

    def broken(inputs: Mapping[str, object]) -> tuple[FakeSource, Mapping[str, Person]]:
        opened.append(inputs["plan"])
        raise InvalidInput("no such file", where="people.csv", hint="put it back")

    ledger = ledger_with(alice, 2)
    (batch,) = pack(ledger, broken, Inline(quick), **OPTIONS)  # type: ignore[arg-type]  doubles
    assert [(i.source, i.message) for i in batch.issues] == [("people.csv", "people.csv: no such file")] * 2
    assert opened == ["p-1"]


@pytest.mark.parametrize(("reason", "check"), [("time", CheckId.TOO_COSTLY), ("memory", CheckId.TOO_COSTLY), ("crash", CheckId.UNREADABLE)])
def test_a_child_that_does_not_come_back_costs_its_message_only(alice: Identity, reason: str, check: CheckId) -> None:
    def work(job: PackingJob) -> PackedMessage | WorkerFailure:
        return WorkerFailure(reason) if job.task.id == "d-0001" else quick(job)

    (batch,) = run(ledger_with(alice, 3), FakeSource(material(alice)), work)
    assert batch.stored == ("d-0000", "d-0002")
    assert [check] == [issue.check for issue in batch.issues]


def test_a_message_withdrawn_meanwhile_is_not_counted_as_stored(alice: Identity) -> None:
    ledger = ledger_with(alice, 2)
    ledger.taken.add("d-0000")
    (batch,) = run(ledger, FakeSource(material(alice)))
    assert batch.stored == ("d-0001",)


def test_a_limit_is_kept(alice: Identity) -> None:
    ledger = ledger_with(alice, BATCH + 5)
    batches = run(ledger, FakeSource(material(alice)), limit=BATCH + 2)
    assert sum(len(batch.stored) for batch in batches) == BATCH + 2


def test_when_told_to_stop_no_more_is_begun_and_what_is_made_is_kept(alice: Identity) -> None:
    made = []

    def work(job: PackingJob) -> PackedMessage:
        made.append(job)
        return quick(job)

    batches = run(ledger_with(alice, BATCH), FakeSource(material(alice)), work, stop=lambda: len(made) >= 3)
    assert [len(batch.stored) for batch in batches] == [3]


def test_a_person_of_the_plan_s_roster_is_handed_to_the_source_with_the_row(alice: Identity) -> None:
    row = Person(Address("alice", "example.org"), "Alice of the Row")
    source = FakeSource(material(alice))
    list(pack(ledger_with(alice, 1), lambda _: (source, {"alice@example.org": row}), Inline(quick), **OPTIONS))  # type: ignore[arg-type]  doubles
    assert [row] == source.asked


# --- what another process packs ------------------------------------------------------------------------------------

OTHER = LeaseHolder("o-2", "elsewhere", 2, None)


@pytest.fixture
def shared(alice: Identity, tmp_path: Path) -> Iterator[SqlLedger]:
    """A ledger with a planned delivery that another process leased for a second."""
    found, planned = credential(alice), todo(alice)
    ledger = new_ledger(tmp_path / "distributor.db")
    ledger.begin_plan("p-1", {})
    ledger.plan("p-1", [DeliveryRequest(planned.person, "en", found.facts, found.leaf, found.chain, planned.locator)])
    assert len(ledger.lease(OTHER, 9, timedelta(seconds=1), DeliveryFilter())) == 1
    yield ledger
    ledger.close()


def run_beside(ledger: SqlLedger, alice: Identity, alive: Callable[[LeaseHolder], bool | None]) -> list[Batch | WaitNotice]:
    source = FakeSource(material(alice))
    options = {**OPTIONS, "lease": timedelta(seconds=0.6), "alive": alive}
    return list(pack(ledger, lambda _: (source, {}), Inline(quick), **options))  # type: ignore[arg-type]  doubles


def test_what_a_process_packed_that_ended_is_packed_in_the_same_run(shared: SqlLedger, alice: Identity) -> None:
    verdicts = iter([True, True, False])
    told, batch = run_beside(shared, alice, lambda _: next(verdicts))
    assert isinstance(told, WaitNotice)
    assert isinstance(batch, Batch)
    assert len(batch.stored) == 1


def test_on_another_machine_the_end_of_the_lease_tells(shared: SqlLedger, alice: Identity) -> None:
    *_, batch = run_beside(shared, alice, lambda _: None)
    assert isinstance(batch, Batch)
    assert len(batch.stored) == 1


def test_a_process_that_only_keeps_what_it_cannot_pack_is_not_waited_for_longer_than_a_lease(shared: SqlLedger, alice: Identity) -> None:
    def alive(holder: LeaseHolder) -> bool:
        shared.renew(holder, timedelta(seconds=60))
        return True

    assert [type(one) for one in run_beside(shared, alice, alive)] == [WaitNotice]


def test_what_another_process_stores_meanwhile_ends_the_wait(shared: SqlLedger, alice: Identity) -> None:
    (mine,) = shared.deliveries(DeliveryFilter())

    def alive(_: LeaseHolder) -> bool:
        shared.enqueue(
            [PackedMessage(mine.id, "<1@x>", b"To: alice@example.org\r\n\r\nm", "00", "phone", "c@example.org", b"s", "reveal", None)],
            OTHER,
        )
        return True

    assert [type(one) for one in run_beside(shared, alice, alive)] == [WaitNotice]
    assert [row.state for row in shared.deliveries(DeliveryFilter())] == [State.QUEUED]
