"""The packer where it really works: in child processes, with an operator's templates that misbehave."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from distributor.mail.message import Mailbox
from distributor.mail.templates import TemplateRenderer
from distributor.model.attempts import PackedMessage, PackingJob
from distributor.model.certificates import ParseProblem
from distributor.model.people import Address
from distributor.model.secret import Secret
from distributor.vault import AgeVault, seal
from distributor.workers.pool import Workers
from distributor.workflows.message_factory import Packer
from distributor.workflows.packing import GROUP
from tests import oldphone
from tests.authority import Authority
from tests.identities import attachment, material, todo

NOW = datetime.now(UTC).replace(microsecond=0)
MEMORY = 2**29  # bytes of address space


def packer(workspace: Path | None, recipient: str) -> Packer:
    sender = Mailbox(Address("certificates", "example.org"), "Certificate Service")
    return Packer(TemplateRenderer(workspace), seal([recipient]), "Example AG", (sender,))


@pytest.fixture(scope="module")
def vault() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


def test_only_the_vault_s_key_finds_the_password_that_opens_the_package(authority: Authority, vault: pyrage.x25519.Identity) -> None:
    alice = authority.issue("alice@example.org", name="Alice Example")
    jobs = [PackingJob(todo(alice, n), material(alice), NOW) for n in range(4)]
    with Workers(packer(None, str(vault.to_public())), 2, 30.0, MEMORY) as pool:
        messages = [result for _, result in pool.map(jobs)]
    assert all(isinstance(message, PackedMessage) for message in messages)
    for message in messages:
        assert isinstance(message, PackedMessage)
        password = AgeVault(Secret(str(vault))).open(message.sealed, message.id).reveal()
        assert oldphone.install(attachment(message), password)[0].content == alice.der


def test_a_template_that_eats_the_memory_costs_its_message_only(
    authority: Authority, vault: pyrage.x25519.Identity, tmp_path: Path
) -> None:
    doubling = "{% set x = person.name %}" + "{% set x = x ~ x %}" * 40 + "{{ x | length }}"
    _greedy(tmp_path, '{% if column.greedy == "yes" %}' + doubling + "{% endif %}")
    fine, greedy = _results(authority, packer(tmp_path, str(vault.to_public())), 30.0)
    assert isinstance(fine, PackedMessage)
    assert isinstance(greedy, ParseProblem)
    assert "templates/message/en/body.txt line 1" in greedy.message
    assert "memory" in greedy.message


def test_a_template_that_never_ends_costs_its_message_only(authority: Authority, vault: pyrage.x25519.Identity, tmp_path: Path) -> None:
    loop = "{% for a in x %}{% for b in x %}{% for c in x %}{% for d in x %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}"
    _greedy(tmp_path, "{% set x = 'x' * 2000 %}{% if column.greedy == 'yes' %}" + loop + "{% endif %}")
    fine, greedy = _results(authority, packer(tmp_path, str(vault.to_public())), 60.0)
    assert isinstance(fine, PackedMessage)
    assert isinstance(greedy, ParseProblem)
    assert greedy.message == "templates/message/en/body.txt line 1: rendering takes longer than 1 s"


def test_a_message_that_costs_its_process_the_memory_costs_no_other_of_its_group(
    authority: Authority, vault: pyrage.x25519.Identity, tmp_path: Path
) -> None:
    doubling = "{% set x = person.name %}" + "{% set x = x ~ x %}" * 40 + "{{ x | length }}"
    _greedy(tmp_path, '{% if column.greedy == "yes" %}' + doubling + "{% endif %}")
    alice, bob = (authority.issue(f"{name}@example.org", name=name.title()) for name in ("alice", "bob"))
    jobs = [PackingJob(todo(alice, n, greedy="yes" if n == 5 else "no"), material(alice), NOW) for n in range(20)]
    jobs[9] = PackingJob(todo(alice, 9, greedy="no"), material(bob), NOW)
    with Workers(packer(tmp_path, str(vault.to_public())), 2, 60.0, MEMORY, group=GROUP) as pool:
        results = [result for _, result in pool.map(jobs)]
    assert [n for n, result in enumerate(results) if isinstance(result, ParseProblem)] == [5, 9]
    messages = [result for result in results if isinstance(result, PackedMessage)]
    assert [job.task.id for n, job in enumerate(jobs) if n not in {5, 9}] == [message.id for message in messages]
    passwords = {AgeVault(Secret(str(vault))).open(message.sealed, message.id).reveal(): message for message in messages}
    assert len(passwords) == 18
    assert all(oldphone.install(attachment(message), password)[0].content == alice.der for password, message in passwords.items())


def _greedy(workspace: Path, body: str) -> None:
    folder = workspace / "templates" / "message" / "en"
    folder.mkdir(parents=True)
    (folder / "body.txt").write_text(body)


def _results(authority: Authority, call: Packer, seconds: float) -> list[object]:
    alice = authority.issue("alice@example.org", name="Alice Example")
    plain = todo(alice, 0, greedy="no")
    jobs = [PackingJob(plain, material(alice), NOW), PackingJob(todo(alice, 1, greedy="yes"), material(alice), NOW)]
    with Workers(call, 1, seconds, MEMORY) as pool:
        return [result for _, result in pool.map(jobs)]
