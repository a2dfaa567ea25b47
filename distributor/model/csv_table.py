"""Rosters and password lists as text: finds columns by the names that admins use, reads rows, and decides which cells may be quoted."""

from __future__ import annotations

import codecs
import csv
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

from distributor.model.people import Address, escape_unsafe, parse_address

# --- cells --------------------------------------------------------------------------------
#
# Decides whether an error message may quote a cell of a roster. Pure.
#
# Any cell may be a password, since the delimiter may be another one, two cells may be swapped, or the header may be missing. So a cell is
# quoted only where it looks like what belongs there, and otherwise described by its length.


_ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9])?@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}")
_UNDOTTED = re.compile(r"[a-z](?:[a-z0-9._+-]{0,62}[a-z0-9])@[a-z]{4,63}")  # anna@exmaple; a password seldom looks so
_BETWEEN = re.compile(r"[\s,;<>]+")
_FILE = re.compile(r".+\.(?:pfx|p12|pem|crt|cer|cert|der|key|p8|pk8|p7b|p7c|zip|txt|pass|pwd)", re.IGNORECASE | re.DOTALL)
LONGEST = 254  # characters; longer cells are not quoted


def describe_cell(cell: str) -> str:
    """The description of a cell that is not quoted."""
    return f"({len(cell)} characters)"


def quotable_address(cell: str, others: Iterable[str] = ()) -> bool:
    """Whether a cell may be quoted as an address. Not where another cell of the row could be the address, and this one the password."""
    cell = cell.strip()
    return len(cell) <= LONGEST and bool(_ADDRESS.fullmatch(cell) or _UNDOTTED.fullmatch(cell)) and not any("@" in c for c in others)


def addresses_in(cell: str, others: Iterable[str] = ()) -> list[str]:
    """The addresses in a cell that should have one: several of the same domain, or one with a person's name before it.

    Empty where one of them may be a password: another cell has an address too, or the domains differ.
    """
    if len(cell) > LONGEST or any("@" in other for other in others):
        return []
    words = [word for word in _BETWEEN.split(cell) if "@" in word]
    alone = len(words) == 1 and re.fullmatch(r"[^@<>|;,]*<[^@<>]+@[^@<>]+>", cell.strip()) is not None
    several = all("@" in word for word in _BETWEEN.split(cell) if word) and len({w.rpartition("@")[2].lower() for w in words}) == 1
    return words if (alone or several) and all(map(_ADDRESS.fullmatch, words)) else []


def name_cell(cell: str) -> str:
    """A file name for messages: quoted where its extension is a known one, else described. The caller escapes unprintable characters."""
    return f'"{cell}"' if _FILE.fullmatch(cell) else describe_cell(cell)


DELIMITERS = ",;\t"
MOST_COLUMNS = 1000  # each row is as wide as the header
_NAMES: Mapping[str, str] = {  # field -> names, the first is the proper one; compared without case, spaces and punctuation
    "email": "email mail address smtp emailaddress mailaddress smtpaddress primarysmtpaddress workemail emailadresse adresseemail",
    "user": "upn userprincipalname user userid username",  # the address where no column of the line above is there
    "file": "file pfx p12 path pathtopfxfile filename pfxfile p12file pfxpath filepath datei",
    "certificate": "certificate cert certificatefile certificatepath certfile crt",
    "password": "password pfxpassword passphrase pin pfxpassphrase encryptedkeypassword filepassword kennwort passwort motdepasse "
    "pwd pass pw passwd passcode pfxpass pfxpwd p12password p12pass certpassword certificatepassword zertifikatspasswort passwörter mdp "
    "contraseña contrasena contrasenya clave wachtwoord senha palavrapasse parola parolachiave hasło haslo пароль парола lösenord losenord "
    "adgangskode kodeord passord salasana heslo jelszó jelszo geslo lozinka şifre sifre parool parole slaptažodis slaptazodis κωδικός "
    "密码 密碼 パスワード 비밀번호 סיסמה",
    "password_file": "passwordfile passwordpath pinfile",
    "key": "key keyfile privatekey keypath privatekeyfile",
    "name": "name displayname fullname",
    "first_name": "firstname givenname vorname prenom",
    "last_name": "lastname surname familyname nachname",
    "language": "language lang locale preferredlanguage sprache langue",
    "phone": "phone mobile mobilephone phonenumber telephone",
    "manager": "manager manageremail",
    "alternate_email": "alternateemail alternativeemail alternateemails alternativeemails privateemail secondaryemail",
}
_FIELDS = {name: field for field, names in _NAMES.items() for name in names.split()}
_RANKS = {names.split()[0]: 2 for names in _NAMES.values()} | {"primarysmtpaddress": 1}  # of two names of a field, which is meant
_SECRET = re.compile(  # a column with such a name is never kept for templates
    r"passw|passphrase|passcode|pwd|kennwort|motdepasse|contrase|wachtwoord|senha|has[lł]o|парол|l[öo]senord|secret|^pin$|pincode"
)
_AS_WRITTEN = frozenset({"password"})  # a blank may belong to it


