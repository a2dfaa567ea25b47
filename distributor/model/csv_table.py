"""Rosters and password lists as text: finds columns by the names that admins use, reads rows, and decides which cells may be quoted."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
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


DELIMITERS = ",;\t|"
MOST_COLUMNS = 1000  # each row is as wide as the header
LONGEST_CELL = 32_767  # characters of a list's cell, as in a spreadsheet
LONGEST_HEADER = 50  # lines: a spreadsheet may break the names of columns
LONGEST_ROW = 100  # lines, with breaks in quoted cells; a quote that is open for longer is never closed
_NAMES: Mapping[str, str] = {  # field -> names, better | worse; compared without case, accents, spaces, punctuation and [markers]
    "email": "email | primarysmtpaddress primaryemail | mail emailaddress mailaddress smtp smtpaddress workemail emailadresse adresseemail "
    "address courriel adressedemessagerie correo correoelectronico posta indirizzoemail | windowsemailaddress | "
    "proxyaddresses proxyadressen",
    "user": "upn userprincipalname user userid username benutzerprinzipalname principalname",  # where there is none of the line above
    "file": "file | pfx p12 path pathtopfxfile filename pfxfile p12file pfxpath filepath datei",
    "certificate": "certificate | cert certificatefile certificatepath certfile crt",
    "password": "password | pfxpassword passphrase pin pfxpassphrase encryptedkeypassword filepassword pickuppassword kennwort passwort "
    "motdepasse pwd pass pw passwd passcode pfxpass pfxpwd p12password p12pass certpassword certificatepassword "
    "zertifikatspasswort passwörter mdp contraseña contrasena contrasenya clave wachtwoord senha palavrapasse parola parolachiave "
    "hasło haslo пароль парола lösenord losenord adgangskode kodeord passord salasana heslo jelszó jelszo geslo lozinka şifre "
    "sifre parool parole slaptažodis slaptazodis κωδικός 密码 密碼 パスワード 비밀번호 סיסמה | "
    "exportpassword exportpw exportpwd exportpasswort exportkennwort p12passwort pfxpasswort p12kennwort pfxkennwort p12pin pfxpin "
    "zertifikatskennwort zertifikatspin",
    "password_file": "passwordfile | passwordpath pinfile",
    "key": "key | keyfile privatekey keypath privatekeyfile",
    "name": "displayname anzeigename nomdaffichage nombreparamostrar | fullname nomcomplet nombrecompleto | name | commonname friendlyname",
    "first_name": "firstname givenname vorname prenom nombre nome imie",
    "last_name": "lastname surname familyname nachname nom apellido apellidos cognome nazwisko sn",
    "language": "preferredlanguage language lang locale sprache langue idioma lingua",
    "phone": "phone | mobile mobilephone phonenumber telephone",
    "manager": "manager manageremail",
    "alternate_email": "alternateemail alternativeemail alternateemails alternativeemails alternateemailaddress privateemail "
    "secondaryemail",
}
_FIELDS: dict[str, tuple[str, int]] = {}  # plain name -> field, and how good a name it is: 0 is the best
_SECRET = re.compile(  # a column with such a name is never kept for templates, nor one of which a word is a name of the password above
    r"passw|passphrase|passcode|pwd|psw|kennwort|motdepasse|contrase|wachtwoord|senha|has[lł]o|парол|l[öo]senord|secret|credential|geheim|"
    r"pw\d*$|pin\d*$|^pin(?:code|nummer|number|no|nr)|pincode|^puk|"
    r"(?:access|activation|aktivierungs|abhol|entsperr|export|freischalt|import|pickup|transport|unlock|zugangs)code"
)
_AS_WRITTEN = frozenset({"password"})  # a blank may belong to it
_MUST_AGREE = ("email", "file", "certificate", "password", "password_file", "key")
_DIRECTORY = {"userprincipalname", "benutzerprinzipalname", "upn", "objectid", "objectguid", "distinguishedname", "samaccountname"}
_DIRECTORY |= {"recipienttypedetails", "orgunitpath"}  # columns of a directory's export, which also lists accounts without a mailbox
_GUID = re.compile(r"\{?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?")
_LINK = "mailto:"
_PRIMARY = re.compile(r"(?:^|[+;,\s])SMTP:([^+;,\s]+)")  # in a list of proxy addresses; the others are in small letters


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
    """The columns of each field, the better ones first."""

    delimiter: str
    names: tuple[str, ...]  # as written
    fields: Mapping[str, tuple[int, ...]]
    others: Mapping[str, int]  # further columns by the name that templates use

    @property
    def of_a_directory(self) -> bool:
        """Whether the list is a directory's export, in which an account may have no mailbox."""
        return any(_plain(name) in _DIRECTORY for name in self.names)

    def read(self, cells: Sequence[str]) -> dict[str, str]:
        """The fields of a row that are present: the first cell that can be used."""
        there = {field: [cells[number] for number in numbers if number < len(cells)] for field, numbers in self.fields.items()}
        return {field: _best(field, found) for field, found in there.items() if found}

    def is_empty(self, field: str, cells: Sequence[str]) -> bool:
        """Whether no column of a field has anything in this row."""
        return not any(cells[number].strip() for number in self.fields[field] if number < len(cells))

    def conflict(self, cells: Sequence[str]) -> tuple[str, ...]:
        """The names of two columns that mean the same and differ in this row, though neither has the better name."""
        for field in _MUST_AGREE:
            if len(numbers := self.fields.get(field, ())) < 2:  # noqa: PLR2004  two can differ
                continue
            equal = [n for n in numbers if n < len(cells) and _rank(self.names[n]) == _rank(self.names[numbers[0]])]
            values = {n: value for n in equal if (value := _comparable(field, cells[n]))}
            if len(set(values.values())) > 1:
                return tuple(self.names[n] for n in list(values)[:2])
        return ()

    def choices(self) -> Iterator[tuple[str, list[str]]]:
        """The names of the columns of an address or a name where there are several: the one that is used, and the others."""
        for field in ("email", "name"):
            used, *others = (escape_unsafe(" ".join(self.names[number].split())) for number in self.fields.get(field, (0,)))
            if others:
                yield used, others

    def only(self, names: Collection[str]) -> Columns:
        """A copy without the further columns that are not in `names`."""
        return replace(self, others={name: number for name, number in self.others.items() if name in names})

    def extra_columns(self, cells: Sequence[str]) -> dict[str, str]:
        """The further columns of a row; empty text where the row is shorter."""
        return {name: cells[i].strip() if i < len(cells) else "" for name, i in self.others.items()}


