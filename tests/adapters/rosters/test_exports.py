"""Lists as directories, certification authorities and spreadsheets of many countries export them."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.adapters.rosters import csv
from distributor.model.issues import CheckId, Issue
from distributor.model.people import Person

M365 = (
    "\ufeffBlock credential,City,Country/Region,Department,DirSyncEnabled,Display name,Fax,First name,Last dirsync time,Last name,"
    "Last password change time stamp,Licenses,Mobile Phone,Oath token metadata,Object Id,Office,Password never expires,Phone number,"
    "Postal code,Preferred data location,Preferred language,Proxy addresses,Release track,Soft deletion time stamp,State,Street address,"
    "Strong password required,Title,Usage location,User principal name,When created\n"
    "False,,,Sales,,Alice Example,,Alice,,Example,2026-01-01 08:00:00Z,Office 365 E3,+41790000000,,0000-alice,,False,+41310000000,,,de-CH,"
    "smtp:alice@example.onmicrosoft.com+SMTP:alice@example.org,,,,,True,,CH,a.example@example.com,2026-01-01 08:00:00Z\n"
    "False,,,,,Room,,,,,2026-01-01 08:00:00Z,Unlicensed,,,0000-room,,False,,,,,,,,,,True,,CH,,2026-01-01 08:00:00Z\n"
)
ENTRA = (
    "userPrincipalName,displayName,surname,mail,givenName,id,userType,jobTitle,department,accountEnabled,usageLocation,streetAddress,state,"
    "country,officeLocation,city,postalCode,telephoneNumber,mobilePhone,alternateEmailAddress,ageGroup,consentProvidedForMinor,"
    "legalAgeGroupClassification,companyName,creationType,directorySynced,invitationState,identityIssuer,createdDateTime\n"
    "a.example@example.com,Alice Example,Example,alice@example.org,Alice,0000-alice,Member,,,True,CH,,,,,,,,+41790000000,,,,,,,False,,,\n"
    "svc@example.com,Backup Service,,,,0000-svc,Member,,,True,,,,,,,,,,,,,,,,False,,,\n"
)
EXCHANGE = (
    "#TYPE Selected.Microsoft.Exchange.Data.Directory.Management.Mailbox\r\n"
    '"Name","DisplayName","PrimarySmtpAddress","WindowsEmailAddress","UserPrincipalName","Alias","RecipientTypeDetails"\r\n'
    '"3f2504e0-4f89-11d3-9a0c-0305e82c3301","Alice Example","alice@example.org",'
    '"alice@example.org","a@example.com","alice","UserMailbox"\r\n'
)
ACTIVE_DIRECTORY = (
    '"DistinguishedName","DisplayName","EmailAddress","GivenName","mail","MobilePhone","Name","OfficePhone","proxyAddresses","Surname",'
    '"telephoneNumber","UserPrincipalName"\r\n'
    '"CN=Alice Example,OU=x,DC=example,DC=org","Alice Example","alice@example.org","Alice","Alice@example.org","","Alice Example","",'
    '"Microsoft.ActiveDirectory.Management.ADPropertyValueCollection","Example","","a.example@example.com"\r\n'
    '"CN=svc,DC=example,DC=org","svc","","","","","svc","","","","","svc@example.com"\r\n'
)
GOOGLE = (
    "First Name [Required],Last Name [Required],Email Address [Required],Password [Required],Password Hash Function [UPLOAD ONLY],"
    "Org Unit Path [Required],New Primary Email [UPLOAD ONLY],Status [READ ONLY],Recovery Email,Home Secondary Email,Work Secondary Email,"
    "Recovery Phone [MUST BE IN THE E.164 FORMAT],Work Phone,Home Phone,Mobile Phone,Work Address,Home Address,Employee ID\n"
    "Alice,Example,alice@example.org,****,,/,,Active,alice@home.example,,,,,,,,,7\n"
)
HARICA = (
    "FriendlyName,Email,Email2,Email3,GivenName,Surname,PickupPassword,CertType,CSR\n"
    "Alice Example,alice@example.org,,,Alice,Example,Abc-123,natural,\n"
)
SECTIGO = (
    "Organization,Department,First Name,Middle Name,Last Name,Phone,Email Address,Alternative Emails,Common Name,EPPN,Principal Name,"
    "Validation Type,Secret\nExample AG,,Alice,,Example,,alice@example.org,,Alice Example,,a@example.com,High,its secret\n"
)
SSL_COM = "Email,First Name,Last Name\nalice@example.org,Alice,Example\n"


def read(folder: Path, data: bytes | str) -> tuple[list[Person], list[Issue]]:
    path = folder / "people.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    rows = list(csv.open(csv.Settings(path)).people())
    return [row for row in rows if isinstance(row, Person)], [row for row in rows if isinstance(row, Issue)]


@pytest.mark.parametrize(
    "data",
    [M365, ENTRA, EXCHANGE, ACTIVE_DIRECTORY, GOOGLE, HARICA, SECTIGO, SSL_COM],
    ids=["Microsoft 365", "Entra", "Exchange", "Active Directory", "Google Workspace", "HARICA", "Sectigo", "SSL.com"],
)
def test_each_product_s_export_works_as_downloaded(tmp_path: Path, data: str) -> None:
    (alice,), issues = read(tmp_path, data)
    assert (alice.address.key, alice.name) == ("alice@example.org", "Alice Example")
    assert {issue.severity for issue in issues} <= {"note"}
    assert alice.hint is not None
    assert (alice.hint.password.reveal() if alice.hint.password else None) == ("Abc-123" if data is HARICA else None)
    assert "its secret" not in repr(alice.columns)


@pytest.mark.parametrize("data", [M365, ENTRA, ACTIVE_DIRECTORY])
def test_accounts_without_a_mailbox_are_counted(tmp_path: Path, data: str) -> None:
    _, issues = read(tmp_path, data)
    (note,) = (issue for issue in issues if issue.check == CheckId.NO_MAILBOX)
    assert note.message == "accounts without a mail address: 1; skipped"


def test_on_a_list_of_people_a_missing_address_stays_an_error(tmp_path: Path) -> None:
    _, (issue,) = read(tmp_path, "name,email\nAlice,\n")
    assert (issue.severity, issue.check) == ("error", CheckId.BAD_ADDRESS)


def test_which_of_several_columns_is_used_is_said(tmp_path: Path) -> None:
    _, issues = read(tmp_path, EXCHANGE)
    assert [(issue.message, issue.line) for issue in issues if issue.check == CheckId.COLUMNS] == [
        ('the column "PrimarySmtpAddress" is used, not "WindowsEmailAddress"', 2),
        ('the column "DisplayName" is used, not "Name"', 2),
    ]


def test_two_equal_columns_are_refused_only_where_they_differ(tmp_path: Path) -> None:
    found, (note, issue) = read(
        tmp_path, "mail,smtp\na@example.org,\n,b@example.org\nc@example.org,C@EXAMPLE.org\nd@example.org,e@example.org\n"
    )
    assert [str(person.address) for person in found] == ["a@example.org", "b@example.org", "c@example.org"]
    assert note.check == CheckId.COLUMNS
    assert (issue.check, issue.line, issue.message) == (
        CheckId.BAD_ROW,
        5,
        'the columns "mail" and "smtp" mean the same but have different values',
    )
    assert "e@example.org" not in str(issue.address)


def test_the_column_that_has_the_address_is_used(tmp_path: Path) -> None:
    (alice,), _ = read(tmp_path, "Email Address,Mail\nnone,alice@example.org\n")
    assert str(alice.address) == "alice@example.org"


def test_a_principal_name_is_the_address_only_where_no_column_has_one(tmp_path: Path) -> None:
    (alice,), _ = read(tmp_path, "UserPrincipalName,proxyAddresses\nalice@example.org,System.Collection\n")
    assert str(alice.address) == "alice@example.org"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_header_over_two_lines_is_one(tmp_path: Path, end: str) -> None:
    (alice,), issues = read(tmp_path, end.join(['"E-Mail', 'Address";"Full', 'Name"', "alice@example.org;Alice Example", ""]))
    assert (str(alice.address), alice.name, alice.hint and alice.hint.line, issues) == ("alice@example.org", "Alice Example", 4, [])


def test_a_quote_that_is_never_closed_ends_nowhere(tmp_path: Path) -> None:
    with pytest.raises(csv.InvalidInput) as caught:
        read(tmp_path, '"name\n' + "x\n" * 200)
    assert caught.value.where == "people.csv line 1"


@pytest.mark.parametrize(
    ("text", "encoding", "name", "note"),
    [
        ("Adresse e-mail;Prénom;Nom\nalice@example.org;Zoé;Exemple\n", "cp1252", "Zoé Exemple", None),
        ("email;name\nalice@example.org;Łukasz Żółć\n", "cp1250", "Łukasz Żółć", "Windows-1250"),
        ("email;name\nalice@example.cz;Jiří Nováček\n", "cp1250", "Jiří Nováček", "Windows-1250"),
        ("email;name\nalice@example.org;Jürgen Weiß\n", "mac_roman", "Jürgen Weiß", "Mac Roman"),
        ("email;name\nalice@example.org;François Müller\n", "mac_roman", "François Müller", "Mac Roman"),
        ("email;name\nalice@example.org;FRANÇOIS MÜLLER\n", "cp1252", "FRANÇOIS MÜLLER", None),
        ("email;name\nalice@example.de;Bärbel Größe-Øyen\n", "cp1252", "Bärbel Größe-Øyen", None),
        ("E-mail;Imię;Nazwisko\nalice@example.pl;Ewa;Dąb\n", "utf-8", "Ewa Dąb", None),
    ],
)
def test_single_byte_encodings_are_told_apart_by_their_words(tmp_path: Path, text: str, encoding: str, name: str, note: str | None) -> None:
    (alice,), issues = read(tmp_path, text.encode(encoding))
    assert alice.name == name
    assert [issue.check for issue in issues] == ([CheckId.BAD_ENCODING] if note else [])
    assert note is None or note in issues[0].message


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        ("de", "de"),
        ("de_DE", "de-DE"),
        ("pt-BR", "pt-BR"),
        ("Deutsch", "de"),
        ("german", "de"),
        ("Allemand", "de"),
        ("tedesco", "de"),
        ("Français", "fr"),
        ("español", "es"),
        ("polski", "pl"),
        ("Klingonisch?", ""),
        ("", ""),
    ],
)
def test_a_language_is_known_by_its_tag_and_by_its_name(tmp_path: Path, written: str, tag: str) -> None:
    (alice,), _ = read(tmp_path, f"email,language\nalice@example.org,{written}\n")
    assert alice.language == tag


def test_blanks_beyond_the_header_are_nothing(tmp_path: Path) -> None:
    (alice,), issues = read(tmp_path, "email,name\nalice@example.org,Alice, ,\t\n")
    assert (alice.name, issues) == ("Alice", [])


@pytest.mark.parametrize("word", ["Contraseña", "Wachtwoord", "Hasło", "Senha", "Parola"])
def test_a_password_under_a_foreign_word_is_the_password_and_no_column(tmp_path: Path, word: str) -> None:
    (alice,), _ = read(tmp_path, f"email;name;{word}\nalice@example.org;Alicia;S3creto\n")
    assert alice.hint is not None
    assert alice.hint.password is not None
    assert alice.hint.password.reveal() == "S3creto"
    assert alice.columns == {}


def test_a_list_may_be_one_address_a_line(tmp_path: Path) -> None:
    found, issues = read(tmp_path, "alice@example.org\n\nbob@example.org\nnobody\n")
    assert [(str(person.address), person.hint and person.hint.line) for person in found] == [
        ("alice@example.org", 1),
        ("bob@example.org", 3),
    ]
    assert [(issue.check, issue.line) for issue in issues] == [(CheckId.BAD_ADDRESS, 4)]


@pytest.mark.parametrize("header", ["email,email", "Email,email", "mail,smtp"])
def test_columns_of_one_name_that_differ_are_refused_too(tmp_path: Path, header: str) -> None:
    found, issues = read(tmp_path, f"{header},file\nboss@example.org,anna@example.org,anna.pfx\n")
    assert found == []
    assert [issue.check for issue in issues if issue.severity == "error"] == [CheckId.BAD_ROW]


def test_a_faulty_address_in_the_better_column_is_no_reason_to_take_another(tmp_path: Path) -> None:
    found, issues = read(tmp_path, "PrimarySmtpAddress,EmailAddress,file\nanna@exa mple.org,boss@example.org,anna.pfx\n")
    assert found == []
    assert [issue.check for issue in issues if issue.severity == "error"] == [CheckId.BAD_ADDRESS]


@pytest.mark.parametrize("number", [3, 60])
def test_a_quote_inside_of_a_header_s_cell_costs_no_row(tmp_path: Path, number: int) -> None:
    rows = "".join(f"p{one}@example.org,p.pfx,1\n" for one in range(number))
    found, issues = read(tmp_path, f'email,file,Size 5"\n{rows}')
    assert (len(found), issues) == (number, [])
    assert found[0].hint is not None
    assert found[0].hint.line == 2