class FurtherColumns(Protocol):
    """The ledger's method for the further roster columns that it keeps with people, for templates."""

    def keep_columns(self, used: Callable[[], Collection[str]]) -> int:
        """Delete the columns that no template names; of how many people. `used` is called only where there are any."""
        ...


@dataclass(frozen=True, slots=True)
class HeaderError:
    """Why a line is not a usable header."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The column of each field."""

    delimiter: str
    names: tuple[str, ...]  # as written
    fields: Mapping[str, int]
    others: Mapping[str, int]  # further columns by the name that templates use

    def read(self, cells: Sequence[str]) -> dict[str, str]:
        """The fields of a row that are present."""
        return {f: cells[i] if f in _AS_WRITTEN else cells[i].strip() for f, i in self.fields.items() if i < len(cells)}

    def only(self, names: Collection[str]) -> Columns:
        """A copy without the further columns that are not in `names`."""
        return replace(self, others={name: number for name, number in self.others.items() if name in names})

    def extra_columns(self, cells: Sequence[str]) -> dict[str, str]:
        """The further columns of a row; empty text where the row is shorter."""
        return {name: cells[i].strip() if i < len(cells) else "" for name, i in self.others.items()}


def header(line: str) -> Columns | HeaderError:
    """Parse a header line with the delimiter that yields the most known columns."""
    split = {delimiter: _split(line, delimiter) for delimiter in DELIMITERS}
    best = max(split, key=lambda d: (sum(_plain(name) in _FIELDS for name in split[d]), len(split[d])))
    if len(split[best]) > MOST_COLUMNS:
        return HeaderError(f"the first line names more than {MOST_COLUMNS} columns", "keep the columns that are needed")
    return _columns(best, split[best])


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _columns(delimiter: str, names: Sequence[str]) -> Columns | HeaderError:
    fields: dict[str, int] = {}
    for number, name in enumerate(names):
        plain = _plain(name)
        field = _FIELDS.get(plain)
        if field is None:
            continue
        if field in fields:
            mine, before = (_RANKS.get(each, 0) for each in (plain, _plain(names[fields[field]])))
            if mine == before:
                return _twice(names[fields[field]], name)
            if mine < before:
                continue
        fields[field] = number
    if "user" in fields:
        user = fields.pop("user")
        fields.setdefault("email", user)
    return Columns(delimiter, tuple(names), fields, _others(names, set(fields.values())))


def _others(names: Sequence[str], taken: set[int]) -> dict[str, int]:
    others: dict[str, int] = {}
    for number, name in enumerate(names):
        word = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
        plain = _plain(name)
        if number not in taken and word and not _SECRET.search(plain) and _FIELDS.get(plain) != "password":
            others.setdefault(f"_{word}" if word[0].isdigit() else word, number)
    return others


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", name).lower())


def _twice(first: str, second: str) -> HeaderError:
    return HeaderError(f'the columns "{escape_unsafe(first)}" and "{escape_unsafe(second)}" mean the same', "rename or remove one of them")


