"""Which issuer a certificate is checked with where there are several (renewed, re-keyed, on the web), and where a path ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from distributor.errors import ServiceUnavailable
from distributor.model.issues import CheckId
from distributor.pki.certificate import read
from distributor.pki.validation import ChainValidator
from distributor.pki.validation.path import MOST_ABOVE, MOST_OF_ONE_NAME, IssuerStore, PathEnd, build_trust_store, find_issuers
from distributor.pki.validation.revocation import DownloadFailed, Fetched
from tests.authority import DUAL, Identity, Key, key_usage, rsa_key
from tests.doubles.pki import CA, DAY, der, ec_key, point, root, without_chain
from tests.pki.hierarchy import LEAF, NOW, SUB, WEB, Downloads, Hierarchy, hierarchy

OTHER = f"{WEB}/other.crl"


def without_key_id(ca: CA, number: int, crl: str) -> Identity:
    """A person's certificate that does not say which key signed it."""
    key = rsa_key(number)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Person {number}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 300 * DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(DUAL), critical=True)
        .add_extension(x509.CRLDistributionPoints([point(crl)]), critical=False)
    )
    return Identity(key, builder.sign(ca.key, hashes.SHA256()))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["the old key first", "the new key first"])
def test_people_of_an_authority_with_two_keys_are_each_checked_with_their_own(order: tuple[int, int]) -> None:
    top = root()
    cas = [top.sub("Mail CA", crl=SUB), top.sub("Mail CA", crl=SUB)]
    downloads = Downloads({SUB: top.crl(), LEAF: cas[0].crl(), OTHER: cas[1].crl()})
    people = [without_key_id(cas[0], 1, LEAF), without_key_id(cas[1], 2, OTHER)]
    w = Hierarchy(top, cas[0], people[0], downloads, [top.der, *(ca.der for ca in cas)])
    chains = w.chains()
    assert [chains.validate(people[n].der, []).issues for n in (*order, *order)] == [[]] * 4


def test_a_certificate_that_neither_key_signed_is_still_forged() -> None:
    w = hierarchy()
    w.collection = [w.root.der, w.sub.der]
    forged = without_key_id(CA(rsa_key(3), w.sub.certificate), 4, LEAF)
    chains = w.chains()
    assert chains.validate(without_key_id(w.sub, 1, LEAF).der, []).issues == []
    (issue,) = chains.validate(forged.der, []).issues
    assert issue.check is CheckId.CHAIN_UNTRUSTED
    assert "the signature of the certificate does not match its issuer" in issue.message


def test_an_authority_that_expired_in_the_file_and_was_renewed_on_the_web_is_found() -> None:
    w = hierarchy(sub=root().sub("Mail CA", crl=SUB, lasts=DAY))
    w = hierarchy(w.sub.above[0], w.sub)
    renewed = w.sub.again(w.root, crl=SUB)
    w.downloads.pages[f"{WEB}/sub.cer"] = renewed.der
    person = w.sub.person("b@example.org", crl=LEAF, aia=f"{WEB}/sub.cer")
    assert w.checks(person) == []
    assert w.downloads.asked[f"{WEB}/sub.cer"] == 1
    del w.downloads.pages[f"{WEB}/sub.cer"]
    (issue,) = w.issues(person)
    assert 'CN=Mail CA" in its chain expired on' in issue.message


def test_a_renewed_authority_speaks_for_itself_when_it_is_wrong_too() -> None:
    sub = root().sub("Mail CA", crl=SUB, lasts=DAY)
    w = hierarchy(sub.above[0], sub)
    renewed = sub.again(w.root, crl=OTHER)
    w.downloads.pages |= {f"{WEB}/sub.cer": renewed.der, OTHER: w.root.crl(renewed.certificate.serial_number)}
    assert w.checks(sub.person("b@example.org", crl=LEAF, aia=f"{WEB}/sub.cer")) == ["revoked"]


def test_nothing_is_fetched_where_the_file_holds_a_good_authority() -> None:
    w = hierarchy()
    person = w.sub.person("b@example.org", crl=LEAF, aia=f"{WEB}/sub.cer")
    assert w.checks(person) == []
    assert f"{WEB}/sub.cer" not in w.downloads.asked


def test_a_url_that_exchange_does_not_fetch_is_reported_as_such() -> None:
    w = hierarchy()
    (issue,) = w.issues(without_chain(w.sub.person("b@example.org", crl=LEAF, aia="ldap:///CN=Mail%20CA")))
    assert issue.check is CheckId.CHAIN_INCOMPLETE
    assert issue.message.endswith("; it gives only a URL by LDAP for it; Exchange Online uses only http")
    (issue,) = w.issues(without_chain(w.sub.person("b@example.org", crl=LEAF)))
    assert issue.message.endswith("; it gives no URL for it")


# --- hostile files -----------------------------------------------------------------------------------------------------


def circle() -> Identity:
    """A person below two authorities that certify each other, without a root."""
    one, two = root("One"), root("Two")
    below = one.again(two)
    return replace(below.person("circle@example.org", crl=LEAF), chain=(below.certificate, two.again(one).certificate))


