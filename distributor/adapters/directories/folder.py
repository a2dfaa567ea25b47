"""Publishes a person's certificate as three world-readable files: PEM, DER, and a vCard 4.0 whose KEY is the certificate."""

from __future__ import annotations

import base64
import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from distributor.errors import InvalidInput
from distributor.files import atomic
from distributor.files.reader import FileRefused, open_file, read_bounded
from distributor.model.certificates import PublicationRequest, PublicationResult
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import escape_unsafe

LONGEST_NAME = 200  # characters of a file name, without its extension
LONGEST_LINE = 75  # octets of a line in a vCard, RFC 6350 3.2
MODE = 0o644  # everybody may read it
LARGEST = 2**20  # bytes read of an existing file
_PLAIN = re.compile(r"[^a-z0-9@._+-]")
_HINT = "check that the folder in `path` can be created and written to, and that the disk is not full"
_ONE = frozenset({errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR})  # errors that concern a single file name


@dataclass(frozen=True)
class Settings:
    """`[[directories]]` of kind folder."""

    path: Path


def open(settings: Settings, key: str) -> FolderDirectory:  # noqa: A001  every adapter has this name
    """The directory; its folder is made when something is published. `key` names its table."""
    del key
    return FolderDirectory(settings.path)


class FolderDirectory:
    """Publishes into a folder; each file is replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = str(path)

    def publish(self, public: PublicationRequest, now: datetime) -> PublicationResult | Issue:
        """Write or remove one person's files; see model.certificates.PublicDirectory."""
        del now
        name = file_name(public.address.key)
        try:
            self._make()
            before = _digest(_read(self._path / f"{name}.cer"))
            changed = self._remove(name, before, public.gone) if public.leaf is None else self._write(name, files(public))
        except OSError as error:
            if error.errno in _ONE and self._path.is_dir():
                message = f'"{escape_unsafe(name)}" cannot be written ({error.strerror})'
                return Issue(
                    Severity.ERROR,
                    CheckId.NOT_PUBLISHED,
                    message,
                    "remove the file or folder of that name",
                    "folder",
                    None,
                    str(public.address),
                )
            raise InvalidInput(f"cannot write a certificate ({error.strerror})", where=self.where, hint=_HINT) from error
        return PublicationResult(name, changed, removed=public.gone & {before} if changed else frozenset())

    def _make(self) -> None:
        """Make the folder, readable by everybody whatever the umask; an existing one stays as it is."""
        if not self._path.is_dir():
            self._path.mkdir(parents=True, exist_ok=True)
            self._path.chmod(0o755)

    def _write(self, name: str, contents: Mapping[str, bytes]) -> bool:
        changed = {end: data for end, data in contents.items() if _read(self._path / f"{name}{end}") != data}
        for end, data in changed.items():
            atomic.replace_file(self._path / f"{name}{end}", data, MODE)
        if changed:
            atomic.sync_folder(self._path)
        return bool(changed)

    def _remove(self, name: str, present: str, gone: frozenset[str]) -> bool:
        """Remove the files if their certificate is among `gone`; any other stays."""
        if present not in gone:
            return False
        for end in (".vcf", ".pem", ".cer"):  # .cer last: it tells whether there is something to remove
            with suppress(FileNotFoundError):
                (self._path / f"{name}{end}").unlink()
        atomic.sync_folder(self._path)
        return True

    def close(self) -> None:
        """Nothing is kept open."""


def file_name(key: str) -> str:
    """A unique file name for an address, without path separators or a leading dash; the address itself where possible."""
    plain = _PLAIN.sub("_", key)[:LONGEST_NAME]
    if plain == key and plain[0] not in ".-":
        return plain
    return f"{plain.lstrip('.-')}-{sha256(key.encode()).hexdigest()[:12]}"


def files(public: PublicationRequest) -> dict[str, bytes]:
    """The contents of a person's files by extension."""
    assert public.leaf is not None  # noqa: S101  called with a certificate only
    return {".cer": public.leaf, ".pem": _pem(public.leaf), ".vcf": vcard(public.name, str(public.address), public.leaf)}


def _digest(data: bytes | None) -> str:
    """SHA-256; empty for a missing file."""
    return "" if data is None else sha256(data).hexdigest()


def _pem(leaf: bytes) -> bytes:
    text = base64.b64encode(leaf).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()


def vcard(name: str, address: str, leaf: bytes) -> bytes:
    """A vCard (RFC 6350) with the certificate as a data URI in KEY (6.8.1)."""
    key = f"KEY:data:application/pkix-cert;base64,{base64.b64encode(leaf).decode()}"
    lines = ["BEGIN:VCARD", "VERSION:4.0", f"FN:{_text(name or address)}", f"EMAIL:{_text(address)}", key, "END:VCARD"]
    return "".join(f"{folded}\r\n" for line in lines for folded in [_folded(line)]).encode()


def _text(value: str) -> str:
    """A value of RFC 6350 3.4; a name is one line."""
    return re.sub(r"([\\,;])", r"\\\1", escape_unsafe(" ".join(value.split())))


def _folded(line: str) -> str:
    return "\r\n ".join(_pieces(line))


def _pieces(line: str) -> Iterator[str]:
    """Parts of at most 75 octets, counting the blank that a continued line begins with; no character is split."""
    piece: list[str] = []
    size = 0
    for character in line:
        octets = len(character.encode())
        if size + octets > LONGEST_LINE:
            yield "".join(piece)
            piece, size = [], 1
        piece.append(character)
        size += octets
    yield "".join(piece)


def _read(path: Path) -> bytes | None:
    """The contents of a regular file that everybody may read, no link; else None."""
    try:
        with open_file(path, LARGEST) as file:
            return read_bounded(file, LARGEST) if stat.S_IMODE(os.fstat(file.fileno()).st_mode) == MODE else None
    except (FileRefused, OSError):
        return None
