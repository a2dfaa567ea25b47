"""Makes the frozen message of a delivery, in a child process: opens the file, builds the package, renders the text, seals the password.

Package, password, Message-ID, Date and boundary of a generation are made once and never change afterwards.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from distributor.errors import InvalidInput
from distributor.mail import message
from distributor.mail.message import Attachment, Mailbox, MessageHeaders, Renderer
from distributor.model import passwords
from distributor.model.certificates import Identity, Limits, ParseProblem
from distributor.model.delivery import PackedMessage, PackingJob, PackingTask
from distributor.model.issues import CheckId
from distributor.model.passwords import PasswordPolicy
from distributor.model.people import Address, Helpdesk, has_unsafe_chars
from distributor.model.secret import Secret
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
    request_by_mail: bool = False  # whether a reply may ask for another copy
    expires: timedelta | None = None
    profile: str = "phone"
    include_root: bool = False
    recipe: PasswordPolicy = field(default_factory=PasswordPolicy)
    limits: Limits = field(default_factory=Limits)

    def __call__(self, job: PackingJob) -> PackedMessage | ParseProblem:
        """Make the message of one delivery."""
        found = _content(job, self.limits)
        if isinstance(found, ParseProblem):
            return found
        if problem := package.check_package(found, job.task.certificate_sha256, job.task.person.address, job.now):
            return problem
        try:
            return self._pack(job, found)
        except InvalidInput as error:  # a faulty template, or one that lacks a value, for this person; others may be fine
            return ParseProblem(CheckId.BAD_ROW, str(error), error.hint)

    def _pack(self, job: PackingJob, content: PackageContent) -> PackedMessage:
        todo = job.task
        sender = sender_of(todo.person.address, self.senders, todo.sender)
        password = passwords.make(self.recipe, secrets.choice)
        use = package.only_use(content.leaf)
        name = package.friendly_name(todo.person, todo.not_before, use)
        data = package.build_pkcs12(content, password, self.profile, name, include_root=self.include_root)
        attachment = Attachment(package.file_name(todo.person, todo.not_before, todo.certificate_serial, use), data)
        wording = self.words.render(todo.language, self._values(todo, sender, attachment.file_name, use, job.now))
        head = MessageHeaders(
            sender,
            Mailbox(todo.person.address, todo.person.name),
            job.now,
            f"{secrets.token_hex(16)}@{sender.address.domain}",
            secrets.token_hex(12),
        )
        return PackedMessage(
            id=todo.id,
            message_id=f"<{head.message_id}>",
            message=message.compose(head, wording, attachment),
            package_sha256=hashlib.sha256(data).hexdigest(),
            profile=self.profile,
            sender=str(sender.address),
            sealed=self.seal(password, todo.id),
            channel=self.channel,
            expires=self.expires,
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
                "use": use,
            },
            "file_name": file_name,
            "sender": {"address": str(sender.address), "name": sender.name},
            "contact": str(sender.address),
            "channel": self.channel,
            "password": {
                "groups": self.recipe.groups,
                "length": self.recipe.length,
                "shape": self.recipe.shape,
                "plain": self.recipe.alphabet.isalpha() and self.recipe.alphabet.islower(),
            },
            "generation": todo.generation,
            "expires": self.expires.days if self.expires else 0,
            "fetch_by": now + self.expires - A_DAY if self.expires else None,  # the last whole day; the password is ready later than now
            "helpdesk": self.helpdesk,
            "request_by_mail": self.request_by_mail,
        }


def sender_of(person: Address, senders: Sequence[Mailbox], last: str | None = None) -> Mailbox:
    """The mailbox that sends to a person: that of the `last` message while it is configured, else one by rendezvous hashing.

    All are chosen about as often, and where one is removed only its own people move.
    """
    known = next((sender for sender in senders if str(sender.address) == last), None)
    return known or max(senders, key=lambda sender: hashlib.sha256(f"{sender.address.key}\0{person.key}".encode()).digest())


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
