"""Makes letters of ready passwords: one for each person, with the texts that child processes render, sorted by name.

Templates never get a password; the printer puts it into their text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Protocol

from distributor.errors import InvalidInput
from distributor.model.channels import Letter, LetterPrinter, ReadyPassword, Refusal, label
from distributor.model.issues import WorkerFailure
from distributor.model.people import Helpdesk, has_unsafe_chars
from distributor.model.ports import Vault, WorkerPool
from distributor.model.secret import Secret

FILES = ("address.txt", "letter.txt", "spelling.txt")


class FileRenderer(Protocol):
    """Renders several templates with the same values."""

    def render_files(self, language: str, names: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
        """The text of each file. Raises InvalidInput naming the template's file and line."""
        ...


@dataclass(frozen=True, slots=True)
class LetterJob:
    """The passwords of one person, whose texts a child process renders; sealed, for it has no key."""

    passwords: tuple[ReadyPassword, ...]
    plain: bool
    today: datetime

    @property
    def first(self) -> ReadyPassword:
        """The person, as each of the passwords names them."""
        return self.passwords[0]


@dataclass(frozen=True, slots=True)
class LetterTexts:
    """What a child process calls for each job: the texts of its letter, or why there is none."""

    words: FileRenderer
    organisation: str
    helpdesk: Helpdesk = field(default_factory=Helpdesk)

    def __call__(self, job: LetterJob) -> tuple[str, ...] | Refusal:
        """Render the texts of one letter."""
        columns = dict(job.first.columns)
        numbered = enumerate(job.passwords, 1)
        values: dict[str, object] = {
            "organisation": {"name": self.organisation},
            "person": {"name": job.first.name, "columns": columns},
            "column": columns,
            "passwords": [
                {"number": number, "label": label(one.delivery), "sent": one.sent_at, "not_after": one.not_after}
                for number, one in numbered
            ],
            "password": {"plain": job.plain},
            "helpdesk": self.helpdesk,
            "today": job.today,
        }
        try:
            return self.words.render_files(job.first.language, FILES, values)
        except InvalidInput as error:
            return Refusal(job.first.address, str(error), error.hint or "correct the template")


@dataclass(frozen=True, slots=True)
class Letters:
    """Letters, the passwords in them, and who gets none."""

    letters: tuple[Letter, ...]
    passwords: tuple[ReadyPassword, ...]
    refused: tuple[Refusal, ...]


def write_letters(
    ready: Sequence[ReadyPassword],
    vault: Vault,
    printer: LetterPrinter,
    pool: WorkerPool[LetterJob, tuple[str, ...] | Refusal],
    today: datetime,
) -> Letters:
    """The letters of these passwords, sorted by name. Raises InvalidInput where the vault opens none of them."""
    opened = _Opened(vault)
    letters: list[Letter] = []
    passwords: list[ReadyPassword] = []
    refused: list[Refusal] = []
    for job, texts in pool.map(opened.jobs(ready, today)):
        letter = _letter(job, texts, opened)
        reason = letter if isinstance(letter, Refusal) else _objection(job.first, letter, printer)
        if isinstance(letter, Letter) and reason is None:
            letters.append(letter)
            passwords += job.passwords
        elif reason is not None:
            refused.append(reason)
    if opened.error is not None and not letters:
        raise opened.error
    return Letters(tuple(letters), tuple(passwords), (*opened.refused, *refused))


class _Opened:
    """Opens the passwords of each person before their letter is made."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.error: InvalidInput | None = None
        self.refused: list[Refusal] = []

    def jobs(self, ready: Sequence[ReadyPassword], today: datetime) -> Iterator[LetterJob]:
        """A job for each person."""
        people = [tuple(group) for _, group in groupby(ready, key=lambda one: one.address)]
        for passwords in sorted(people, key=lambda group: (sort_key(group[0].name), group[0].address)):
            try:
                texts = [self.secret(one) for one in passwords]
            except InvalidInput as error:
                self.error = error
                self.refused.append(Refusal(passwords[0].address, error.message, error.hint or "run `distributor resend`"))
                continue
            plain = all(character.islower() or character == "-" for text in texts for character in text.reveal())
            yield LetterJob(passwords, plain, today)

    def secret(self, one: ReadyPassword) -> Secret:
        """The password."""
        return self._vault.open(one.sealed, one.delivery)


def _letter(job: LetterJob, texts: tuple[str, ...] | Refusal | WorkerFailure, opened: _Opened) -> Letter | Refusal:
    address = job.first.address
    match texts:
        case WorkerFailure(reason):
            return Refusal(address, f"rendering the letter failed ({reason})", "run `distributor doctor`, which renders every template")
        case Refusal():
            return texts
        case (lines, text, spelling):
            wanted = tuple(line.strip() for line in lines.splitlines() if line.strip())
            return Letter(wanted, text, spelling, tuple(opened.secret(one) for one in job.passwords))
    raise AssertionError(texts)


def _objection(person: ReadyPassword, letter: Letter, printer: LetterPrinter) -> Refusal | None:
    if not person.name.strip() or not letter.address:
        return Refusal(person.address, "the letter has no name to be sent to", "add the name to the roster and run `distributor plan`")
    if has_unsafe_chars(person.name):
        return Refusal(person.address, "the name has an unprintable character", "retype the name in the roster")
    if missing := printer.unprintable(letter):
        hint = "hand the password over with `distributor password reveal`"
        if not printer.every_script:
            hint = f"install the DejaVu fonts (Debian: fonts-dejavu-core), or {hint}"
        return Refusal(person.address, f'cannot print "{missing}" with {printer.font}', hint)
    return None


def sort_key(name: str) -> str:
    """A name as it is sorted: without case and accents."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
