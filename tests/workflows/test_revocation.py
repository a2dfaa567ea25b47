"""Chains in a plan, and certificates that are revoked after they were planned or sent; over the real ledger."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from distributor.model.certificates import FilePart, ParsedIdentities, SourceMaterial
from distributor.model.issues import CheckedChain, CheckId, Issue, Severity
from distributor.model.limits import Limits
from distributor.model.ports import Checker
from distributor.model.secret import Secret
from distributor.model.states import State
from distributor.pki import parse_material
from distributor.pki.validation.path import build_trust_store
from distributor.pki.validation.revocation import DownloadFailed, Fetched
from distributor.workflows import plan as planning
from distributor.workflows.plan import PlanResult, plan
from distributor.workflows.revocation import ChainChecker, watch
from tests.authority import Authority, Identity, rsa_key
from tests.doubles.pki import der, root
from tests.ledger.world import World, draft, worlds

NOW = datetime.now(UTC)
PASSWORD = "in-comes-a-file"
REVOKED = Issue(Severity.ERROR, CheckId.REVOKED, "the certificate was revoked (2026-11-20, superseded)", "have a new certificate issued")
STALE = Issue(Severity.WARNING, CheckId.CRL_STALE, "the CRL is out of date", "report it to the CA")


class FakeChecker:
    """A checker that says what a test wants of each certificate, and keeps the order of questions."""

    def __init__(self, *issues: Issue, of: Sequence[bytes] | None = None) -> None:
        self.issues, self.of = list(issues), of
        self.order: list[str] = []

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:  # noqa: ARG002  the port's arguments
        self.order.append("begin")

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> CheckedChain:  # noqa: ARG002
        self.order.append("check")
        return CheckedChain(self.issues if self.of is None or leaf in self.of else [])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from worlds(f"sqlite:///{tmp_path / 'ledger.db'}")


# --- in a plan ---------------------------------------------------------------------------------------------------------


NUMBERS = itertools.count()


class MemorySource:
    """Files in memory, opened without child processes."""

    def __init__(self, *people: Identity) -> None:
        self.people = people

    def finds(self, _: object) -> Iterator[SourceMaterial]:
        for number, one in enumerate(self.people):
            data = one.pem + one.key_pem()
            part = FilePart(f"{number}.pem", f"/in/{number}.pem", None, hashlib.sha256(data).hexdigest(), data)
            yield SourceMaterial("pem", (part,), (Secret(PASSWORD),))

    def map(self, jobs: Iterator[SourceMaterial]) -> Iterator[tuple[SourceMaterial, ParsedIdentities]]:
        call = functools.partial(parse_material, limits=Limits())
        return ((job, call(job)) for job in jobs)


def planned(world: World, checker: Checker, *people: Identity) -> PlanResult:
    source = MemorySource(*people)
    return plan(world.ledger, None, source, source, plan_id=str(next(NUMBERS)), inputs={}, languages=("en",), now=NOW, checker=checker)  # type: ignore[arg-type]  # doubles


def test_an_error_keeps_a_delivery_out_and_a_warning_does_not(world: World, authority: Authority) -> None:
    alice, bob = authority.issue("alice@example.org"), authority.issue("bob@example.org", key=rsa_key(1))
    result = planned(world, FakeChecker(REVOKED, of=[alice.der]), alice, bob)
    assert [delivery.address for delivery in result.deliveries] == ["bob@example.org"]
    assert [(i.check, i.source, i.address) for i in result.issues] == [(CheckId.REVOKED, "0.pem", "alice@example.org")]
    result = planned(world, FakeChecker(STALE), alice)
    assert [delivery.address for delivery in result.deliveries] == ["alice@example.org"]
    assert [(i.severity, i.check) for i in result.issues] == [(Severity.WARNING, CheckId.CRL_STALE)]


def test_what_is_needed_is_begun_for_a_batch_before_it_is_waited_for(
    world: World, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH", 2)
    checker = FakeChecker()
    planned(world, checker, *(authority.issue(f"{n}@example.org", key=rsa_key(n % 2)) for n in range(3)))
    assert checker.order == ["begin", "begin", "check", "check", "begin", "check"]


def test_a_chain_is_looked_at_unless_it_would_only_be_found_wrong_for_the_same_again(world: World, authority: Authority) -> None:
    weak, over = authority.issue("weak@example.org", usage=("crl_sign",)), authority.issue("over@example.org", days=0)
    result = planned(world, FakeChecker(STALE), weak, over)
    assert {(i.check, i.address) for i in result.issues} == {
        (CheckId.KEY_USAGE, "weak@example.org"),
        (CheckId.CRL_STALE, "weak@example.org"),
        (CheckId.EXPIRED, "over@example.org"),
    }
    assert list(result.deliveries) == []


class FakeDownloader:
    """A library of one list."""

    def __init__(self, page: bytes | None) -> None:
        self.page = page

    def start(self, url: str, *, crl: bool) -> None:
        """Nothing is to be begun."""

    def get(self, url: str, *, crl: bool) -> Fetched | DownloadFailed:  # noqa: ARG002  the port's arguments
        return DownloadFailed("the server responded with 404") if self.page is None else Fetched(self.page)


@pytest.mark.parametrize(("soft", "weight"), [(False, Severity.ERROR), (True, Severity.WARNING)])
def test_the_configured_weight_counts_but_revocation_is_always_an_error(*, soft: bool, weight: Severity) -> None:
    top = root()
    person = top.person("a@example.org", crl="http://pki.example/a.crl")
    for page, expected in ((None, weight), (top.crl(person.certificate.serial_number), Severity.ERROR)):
        trust = ChainChecker(build_trust_store([top.der], NOW), FakeDownloader(page), NOW, soft=soft)
        (issue,) = trust.check(person.der, [der(one) for one in person.chain]).issues
        assert issue.severity is expected


# --- later -------------------------------------------------------------------------------------------------------------


def test_what_was_revoked_is_withdrawn_where_it_has_not_left_and_told_elsewhere(world: World) -> None:
    sent, (waiting,) = world.accepted("anna"), world.queue("bert")
    (fresh,) = world.plan("cleo")
    leaves = [draft(name).leaf for name in ("anna", "bert")]
    done = watch(world.ledger, FakeChecker(REVOKED, of=leaves), now=world.clock.now)
    assert done.checked == 3
    found = {struck.address: (struck.before, struck.after, struck.reason) for struck in done.revoked}
    assert found == {
        "anna@example.org": (State.ACCEPTED, State.ACCEPTED, REVOKED.message),
        "bert@example.org": (State.QUEUED, State.WITHDRAWN, REVOKED.message),
    }
    assert (world.state(sent), world.state(waiting), world.state(fresh.id)) == (State.ACCEPTED, State.WITHDRAWN, State.PLANNED)
    assert world.events("bert")[-2:] == ["revoked", "withdrawn"]
    assert world.events("anna")[-1] == "revoked"


def test_a_fault_that_concerns_many_is_told_once_and_changes_nothing(world: World) -> None:
    ids = world.queue("anna", "bert")
    done = watch(world.ledger, FakeChecker(STALE), now=world.clock.now)
    assert (done.checked, done.revoked, [issue.check for issue in done.issues]) == (2, [], [CheckId.CRL_STALE])
    assert all(f"{name}@example.org" in done.issues[0].message for name in ("anna", "bert"))
    assert [world.state(id_) for id_ in ids] == [State.QUEUED] * 2
