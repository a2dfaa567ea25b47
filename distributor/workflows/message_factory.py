"""Makes the frozen message of a delivery, in a child process: opens the file, builds the package, renders the text, seals the password.

Package, password, Message-ID, Date and boundary of a generation are made once and never change afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from distributor.errors import InvalidInput
from distributor.mail import message
from distributor.mail.message import Attachment, Mailbox, MessageHeaders, Renderer
from distributor.microsoft import connector_key, pfx_import
from distributor.microsoft.pfx_import import ConnectorKey, ImportedPackage
from distributor.model import channels, passwords
from distributor.model.attempts import PackedMessage, PackingJob, PackingTask
from distributor.model.certificates import Identity, ParseProblem
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.model.passwords import PasswordPolicy
from distributor.model.people import Helpdesk, has_unsafe_chars
from distributor.model.secret import Secret
from distributor.model.states import Way
from distributor.pki import package, parse_material
from distributor.pki.package import PackageContent
from distributor.pki.pkcs12 import load_known_key

A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Packer:
    """What a child process calls for each job. It is sent to the process once; nothing in it is secret."""

    words: Renderer
    seal: Callable[[Secret, str], bytes]  # password, delivery id
    organisation: str
    senders: tuple[Mailbox, ...]
    helpdesk: Helpdesk = field(default_factory=Helpdesk)
    channel: str = "reveal"
    to: str = "alternate_email"  # where channel mail sends passwords
    portal: str = ""  # its address without a scheme
    request_by_mail: bool = False  # whether a reply may ask for another copy
    signed_answers: bool = False  # whether a signed reply is read as a confirmation
    expires: timedelta | None = None
    profile: str = "phone"
    include_root: bool = False
    recipe: PasswordPolicy = field(default_factory=PasswordPolicy)
    connector: tuple[bytes, ConnectorKey] | None = None  # Intune's: the exported public key, and its name
    limits: Limits = field(default_factory=Limits)

    def __call__(self, job: PackingJob) -> PackedMessage | ParseProblem:
        """Make the message of one delivery."""
        return self.many([job])[0]

    def many(self, jobs: Sequence[PackingJob]) -> list[PackedMessage | ParseProblem]:
        """Make several, each step for all in a row: a key derivation leaves nothing of the other steps in the processor's caches."""
        running = {number: self._steps(job) for number, job in enumerate(jobs)}
        done: dict[int, PackedMessage | ParseProblem] = {}
        while running:
            for number, steps in list(running.items()):
                try:
                    next(steps)
                except StopIteration as end:
                    done[number] = end.value
                    del running[number]
        return [done[number] for number in range(len(jobs))]

    def _steps(self, job: PackingJob) -> Generator[None, None, PackedMessage | ParseProblem]:
        """Make a message, and yield between the steps."""
        todo = job.task
        found = _content(job, self.limits)
        if isinstance(found, ParseProblem):
            return found
        if problem := package.check_package(found, todo.certificate_sha256, todo.person.address, job.now, old=bool(todo.series)):
            return problem
        number, _, total = todo.series.partition("/")
        use = f"old {number}" if total else package.only_use(found.leaf)
        yield
        password = passwords.make(self.recipe, secrets.choice)
        name = package.friendly_name(todo.person, todo.not_before, use)
        data = package.build_pkcs12(found, password, self.profile, name, include_root=self.include_root)
        yield
        if todo.way is Way.INTUNE:
            return self._import(todo, found, password, data)
        sender = next((mailbox for mailbox in self.senders if str(mailbox.address) == todo.sender), self.senders[0])
        attachment = Attachment(package.file_name(todo.person, todo.not_before, todo.certificate_serial, use), data)
        try:
            wording = self.words.render(todo.language, self._values(todo, sender, attachment.file_name, use, job.now))
        except InvalidInput as error:  # a faulty template, or one that lacks a value, for this person; others may be fine
            return ParseProblem(CheckId.BAD_ROW, str(error), error.hint)
        yield
        head = MessageHeaders(
            sender,
            Mailbox(todo.person.address, todo.person.name),
            job.now,
            f"{secrets.token_hex(16)}@{sender.address.domain}",
            secrets.token_hex(12),
        )
        composed = message.compose(head, wording, attachment)
        yield
        return PackedMessage(
            id=todo.id,
            message_id=f"<{head.message_id}>",
            message=composed,
            package_sha256=hashlib.sha256(data).hexdigest(),
            profile=self.profile,
            sender=str(sender.address),
            sealed=self.seal(password, todo.id),
            channel=self.channel,
            expires=self.expires,
        )

    def _import(self, todo: PackingTask, found: PackageContent, password: Secret, data: bytes) -> PackedMessage:
        """The import of one delivery. Its password is encrypted to the connector and kept nowhere: nobody types it."""
        assert self.connector is not None  # noqa: S101  bootstrap gives it to whoever packs for Intune
        exported, key = self.connector
        sealed = connector_key.encrypt(password, connector_key.parse_key(exported, "intune.connector.public_key"), key.padding)
        thumbprint = hashlib.sha1(todo.leaf).hexdigest()  # noqa: S324  a name that Windows and Intune give it
        usages = package.usages_of(found.leaf)
        what = ImportedPackage(thumbprint, usages, todo.not_before, todo.not_after, base64.b64encode(data).decode(), sealed)
        return PackedMessage(
            id=todo.id,
            message_id=f"intune:{todo.id}",
            message=pfx_import.freeze(todo.person.address, what, key),
            package_sha256=hashlib.sha256(data).hexdigest(),
            profile=self.profile,
            sender="",
            sealed=None,
            channel="",
            expires=None,
        )

    def _values(self, todo: PackingTask, sender: Mailbox, file_name: str, use: str, now: datetime) -> dict[str, object]:
        """The variables of templates. Never the password; a name with invisible or direction-changing characters is left out."""
        person = todo.person
        return {
            "organisation": {"name": self.organisation},
            "person": {
                "name": "" if has_unsafe_chars(person.name) else person.name,
                "address": str(person.address),
                "columns": dict(person.columns),
            },
            "column": dict(person.columns),
            "certificate": {
                "not_before": todo.not_before,
                "not_after": todo.not_after,
                "serial": todo.certificate_serial,
                "issuer": todo.certificate_issuer,
                "sha256": todo.certificate_sha256,
                "use": "encryption" if todo.series else use,
            },
            "series": _series(todo.series),
            "renews": todo.renews,
            "file_name": file_name,
            "sender": {"address": str(sender.address), "name": sender.name},
            "contact": str(sender.address),
            "channel": self.channel,
            "password": {
                "groups": self.recipe.groups,
                "length": self.recipe.length,
                "shape": self.recipe.shape,
                "plain": self.recipe.plain,
                "label": channels.label(todo.id),
                "to": self.to,
            },
            "portal": self.portal,
            "generation": todo.generation,
            "expires": self.expires.days if self.expires else 0,
            "fetch_by": now + self.expires - A_DAY if self.expires else None,  # the last whole day; the password is ready later than now
            "helpdesk": self.helpdesk,
            "request_by_mail": self.request_by_mail,
            "confirmation": str(sender.address) if self.signed_answers and use != "encryption" and not todo.series else "",
            "reference": todo.id,
        }


def _series(text: str) -> dict[str, int] | None:
    """Which one of how many old certificates; None for an ordinary one."""
    number, _, total = text.partition("/")
    return {"number": int(number), "total": int(total)} if total else None


def _content(job: PackingJob, limits: Limits) -> PackageContent | ParseProblem:
    todo = job.task
    planned = hashlib.sha256(todo.leaf).hexdigest() == todo.certificate_sha256
    if planned and (known := load_known_key(job.material, todo.leaf, todo.chain)):
        return known
    found = _identity(job, limits)
    if isinstance(found, ParseProblem):
        return found
    return package.content(replace(found, chain=todo.chain or found.chain) if planned else found)  # it may have come from files beside


def _identity(job: PackingJob, limits: Limits) -> Identity | ParseProblem:
    opened = parse_material(job.material, limits, expected_sha256=job.task.certificate_sha256)
    for identity in opened.identities:
        if identity.facts.sha256 == job.task.certificate_sha256:
            return identity
    return next(
        iter(opened.problems),
        ParseProblem(CheckId.NO_CERTIFICATE, "the certificate is no longer in the file", "run `distributor plan` again"),
    )