def _best(field: str, cells: Sequence[str]) -> str:
    """The first that is filled; of an address's cells, the first with an @."""
    usable = [_usable(field, cell) for cell in cells]
    if field == "email":  # what is no address at all gives way to another column, a faulty address does not
        usable.sort(key=lambda cell: "@" not in cell)
    return next((cell for cell in usable if cell.strip()), "")


def _usable(field: str, cell: str) -> str:
    cell = cell if field in _AS_WRITTEN else cell.strip()
    if field == "email" and cell[: len(_LINK)].lower() == _LINK:
        return cell[len(_LINK) :]
    if field == "email" and "SMTP:" in cell and (primary := _PRIMARY.search(cell)):
        return primary[1]
    if field == "name" and _GUID.fullmatch(cell):  # the name of new mailboxes in Exchange Online
        return ""
    return "" if field == "password" and not cell.strip("*") else cell  # Google's exports have asterisks where there is a password


def _comparable(field: str, cell: str) -> str:
    if field != "email":
        return cell.strip()
    address = parse_address(cell.strip())
    return address.key if isinstance(address, Address) else ""


def header(line: str) -> Columns | HeaderError:
    """Parse a header with the delimiter that yields the most known columns. It may have line ends in quotes."""
    split = {delimiter: _split(line, delimiter) for delimiter in DELIMITERS}
    best = max(split, key=lambda d: (sum(_plain(name) in _FIELDS for name in split[d]), len(split[d])))
    if len(split[best]) > MOST_COLUMNS:
        return HeaderError(f"the header has more than {MOST_COLUMNS} columns", "remove the columns that are not needed")
    return _columns(best, split[best])


def _lines_of(lines: list[str], delimiter: str) -> int:
    """How many of the lines the first record takes."""
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        next(reader, None)
    except csv.Error:
        return len(lines)
    return reader.line_num


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(line.splitlines(keepends=True), delimiter=delimiter), [])
    except csv.Error:
        return []


def _columns(delimiter: str, names: Sequence[str]) -> Columns:
    fields: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        if found := _FIELDS.get(_plain(name)):
            fields.setdefault(found[0], []).append(number)
    for numbers in fields.values():
        numbers.sort(key=lambda number: _rank(names[number]))  # in order where they are equal
    users = fields.pop("user", [])
    if "email" not in fields or all(_plain(names[number]).startswith("proxy") for number in fields["email"]):
        fields["email"] = [*fields.get("email", ()), *users]
        if not fields["email"]:
            del fields["email"]
    taken = {number for numbers in (*fields.values(), users) for number in numbers}
    return Columns(delimiter, tuple(names), {field: tuple(numbers) for field, numbers in fields.items()}, _others(names, taken))


@lru_cache(maxsize=64)  # asked again for each row
def _rank(name: str) -> int:
    return _FIELDS[_plain(name)][1]


def _others(names: Sequence[str], taken: set[int]) -> dict[str, int]:
    others: dict[str, int] = {}
    for number, name in enumerate(names):
        word = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
        if number not in taken and word and not _may_be_secret(name):
            others.setdefault(f"_{word}" if word[0].isdigit() else word, number)
    return others


def _may_be_secret(name: str) -> bool:
    """Whether a column's name, or a word of it, is one that columns of passwords have."""
    words = re.split(r"[\W_]+", re.sub(r"(?<=[^\W\d_])(?=\d)|(?<=[a-z])(?=[A-Z])", " ", name))  # "PW1", "ExportPW"
    return bool(_SECRET.search(_plain(name))) or any(_FIELDS.get(_plain(word), ("",))[0] == "password" for word in (name, *words))