def without_address(columns: Columns) -> HeaderError:
    """The message about a header without a column for the address."""
    names = [name.strip() for name in columns.names]
    hint = "the first line names the columns, such as email,name,file"
    if any(isinstance(parse_address(name), Address) for name in names):
        return HeaderError("the list has no header", hint)
    known = [f'"{escape_unsafe(name)}"' for name in names if _plain(name) in _FIELDS]
    unknown = [describe_cell(name) for name in names if _plain(name) not in _FIELDS][:8]  # without a header, one may be a password
    others = [f"{counted} not known {', '.join(unknown)}"] if (counted := f"{len(names) - len(known)}") != "0" else []
    return HeaderError(f'no column "email"; there is {" and ".join([*([", ".join(known)] if known else []), *others])}', hint)


# --- plaintext --------------------------------------------------------------------------------
# Decodes rosters and password files: UTF-8 with or without BOM, UTF-16, Windows-1252. Bytes that do not fit stay recognisable.


LONGEST_CELL = 32_767  # characters of a list's cell, as in a spreadsheet
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_STRANGE = frozenset(map(chr, range(0xDC80, 0xDD00))) | {"\ufffd"}


def decode(data: bytes) -> str:
    """The text; bytes that do not fit the encoding become a lone surrogate or U+FFFD (`is_broken`)."""
    encoding = guess([data])
    return data.decode(encoding, errors(encoding))


def errors(encoding: str) -> str:
    """The error handler that keeps bytes that do not fit an encoding recognisable."""
    return "replace" if encoding.startswith("utf-16") else "surrogateescape"


def is_broken(text: str) -> bool:
    """Whether the text had bytes that do not fit its encoding."""
    return not text.isascii() and not _STRANGE.isdisjoint(text)


def guess(pieces: Iterable[bytes]) -> str:
    """The encoding of a text in pieces, the first of at least two bytes if there are as many.

    By its byte order mark, by the NUL bytes of UTF-16, UTF-8 where any multi-byte character is valid, else Windows-1252.
    """
    rest = iter(pieces)
    data = next(rest, b"")
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return "utf-16-le"
    if data[:1] == b"\0" and data[1:2] not in {b"\0", b""}:
        return "utf-16-be"
    return "utf-8" if _is_utf8(chain([data], rest)) else "cp1252"


def _is_utf8(pieces: Iterator[bytes]) -> bool:
    """Whether the text is UTF-8, perhaps with a few wrong bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    right = wrong = False
    for piece in chain(pieces, [b""]):
        text = decoder.decode(piece, not piece)
        if not text.isascii():
            wrong = wrong or is_broken(text)
            right = right or any(c > "\x7f" and c not in _STRANGE for c in set(text))
        if right:
            return True
    return not wrong


# --- csv rows --------------------------------------------------------------------------------
# Parses a CSV file line by line into its header and rows, each with its first physical line; a malformed row becomes its error text.


class Rows:
    """The rows of a CSV file. Read `columns` first."""

    def __init__(self, lines: Iterable[str]) -> None:
        """`lines`: with their line ends, of any kind."""
        self._lines = iter(lines)
        self._before = 0  # lines before those that the reader counts
        self._delimiter = ","

    @property
    def line(self) -> int:
        """The line of the header, after `columns` was read."""
        return self._before

    def columns(self) -> Columns | HeaderError:
        """The columns that the header names, or why it names none."""
        for line in self._lines:
            self._before += 1
            if not line.strip(" \t\r\n,;") or line.lower().startswith("sep="):
                continue  # spreadsheets begin with either
            found = header(line)
            if isinstance(found, Columns):
                self._delimiter = found.delimiter
            return found
        return HeaderError("the list is empty", "the first line names the columns, such as email,name,file")

    def __iter__(self) -> Iterator[tuple[int, list[str] | str]]:
        reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        while True:
            line = self._before + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, str(error)
                continue
            yield line, f"a cell has more than {LONGEST_CELL} characters" if any(len(cell) > LONGEST_CELL for cell in cells) else cells
