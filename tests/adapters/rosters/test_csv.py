"""CSV files as admins have them."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributor.adapters.rosters import csv
from distributor.errors import InvalidInput
from distributor.model.issues import CheckId, Issue
from distributor.model.people import Person
from distributor.model.secret import Secret

LIST = "email,name,file\nzoë@bücher.example,Zoë Müller,zoë.pfx\nbob@example.org,Bob,bob.pfx\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.csv"


def rows(path: Path, data: bytes | str) -> list[Person | Issue]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(csv.open(csv.Settings(path)).people())


def people(path: Path, data: bytes | str) -> list[Person]:
    """Everybody on a list that has no faults; notes about it aside."""
    found = [row for row in rows(path, data) if isinstance(row, Person) or row.severity != "note"]
    assert all(isinstance(row, Person) for row in found), found
    return [row for row in found if isinstance(row, Person)]


def issue(path: Path, data: bytes | str) -> Issue:
    (found,) = (row for row in rows(path, data) if isinstance(row, Issue))
    assert found.hint
    assert found.source == "people.csv"
    return found


def unusable(path: Path, data: bytes | str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        rows(path, data)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_delimiter_and_line_end(path: Path, encoding: str, delimiter: str, end: str) -> None:
    found = people(path, LIST.replace(",", delimiter).replace("\n", end).encode(encoding))
    assert [(p.name, str(p.address), p.hint.file if p.hint else None, p.hint.line if p.hint else None) for p in found] == [
        ("Zoë Müller", "zoë@xn--bcher-kva.example", "zoë.pfx", 2),
        ("Bob", "bob@example.org", "bob.pfx", 3),
    ]


@pytest.mark.parametrize(
    "name",
    ["email", "E-Mail", "E-mail address", "MAIL", "Mail_Address", "smtp", "address", "UPN", "userPrincipalName", "User ID", " user "],
)
def test_the_names_of_the_address(path: Path, name: str) -> None:
    assert [str(p.address) for p in people(path, f"x;{name}\n1;alice@example.org\n")] == ["alice@example.org"]


def test_the_address_proper_counts_where_a_principal_name_stands_beside_it(path: Path) -> None:
    (person,) = people(path, "upn,mail\nDOMAIN\\alice,alice@example.org\n")
    assert str(person.address) == "alice@example.org"


@pytest.mark.parametrize("name", ["file", "pfx", "P12", "Path", "PathToPfxFile", "certificate"])
@pytest.mark.parametrize(
    "password",
    [
        "password",
        "PfxPassword",
        "Pass Phrase",
        "PIN",
        "pwd",
        "PW",
        "pfx_pass",
        "Contraseña",
        "Contrasen\u0303a",
        "Wachtwoord",
        "senha",
        "hasło",
        "Пароль",
        "Parola",
        "Lösenord",
        "パスワード",
    ],
)
def test_the_names_of_file_and_password(path: Path, name: str, password: str) -> None:
    (person,) = people(path, f"UPN,{name},{password}\nalice@example.org,a b.pfx, secret \n")
    assert person.hint is not None
    assert person.hint.file == "a b.pfx"
    assert person.hint.password == Secret(" secret ")
    assert person.columns == {}


def test_a_certificate_stands_beside_a_key_and_is_a_file_otherwise(path: Path) -> None:
    found = people(path, "email,file,certificate,key\na@example.org,a.pfx,,\nb@example.org,,b.crt,b.key\nc@example.org,c.pfx,c.crt,c.key\n")
    assert [(p.hint.file, p.hint.key) for p in found if p.hint] == [("a.pfx", ""), ("b.crt", "b.key"), ("c.crt", "c.key")]


def test_first_and_last_name_make_a_name(path: Path) -> None:
    assert [p.name for p in people(path, "First Name,Last Name,mail\n Alice , van  Example ,a@example.org\n,Solo,b@example.org\n")] == [
        "Alice van Example",
        "Solo",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("Export PW", "ExportPW", "export_pw", "exportpw", "PW1", "pw 2", "PW Zertifikat", "Zertifikats-PIN", "Zertifikatspin", "PIN 2"),
        *("PIN-Nummer", "Kennwort 1", "Kennwort2", "P12-Passwort", "PFX Kennwort", "Einmal-Passwort", "Passwort (Export)", "PFX pass"),
        *("Clave del certificado", "MDP P12", "Senha do certificado", "Hasło P12", "Wachtwoord 2", "Парол", "PUK", "PUK1", "Geheimzahl"),
        *(
            "Abholcode",
            "Export-Code",
            "Unlock code",
            "Freischaltcode",
            "Import code",
            "Secret",
            "Client secret",
            "Credential",
            "Credentials",
        ),
        *(
            "psw",
            "P12 pswd",
            "Transport-PIN",
            "Transportkennwort",
            "Initialpasswort",
            "Private-Key-PW",
            "temp_pwd",
            "Jelszó 1",
            "Salasana 2",
        ),
    ],
)
def test_a_column_that_may_have_a_password_is_never_kept(path: Path, name: str) -> None:
    (person,) = people(path, f"email,{name},room\nalice@example.org,correct horse,12\n")
    assert dict(person.columns) == {"room": "12"}


@pytest.mark.parametrize("name", ["Passport No", "Shipping", "Postal code", "Country code", "Opinion", "Compass", "Department"])
def test_a_column_whose_name_only_looks_like_it_is_kept(path: Path, name: str) -> None:
    (person,) = people(path, f"email,{name}\nalice@example.org,x\n")
    assert list(person.columns.values()) == ["x"]


@pytest.mark.parametrize("name", ["Export PW", "P12-Passwort", "Zertifikats-PIN", "PFX-Kennwort", "Export-Passwort"])
def test_the_password_of_an_export_is_the_one_of_the_file(path: Path, name: str) -> None:
    (person,) = people(path, f"email,{name}\nalice@example.org,correct horse\n")
    assert person.hint is not None
    assert person.hint.password == Secret("correct horse")


def test_further_columns_reach_the_templates_and_secrets_never_do(path: Path) -> None:
    (person,) = people(path, "email,Cost Centre (EUR),2nd,password,PIN,Old Password\na@example.org,42,x,one,two,three\n")
    assert person.columns == {"cost_centre_eur": "42", "_2nd": "x"}


def test_a_row_that_ends_early_has_nothing_in_its_further_columns(path: Path) -> None:
    (person,) = people(path, "email,name,Cost Centre\na@example.org,A\n")
    assert person.columns == {"cost_centre": ""}


def test_the_primary_address_is_meant_where_there_are_others(path: Path) -> None:
    assert [str(p.address) for p in people(path, "mail,PrimarySmtpAddress\nold@example.org,new@example.org\n")] == ["new@example.org"]
    assert [str(p.address) for p in people(path, "PrimarySmtpAddress,email\nold@example.org,new@example.org\n")] == ["new@example.org"]
    assert [str(p.address) for p in people(path, "Vorname;E-Mail-Adresse\nA;a@example.org\n")] == ["a@example.org"]


def test_lines_are_physical_lines(path: Path) -> None:
    found = people(path, '\n"email",note\n\na@example.org,"two\nlines"\r\n"b@example.org","x"\n\n\nc@example.org,\n')
    assert [p.hint.line for p in found if p.hint] == [4, 6, 9]


def test_the_line_that_a_spreadsheet_puts_first_is_no_header(path: Path) -> None:
    assert len(people(path, "sep=;\nemail;name\na@example.org;A\n")) == 1


def test_rows_that_are_empty_are_no_rows(path: Path) -> None:
    assert len(people(path, "email,name\n,\n  , \na@example.org\n;\n".replace(";", ","))) == 1


@pytest.mark.parametrize(
    ("row", "check"),
    [
        ("anna@exmaple,", CheckId.BAD_ADDRESS),
        (",Nobody", CheckId.BAD_ADDRESS),
        ("a@example.org b@example.org,", CheckId.BAD_ADDRESS),
        ("Anna <a@example.org>,", CheckId.BAD_ADDRESS),
        ("=?utf-8?q?a?=@example.org,", CheckId.BAD_ADDRESS),
        ("a\u202e@example.org,", CheckId.BAD_ADDRESS),
        ("a@example.org\0,x", CheckId.BAD_ROW),
        ("a@example.org,x,y", CheckId.BAD_ROW),
        ('"a@example.org"x,y', CheckId.BAD_ROW),
        (f"a@example.org,{'x' * 10_000_000}", CheckId.BAD_ROW),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_row_is_told_with_its_line(path: Path, row: str, check: CheckId) -> None:
    found = rows(path, f"email,name\nbefore@example.org,B\n{row}\nafter@example.org,A\n")
    assert [type(r) for r in found] == [Person, Issue, Person]
    problem = issue(path, f"email,name\nbefore@example.org,B\n{row}\nafter@example.org,A\n")
    assert (problem.check, problem.line) == (check, 3)
    assert problem.message.isprintable()


def test_octets_outside_the_encoding_are_told(path: Path) -> None:
    problem = issue(path, "email,name\na@example.org,Zoë\nb@example.org,".encode() + b"Zo\xeb\n")
    assert (problem.check, problem.line) == (CheckId.BAD_ENCODING, 3)
    assert issue(path, b"email,name\nb@example.org,Zo\xeb \x81\n").check == CheckId.BAD_ENCODING


def test_the_example_of_the_contract(path: Path) -> None:
    problem = issue(path, "email\n" + "\n" * 12 + "anna@exmaple\n")
    assert (problem.line, problem.message, problem.address) == (14, '"anna@exmaple" is not a mail address', "anna@exmaple")
    assert "write a domain with a dot, such as example.org" in str(problem.hint)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "empty"),
        ("\n\n\n", "empty"),
        ("name,file\nAlice,a.pfx\n", 'no column "email"'),
        ("alice@example.org,Alice\n", "no header"),
        ("\x00\x01\x02\x03", 'no column "email"'),
    ],
)
def test_a_list_without_a_header_is_unusable(path: Path, data: str, words: str) -> None:
    error = unusable(path, data)
    assert words in error.message
    assert str(error.where).startswith("people.csv line ")


def test_what_cannot_be_opened_is_unusable(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone.csv"):
        with pytest.raises(InvalidInput):
            list(csv.open(csv.Settings(place)).people())


A, B, C = "a@example.org,Ann,", "b@example.org,Bob,", "c@example.org,Cem,"


@pytest.mark.parametrize(
    "text",
    [
        f'{A}a.pfx\nb@example.org,"Bob,b.pfx\n{C}c.pfx\n',
        f'{A}a.pfx\n{B}"b.pfx\n{C}c.pfx\n',
        f'{A}a.pfx\n{B}"b.pfx\n{C}"c.pfx"\n',
        f'{A}a.pfx\nb@example.org,"Bob,b.pfx\nc@example.org,"Cem",c.pfx\n',
        f'{A}a.pfx\nb@example.org,"Bob,b.pfx\nc@example.org,Cem","c.pfx"\n',
        f'{A}a.pfx\n{B}"b.pfx\n{C}c.pfx"\n',
    ],
    ids=["to the end", "the last cell", "a quoted cell", "a quoted name", "a stray quote", "a quote after the last cell"],
)
def test_a_quote_that_is_never_closed_costs_its_own_row_alone(path: Path, text: str) -> None:
    found = rows(path, f"email,name,file\n{text}d@example.org,Dan,d.pfx\n")
    issues = [(row.check, row.line) for row in found if isinstance(row, Issue)]
    assert issues == [(CheckId.BAD_ROW, 3)]
    assert "a quote that begins in it is never closed" in next(row.message for row in found if isinstance(row, Issue))
    assert [(str(p.address), p.hint and p.hint.line) for p in found if isinstance(p, Person)] == [
        ("a@example.org", 2),
        ("c@example.org", 4),
        ("d@example.org", 5),
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('b@example.org,"Bob', "a quote that begins in it is never closed"),
        ('b@example.org,"Bob "the" Builder"', "text follows a closing quote"),
    ],
)
def test_a_row_that_is_no_csv_is_told_in_plain_words(path: Path, row: str, words: str) -> None:
    assert issue(path, f"email,name\na@example.org,Ann\n{row}\n").message == f"the row is not valid CSV: {words}"


def test_a_list_with_bars_between_its_cells_is_read(path: Path) -> None:
    (person,) = people(path, "email|name|file\nalice@example.org|Alice, Example|a.pfx\n")
    assert (str(person.address), person.name) == ("alice@example.org", "Alice, Example")


@pytest.mark.parametrize("link", ["mailto:alice@example.org", "MAILTO:alice@example.org", " mailto:alice@example.org "])
def test_the_link_that_a_spreadsheet_makes_of_an_address_is_that_address(path: Path, link: str) -> None:
    (person,) = people(path, f"email,name\n{link},Alice\n")
    assert str(person.address) == "alice@example.org"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_break_in_quotes_belongs_to_its_cell_and_counts_as_a_line(path: Path, end: str) -> None:
    text = f'email,name,note{end}a@example.org,"Ann{end}Example","see{end}b@example.org{end}{end}too"{end}b@example.org,Bob,{end}'
    assert [(str(p.address), p.name, p.hint and p.hint.line) for p in people(path, text)] == [
        ("a@example.org", "Ann Example", 2),
        ("b@example.org", "Bob", 7),
    ]


def test_an_open_quote_in_every_row_costs_every_row_once(path: Path) -> None:
    found = rows(path, "email,name\n" + '"a@example.org,Ann\n' * 30_001)
    assert [row.line for row in found if isinstance(row, Issue) and row.check is CheckId.BAD_ROW] == list(range(2, 30_003))


@pytest.mark.slow(reason="ten thousand rows")
def test_ten_thousand_rows_stream(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("email,name,language\n")
        file.writelines(f"person{n}@example.org,Person {n},en\n" for n in range(10_000))
    size = os.path.getsize(path)  # noqa: PTH202
    tracemalloc.start()
    count = sum(1 for _ in csv.open(csv.Settings(path)).people())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 12 * size


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_nothing_but_unusable_is_ever_raised(path: Path, data: bytes) -> None:
    path.write_bytes(b"email,name\n" + data)
    for row in csv.open(csv.Settings(path)).people():
        assert isinstance(row, Person | Issue)


def test_a_pipe_is_refused_instead_of_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(InvalidInput, match="not a regular file"):
        list(csv.open(csv.Settings(path)).people())