def test_authorities_that_certify_each_other_are_an_issue_of_their_file_only() -> None:
    w = hierarchy()
    chains = w.chains()
    person = circle()
    (issue,) = chains.validate(person.der, [der(one) for one in person.chain]).issues
    assert issue.check is CheckId.CHAIN_UNTRUSTED
    assert issue.message == 'its chain is circular and leads to no root: "CN=One", "CN=Two"'
    assert chains.validate(w.person.der, [w.sub.der]).issues == []
    assert w.issues(person, offline=True) == [issue]


def test_an_authority_in_a_circle_is_not_above_itself() -> None:
    """With a root beside the circle there is one path, and it does not go round."""
    top, other = root(), root("Other")
    mail = top.sub("Mail CA", crl=SUB)
    back = CA(other.key, other.certificate).again(mail)
    cert = read(mail.der)
    assert cert is not None
    (path,) = find_issuers(cert, IssuerStore(build_trust_store([top.der], NOW), [mail.again(other).der, back.der])).paths()
    assert [one.name for one in path] == ["CN=Root"]


class Panic(BaseException):
    """As a parser in Rust raises it."""


@pytest.mark.parametrize("error", [IndexError, RecursionError, MemoryError, OSError, Panic])
def test_whatever_is_raised_for_a_chain_is_an_issue_of_that_chain(error: type[BaseException]) -> None:
    w = hierarchy()
    hostile = w.sub.person("b@example.org", crl=OTHER)
    chains = ChainValidator(build_trust_store(w.collection, NOW), Raising(w.downloads, OTHER, error()), NOW)
    chains.begin(hostile.der)
    (issue,) = chains.validate(hostile.der, [w.sub.der]).issues
    assert issue.check is CheckId.CHAIN_UNTRUSTED
    assert f"cannot be processed ({error.__name__})" in issue.message
    assert chains.validate(w.person.der, [w.sub.der]).issues == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ServiceUnavailable("no")])
def test_ctrl_c_and_our_own_errors_are_no_issue_of_a_chain(error: BaseException) -> None:
    w = hierarchy()
    chains = ChainValidator(build_trust_store(w.collection, NOW), Raising(w.downloads, LEAF, error), NOW)
    with pytest.raises(type(error)):
        chains.validate(w.person.der, [w.sub.der])


class Raising:
    """A downloader that fails at one URL."""

    def __init__(self, downloads: Downloads, url: str, error: BaseException) -> None:
        self.downloads, self.url, self.error = downloads, url, error

    def start(self, url: str, *, crl: bool) -> None:  # noqa: ARG002  the port's argument
        if url == self.url:
            raise self.error

    def get(self, url: str, *, crl: bool) -> Fetched | DownloadFailed:
        if url == self.url:
            raise self.error
        return self.downloads.get(url, crl=crl)


# --- where a path ends -------------------------------------------------------------------------------------------------


def ca_certificate(  # noqa: PLR0913, PLR0917  what a path is built by
    name: str, key: Key, issuer: str, signer: Key, key_id: bytes | None, issuer_key: Key | None
) -> x509.Certificate:
    """A CA certificate with the key identifiers of one's choice."""
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
    builder = (
        x509.CertificateBuilder(*reversed(names), key.public_key(), x509.random_serial_number(), NOW - DAY, NOW + 300 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(("key_cert_sign", "crl_sign")), critical=True)
        .add_extension(x509.CRLDistributionPoints([point(SUB)]), critical=False)
    )
    if key_id is not None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(key_id), critical=False)
    if issuer_key is not None:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    return builder.sign(signer, hashes.SHA256())


def crl_without_key_id(ca: CA) -> bytes:
    """An empty CRL that does not say which key signed it."""
    builder = x509.CertificateRevocationListBuilder(ca.certificate.subject, NOW - DAY, NOW + DAY)
    return der(builder.add_extension(x509.CRLNumber(1), critical=False).sign(ca.key, hashes.SHA256()))


def beyond_the_limit(top: CA, person_of: Callable[[CA], Identity]) -> tuple[Hierarchy, list[bytes]]:
    """A chain in which a false twin of the root is an issuer beyond MOST_ABOVE: the root's name and key, signed by another, unconstrained.

    The root itself is seen early, by a first certificate of the mail authority that names the root's key; between that one and a second
    one, which names no key and so fits the twin too, lie more false authorities than are followed.
    """
    mail, other = ec_key(), ec_key()
    first = ca_certificate("Mail CA", mail, "Root", top.key, None, top.key)
    second = ca_certificate("Mail CA", mail, "Root", top.key, None, None)
    twin = ca_certificate("Root", top.key, "Root", other, b"twin", None)
    chain = [first]
    for name in ("One", "Two", "Three"):
        key = ec_key()
        chain.append(ca_certificate("Mail CA", mail, name, key, None, None))
        chain += [ca_certificate(name, key, name, key, None, None) for _ in range(MOST_OF_ONE_NAME)]
    person = person_of(CA(mail, first, (top,)))
    w = Hierarchy(top, CA(mail, first, (top,)), person, Downloads({SUB: crl_without_key_id(top), LEAF: CA(mail, first).crl()}), [top.der])
    return w, [der(one) for one in (*chain, second, twin)]