def _plain(name: str) -> str:
    bare = re.sub(r"(?<=\S)\s*[\[(][^\])]*[\])]\s*$", "", name)  # "Email Address [Required]"
    letters = unicodedata.normalize("NFKD", bare).lower()
    return "".join(c for c in letters if c.isalnum() and not unicodedata.combining(c))


_FIELDS |= {
    _plain(name): (field, rank) for field, names in _NAMES.items() for rank, group in enumerate(names.split("|")) for name in group.split()
}


def without_address(columns: Columns) -> HeaderError:
    """The message about a header without a column for the address."""
    names = [name.strip() for name in columns.names]
    hint = "add a first line with column names, such as email,name,file"
    if any(isinstance(parse_address(name), Address) for name in names):
        return HeaderError("the list has no header line", hint)
    known = [f'"{escape_unsafe(name)}"' for name in names if _plain(name) in _FIELDS]
    unknown = [describe_cell(name) for name in names if _plain(name) not in _FIELDS][:8]  # without a header, one may be a password
    others = [f"{counted} not known {', '.join(unknown)}"] if (counted := f"{len(names) - len(known)}") != "0" else []
    return HeaderError(f'no column "email"; there is {" and ".join([*([", ".join(known)] if known else []), *others])}', hint)


# --- csv rows --------------------------------------------------------------------------------
# Parses a CSV file line by line into its header and rows, each with its first physical line; a malformed row becomes its error text.


class Rows:
    """The rows of a CSV file. Read `columns` first."""

    def __init__(self, lines: Iterable[str]) -> None:
        """`lines`: with their line ends, of any kind."""
        self._lines = iter(lines)
        self._before = 0  # lines that were read
        self.line = 0  # the first of the header, after `columns` was read
        self._delimiter = ","
        self._columns = Columns(self._delimiter, (), {}, {})
        self._record: list[str] = []  # the lines of the row that is being read
        self._unread: deque[str] = deque()  # lines that were read as parts of a row and are none

    def columns(self) -> Columns | HeaderError:
        """The columns that the header names, or why it names none."""
        for first in self._lines:
            self._before += 1
            if not first.strip(" \t\r\n,;") or first.lower().startswith("sep=") or first.startswith("#TYPE "):
                continue  # spreadsheets begin with either of the first two, PowerShell with the third
            self.line = self._before
            if isinstance(parse_address(first.strip()), Address):  # one address a line, as SSL.com takes them
                self._before, self._lines = self._before - 1, chain([first], self._lines)
                self._columns = Columns(self._delimiter, ("email",), {"email": (0,)}, {})
                return self._columns
            found = header(self._whole(first))
            if isinstance(found, Columns):
                self._delimiter, self._columns = found.delimiter, found
            return found
        return HeaderError("the list is empty", "add a first line with column names, such as email,name,file")

    def _whole(self, line: str) -> str:
        """The line, with those after it while a quote is open."""
        lines = [line]
        while sum(each.count('"') for each in lines) % 2 and len(lines) < LONGEST_HEADER and (following := next(self._lines, "")):
            self._before += 1
            lines.append(following)
        used = max(_lines_of(lines, delimiter) for delimiter in DELIMITERS)
        self._before -= len(lines) - used
        self._lines = chain(lines[used:], self._lines)  # a quote inside of a cell opens nothing
        return "".join(lines[:used])

    def __iter__(self) -> Iterator[tuple[int, list[str] | str]]:
        reader = self._reader()
        while True:
            line, self._record = self._before + 1, []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = _words(error)
            else:
                fault = f"a cell is longer than {LONGEST_CELL} characters" if any(len(cell) > LONGEST_CELL for cell in cells) else ""
            if len(self._record) > 1 and (fault or any(map(self._is_row, self._record[1:]))):
                fault = _NEVER_CLOSED
                self._before -= len(self._record) - 1
                self._unread.extendleft(reversed(self._record[1:]))
                reader = self._reader()
            yield line, fault or cells

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._fed(), delimiter=self._delimiter, strict=True)

    def _fed(self) -> Iterator[str]:
        """The lines, kept in `_record` until the row is complete."""
        while len(self._record) < LONGEST_ROW and (line := self._unread.popleft() if self._unread else next(self._lines, "")):
            self._before += 1
            self._record.append(line)
            yield line

    def _is_row(self, line: str) -> bool:
        """Whether a line inside a quoted cell would be a row by itself: it has all columns, and an address or a file where they belong."""
        cells = _split(line, self._delimiter)
        if len(cells) != len(self._columns.names):
            return False
        read = self._columns.read(cells)
        return isinstance(parse_address(read.get("email", "")), Address) or any(
            _FILE.fullmatch(read.get(field, "")) for field in ("file", "certificate")
        )


_NEVER_CLOSED = "a quote that begins in it is never closed"


def _words(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return _NEVER_CLOSED
    return "text follows a closing quote" if "expected after" in text else text
