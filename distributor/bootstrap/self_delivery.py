"""Composes `distributor self`: the settings that it needs, the file opened and its messages made in child processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from distributor import bootstrap, config
from distributor.bootstrap import delivery, inputs, trust
from distributor.config.loader import NO_TRANSPORT
from distributor.config.schema import VaultKeys
from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, Reason, read_file
from distributor.model.attempts import PackedMessage, PackingJob
from distributor.model.certificates import FilePart, SourceMaterial
from distributor.model.issues import WorkerFailure
from distributor.model.people import Address, escape_unsafe
from distributor.vault import AgeVault, make_identity
from distributor.workflows import plan_messages, self_delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributor.model.delivery import DeliveryRequest
    from distributor.model.secret import Secret
    from distributor.workflows.self_delivery import CheckedFile

CHANNEL = "self"  # the password is shown where the message is sent from
_NOBODY = Address("nobody", "localhost.invalid")


@dataclass(frozen=True, slots=True)
class SelfMessage:
    """A message, and the password of its package."""

    request: DeliveryRequest
    packed: PackedMessage
    password: Secret


def settings(chosen: Path | None, *, sends: bool) -> config.Settings:
    """The configuration, which needs neither a vault nor a ledger here; where nothing is sent, no transport, and no file at all."""
    optional = ("vault",) if sends else ("vault", "transport", "sender")
    try:
        return bootstrap.settings(chosen, optional)
    except InvalidInput:
        if sends or chosen is not None or Path(config.NAME).exists():
            raise
    return config.Settings(Path(config.NAME).absolute(), config.Organisation(""), config.Sender(_NOBODY), NO_TRANSPORT, VaultKeys(()))


def read(file: Path, password: Secret, settings: config.Settings) -> SourceMaterial:
    """The file's bytes with its password. Raises InvalidInput."""
    try:
        data = read_file(file, settings.limits.file, follow=True)
    except FileRefused as refused:
        message = "no such file" if refused.reason is Reason.MISSING else refused.message
        raise InvalidInput(message, where=str(file), hint="name the .pfx or .p12 file that you exported") from None
    part = FilePart(escape_unsafe(file.name), str(file.absolute()), None, sha256(data).hexdigest(), data)
    return SourceMaterial("pkcs12", (part,), (password,))


def check(material: SourceMaterial, to: Address | None, settings: config.Settings) -> CheckedFile:
    """Open the file in a child process, choose the address, and check as `plan` does. Raises UsageError, RequestDenied."""
    now = bootstrap.now()
    with inputs.parsing_pool(settings) as pool:
        ((_, opened),) = pool.map(iter([material]))
    person = None
    if not isinstance(opened, WorkerFailure):
        opened, person = self_delivery.choose(opened, to, material.source)
    with trust.chain_checker(settings, now) as checker:
        return self_delivery.check(material, opened, person, settings.organisation.languages, now=now, checker=checker)


def pack(
    material: SourceMaterial, requests: Sequence[DeliveryRequest], settings: config.Settings, language: str | None
) -> list[SelfMessage]:
    """Make the messages as `send` does. Their passwords come sealed out of the child process, to a key of this run. Raises InvalidInput."""
    delivery.refuse_outdated_templates(settings)
    identity, key = make_identity()
    password = replace(settings.password, channel=CHANNEL, expires=timedelta())  # it is not kept, so it does not expire
    without = replace(settings, vault=VaultKeys((key,)), password=password, trackers=())  # no ledger, so no reply is understood
    with delivery.packing_pool(without) as pool:
        tasks = (self_delivery.task(request, number, language) for number, request in enumerate(requests, 1))
        made = [result for _, result in pool.map(PackingJob(task, material, bootstrap.now()) for task in tasks)]
    messages = []
    for request, result in zip(requests, made, strict=True):
        if not isinstance(result, PackedMessage):
            problem = plan_messages.lost(result) if isinstance(result, WorkerFailure) else result
            raise InvalidInput(problem.message, where=material.source, hint=problem.hint)
        assert result.sealed is not None  # noqa: S101  it goes by mail
        messages.append(SelfMessage(request, result, AgeVault(identity).open(result.sealed, result.id)))
    return messages