CONSTRAINTS: dict[str, tuple[dict[str, object], bool]] = {
    "none": ({}, True),
    "another domain": ({"extensions": [(x509.NameConstraints([x509.RFC822Name("example.com")], None), True)]}, False),
    "the same domain": ({"extensions": [(x509.NameConstraints([x509.RFC822Name("example.org")], None), True)]}, True),
    "all but another domain": ({"extensions": [(x509.NameConstraints(None, [x509.RFC822Name("example.com")]), True)]}, True),
    "all but the same domain": ({"extensions": [(x509.NameConstraints(None, [x509.RFC822Name("example.org")]), True)]}, False),
    "no authority below it": ({"path_length": 0}, False),
    "one authority below it": ({"path_length": 1}, True),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_no_certificate_beyond_the_limit_is_taken_for_an_anchor(name: str) -> None:
    """It would end the path below the root, and what the root forbids would be skipped."""
    how, good = CONSTRAINTS[name]
    w, chain = beyond_the_limit(root(**how), lambda ca: ca.person("a@example.org", crl=LEAF))  # type: ignore[arg-type]
    cert = read(w.person.der)
    assert cert is not None
    graph = find_issuers(cert, IssuerStore(build_trust_store(w.collection, NOW), chain))
    assert graph.ending(PathEnd.TRUNCATED)
    assert {path[-1].der for path in graph.paths()} == {w.root.der}
    assert [issue.check for issue in w.chains().validate(w.person.der, chain).issues] == ([] if good else [CheckId.CHAIN_UNTRUSTED])


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_what_a_root_forbids_counts_and_nothing_else(name: str) -> None:
    how, good = CONSTRAINTS[name]
    assert hierarchy(root(**how)).checks() == ([] if good else ["chain-untrusted"])  # type: ignore[arg-type]


def ladder(top: CA, steps: int) -> list[CA]:
    """Authorities one below the other."""
    made = [top]
    for n in range(steps):
        made.append(made[-1].sub(f"Step {n}"))
    return made


@pytest.mark.parametrize(("steps", "end"), [(MOST_ABOVE - 1, PathEnd.ANCHOR), (MOST_ABOVE, PathEnd.TRUNCATED)])
def test_a_path_is_followed_to_the_limit_and_its_end_is_named(steps: int, end: PathEnd) -> None:
    made = ladder(root(), steps)
    person = made[-1].person("a@example.org")
    cert = read(person.der)
    assert cert is not None
    graph = find_issuers(cert, IssuerStore(build_trust_store([made[0].der], NOW), [one.der for one in made[1:]]))
    assert set(graph.ends.values()) == {end}
    assert [len(path) for path in graph.paths()] == ([MOST_ABOVE] if end is PathEnd.ANCHOR else [])
    if end is PathEnd.TRUNCATED:
        (issue,) = Hierarchy(made[0], made[1], person, Downloads(), [made[0].der]).issues(person)
        assert (issue.check, issue.message) == (
            CheckId.CHAIN_UNTRUSTED,
            f"its chain is too complex: more than {MOST_ABOVE} CA certificates",
        )


@pytest.mark.parametrize(
    ("chain", "end"), [(1, PathEnd.NO_ISSUER), (2, PathEnd.UNTRUSTED_ROOT)], ids=["the root is missing", "the root is not collected"]
)
def test_an_end_that_is_no_anchor_is_no_path(chain: int, end: PathEnd) -> None:
    sub = root().sub("Mail CA")
    cert = read(sub.person("a@example.org").der)
    assert cert is not None
    graph = find_issuers(cert, IssuerStore(build_trust_store([root("Other").der], NOW), [der(one) for one in sub.chain[:chain]]))
    assert set(graph.ends.values()) == {end}
    assert graph.paths() == []


def test_the_path_that_is_in_order_is_returned_though_a_shorter_one_leads_to_another_root() -> None:
    w = hierarchy()
    cross = root("Old root")
    short = w.sub.again(cross, crl=SUB)
    found = w.chains().validate(w.person.der, [short.der, cross.der, w.sub.der])
    assert (found.issues, found.path) == ([], (w.sub.der, w.root.der))


def test_the_path_that_is_in_order_is_returned_though_a_shorter_one_was_revoked() -> None:
    w = hierarchy()
    bridge = w.root.sub("Bridge CA", crl=SUB)
    long = w.sub.again(bridge, crl=OTHER)
    w.downloads.pages[SUB] = w.root.crl(w.sub.certificate.serial_number)
    w.downloads.pages[OTHER] = bridge.crl()
    found = w.chains().validate(w.person.der, [w.sub.der, long.der, bridge.der])
    assert (found.issues, found.path) == ([], (long.der, bridge.der, w.root.der))


def test_a_chain_with_an_issue_has_no_validated_path() -> None:
    w = hierarchy()
    w.downloads.pages[LEAF] = w.sub.crl(w.person.certificate.serial_number)
    found = w.chains().validate(w.person.der, [w.sub.der])
    assert ([issue.check for issue in found.issues], found.path) == ([CheckId.REVOKED], None)
