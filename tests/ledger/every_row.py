"""A small ledger in a file with a row of every kind: every table, every way that is usual, and some that are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from distributor.model.certificates import CertificateInfo
from distributor.model.checkpoints import ORIGIN, VerifierKey
from distributor.model.delivery import Delivery
from distributor.model.requests import RequestLimits, SignInAccount, StoredSession
from distributor.model.states import State, Way
from distributor.pki import certificate, ed25519
from distributor.pki.ed25519 import SigningKey
from distributor.workflows import checkpoints
from distributor.workflows.checkpoints import Signer
from tests.authority import Authority
from tests.ledger.world import ME, Clock, World, draft, packed

ISSUER = "https://login.example.org"


def write(url: str) -> World:
    """A world with that ledger."""
    world = World(url, Clock())
    ledger = world.ledger
    received = [world.accepted(name) for name in ("anna", "bert", "cleo")]
    ledger.hand_over(received[0], "she phoned", "reveal")
    world.settle(world.armed("dora"), State.DEFERRED, response="450 later", not_before=world.clock.now + timedelta(days=1))
    world.settle(world.armed("emil"), State.REJECTED, response="550 no")
    world.ambiguous("fay")
    ledger.withdraw(world.queue("gus")[0], "a mistake")
    world.claimed("hans")
    world.queue("ida")
    issued = Authority("Issuer").issue("jim@example.org", name="Jim").der
    info = certificate.info(issued)
    assert isinstance(info, CertificateInfo)
    about = {"phone": "+49 30 1", "manager": "boss@example.org", "alternate_email": "jim@home.example"}
    asked = draft("jim")
    ledger.plan("plan-1", [replace(asked, facts=info, leaf=issued, person=replace(asked.person, **about))])
    ledger.bind(SignInAccount(ISSUER, "bert-1"), "bert@example.org", "oid")
    ledger.write_session(StoredSession("00" * 32, world.clock.now, world.clock.now, "{}"))
    ledger.write_mailbox_position("certs@example.org", "{}")
    ledger.note_published(received[2], "ldaps://there", "cn=cleo")
    limits = RequestLimits(daily=9, monthly=9)
    denied = ledger.acting_as("portal:bert-1").ask(received[1], "a new phone", limits=limits)
    ledger.decide(denied.id, "not now", approve=False)
    approved = ledger.ask(received[2], "a new phone", limits=limits)
    ledger.acting_as("another@host").decide(approved.id, "", approve=True)
    again = ledger.regenerate(received[2], "asked for")
    ledger.planned(approved.id, again.id)
    ledger.enqueue([packed(again.id, to="cleo@example.org")], ME)
    (imported,) = ledger.plan("plan-1", [replace(draft("kim"), way=Way.INTUNE, series="1/2")])
    assert isinstance(imported, Delivery)
    ledger.enqueue([replace(packed(imported.id, to="kim@example.org"), sender="", sealed=None, channel="", expires=None)], ME)
    later = draft("anna", certificate="second")
    later = replace(later, facts=replace(later.facts, not_before=later.facts.not_before + timedelta(days=1)))
    ledger.begin_plan("plan-2", {})
    (renewed,) = ledger.plan("plan-2", [later])
    assert isinstance(renewed, Delivery)
    assert renewed.predecessor == draft("anna").facts.sha256
    key = SigningKey(ed25519.make_key(), "audit.key")
    name = VerifierKey(ORIGIN + ledger.identity(), key.public)
    assert checkpoints.sign(ledger, Signer(name, key.sign, ed25519.verify), lambda _: None)
    assert ledger.verify() == []
    return world
