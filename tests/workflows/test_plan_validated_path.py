"""With a collection of trust anchors, a message carries the path that was validated, whatever else is in the person's file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.model.delivery import DeliveryFilter
from distributor.model.issues import CheckId, Severity
from distributor.pki.validation.path import build_trust_store
from distributor.workflows.revocation import ChainChecker
from tests.doubles.pki import CA, root
from tests.workflows import outbox
from tests.workflows.inbox import Inbox

NOW = datetime.now(UTC)


def recorded(inbox: Inbox) -> tuple[bytes, ...]:
    (one,) = inbox.ledger.issued(NOW)
    return one.chain


def checker(*anchors: CA, soft: bool = False) -> ChainChecker:
    return ChainChecker(build_trust_store([one.der for one in anchors], NOW), None, NOW, soft=soft)


@pytest.mark.parametrize("known", [False, True], ids=["at the first plan", "planned before without a collection"])
def test_the_validated_path_is_recorded_and_packed_although_the_file_has_a_shorter_one(tmp_path: Path, *, known: bool) -> None:
    inbox = Inbox(tmp_path, outbox.new_ledger(tmp_path / "ledger.db"))
    old, top = root("Old root"), root("Root")
    bridge = top.sub("Bridge CA")
    sub = old.sub("Mail CA")
    long = sub.again(bridge)
    alice = replace(sub.person("alice@example.org"), chain=(sub.certificate, old.certificate, long.certificate, bridge.certificate))
    inbox.put("alice.pfx", alice)
    if known:
        inbox.plan()
        assert recorded(inbox) == (sub.der, old.der)
    inbox.plan(checker=checker(top))
    assert recorded(inbox) == (long.der, bridge.der, top.der)
    inbox.plan()
    assert recorded(inbox) == (long.der, bridge.der, top.der)
    (task,) = inbox.ledger.lease(outbox.me(), 10, timedelta(seconds=60), DeliveryFilter())
    assert task.chain == (long.der, bridge.der, top.der)
    assert inbox.ledger.verify() == []
    inbox.ledger.close()


def test_a_chain_that_is_sent_with_a_warning_stays_that_of_its_file(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, outbox.new_ledger(tmp_path / "ledger.db"))
    sub = root("Old root").sub("Mail CA")
    inbox.put("alice.pfx", sub.person("alice@example.org"))
    result = inbox.plan(checker=checker(root("Root"), soft=True))
    assert [(issue.severity, issue.check) for issue in result.issues] == [(Severity.WARNING, CheckId.CHAIN_UNTRUSTED)]
    assert recorded(inbox) == (sub.der, sub.above[0].der)
    inbox.ledger.close()
