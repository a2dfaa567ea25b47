"""`distributor trust`: writes, checks and uploads the virtual certificate collection of Exchange Online; `watch` asks fresh CRLs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli import trust_ldap
from distributor.cli.options import Config, Json, is_folder
from distributor.cli.progress import Bar
from distributor.cli.render import counted, day, escape, issue_row, print_issue, print_json, stderr_line, stdout_line, table
from distributor.errors import InvalidInput, RequestDenied, UsageError
from distributor.model.issues import Severity

if TYPE_CHECKING:
    from distributor.cli.certificate_files import CheckedCertificates
    from distributor.config import Settings
    from distributor.microsoft.collection import ChainGap, CollectionEntry, Difference
    from distributor.model.certificates import RevokedDelivery
    from distributor.model.issues import Issue
    from distributor.model.ports import Ledger
    from distributor.workflows.revocation import Watched


app = typer.Typer(
    help="Exchange Online's virtual certificate collection, and revocation.",
    no_args_is_help=True,
    epilog="\b\nexample:\n  distributor trust export --output collection.sst root.pem intermediates/",
)
Sst = Annotated[
    Path | None,
    typer.Option(
        "--sst", metavar="FILE", readable=False, help="The collection, or a folder of PEM files; default: `collection` in [trust]."
    ),
]
PLAIN = frozenset({".cer", ".crt", ".der", ".p7b", ".pem"})  # what is written into a .sst before the tenant takes it
_DOCS = "see docs/trust.md#the-tenants-collection"
_AGAIN = "distributor trust export --output FILE.sst CERT..."


@app.command(epilog="\b\nexample:\n  distributor trust export --output collection.sst root.pem intermediates/")
def export(
    certificates: Annotated[
        list[Path],
        typer.Argument(metavar="CERT", readable=False, help="Roots and intermediates: PEM, DER, .p7b or .sst files, or folders."),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.sst", readable=False, help="Output file.")],
    chosen: Config = None,  # noqa: ARG001  every command takes it
    as_json: Json = False,
) -> int:
    """Write CA certificates to a collection file.

    Refuses what Exchange Online would reject or ignore: expired certificates, people's certificates, a chain without its root.
    """
    from distributor import bootstrap
    from distributor.cli import certificate_files
    from distributor.microsoft import collection
    from distributor.pki import sst

    found, issues = certificate_files.gathered(certificates, without=output)
    members = collection.ordered(found)
    if found or not issues:
        issues += collection.examine(found, bootstrap.now(), repeated=Severity.NOTE)
    data = b"" if _wrong(issues) else sst.write([member.der for member in members])
    if data:
        certificate_files.write(output, data)
    file = _file(output, data) if data else None
    _answer(as_json, members, issues, {"file": file})
    if not as_json:
        _exported(output, members, data, issues)
    return 0 if data else 1


def _exported(output: Path, members: Sequence[CollectionEntry], data: bytes, issues: Sequence[Issue]) -> None:
    if not data:
        stderr_line(f"{escape(output)}: not written, {counted(_wrong(issues), 'error')}")
        return
    stderr_line(f"{escape(output)}: {counted(len(members), 'certificate')}, SHA-256 {_sha256(data)}")
    stderr_line(f"next: distributor trust runbook --sst {escape(output)}")


@app.command(
    epilog="\b\nexample:\n  distributor trust check --sst collection.sst people/*.pem --tenant tenant.txt"
    "\n\n\b\nto save the tenant's collection (Get-SmimeConfig | ConvertTo-Json works too):"
    "\n  [Convert]::ToBase64String((Get-SmimeConfig).SMIMECertificateIssuingCA) > tenant.txt"
)
def check(
    certificates: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CERT", readable=False, help="Certificates or PFX files to check against the collection."),
    ] = None,
    sst: Sst = None,
    tenant: Annotated[
        Path | None,
        typer.Option(
            "--tenant",
            metavar="FILE",
            readable=False,
            help="Compare with the tenant's collection, saved in PowerShell (below).",
        ),
    ] = None,
    passwords: Annotated[
        Path | None,
        typer.Option(
            "--passwords", metavar="PATH", readable=False, help="Passwords of PFX files, as in `plan`; default: NAME.txt beside NAME.pfx."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not use the network: no revocation check, no download of issuers.")
    ] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Show what is in a collection, and why Exchange Online would reject it.

    Also checks the chain and revocation of the given certificates, as `plan` does, and names missing issuers.
    """
    from distributor import bootstrap
    from distributor.cli import certificate_files
    from distributor.microsoft import collection

    path, now = _collection(sst, chosen), bootstrap.now()
    found, issues, extra = _read(path)
    issues += collection.examine(found, now)
    given, unreadable = certificate_files.with_packages(certificates or (), passwords, chosen)
    if offline and given:
        stderr_line("offline: revocation is not checked, and no issuer certificates are downloaded")
    checked = certificate_files.check_certificates(
        found, given, certificate_files.configured(chosen) if given else None, now, offline=offline
    )
    difference = _compared(found, tenant) if tenant else None
    issues += [*unreadable, *checked.issues, *(collection.differing(difference, now) if difference else ())]
    rows = (_checked_row(one, checked) for one in checked.sought)
    rest = {"file": extra, "at_hand": rows, "tenant": _difference_row(difference), "offline": offline}
    _answer(as_json, found, issues, rest)
    if not as_json:
        _summary(path, found, extra, checked, difference, issues)
    return 1 if _wrong(issues) else 0


def _collection(chosen: Path | None, config: Path | None) -> Path:
    from distributor import bootstrap

    if chosen is not None:
        return chosen
    trust = bootstrap.settings(config).trust
    if trust is None:
        raise UsageError("no collection given", hint=f"use --sst FILE, or set `collection` in [trust] ({_DOCS})")
    return trust.collection


def _read(path: Path) -> tuple[list[CollectionEntry], list[Issue], dict[str, object]]:
    """The entries of a collection: a .sst, a folder, or a file of certificates, as in `[trust]`. Raises InvalidInput."""
    from distributor.cli import certificate_files
    from distributor.microsoft import collection
    from distributor.pki import sst
    from distributor.pki.asn1 import Unreadable

    if is_folder(path):
        return *certificate_files.gathered((path,), deep=False), {"path": str(path)}
    data = certificate_files.read(path)
    if not data.startswith(sst.MAGIC) and path.suffix.lower() in PLAIN:
        return *certificate_files.gathered((path,)), {"path": str(path)}
    try:
        store = sst.read(data)
    except Unreadable as fault:
        raise InvalidInput(str(fault), where=str(path), hint=f"export it again: {_AGAIN}") from None
    members, issues = collection.members((certificate_files.called(path), one) for one in store.stored)
    return members, issues, {**_file(path, data), "crls": store.crls, "ctls": store.ctls}


def _compared(found: Iterable[CollectionEntry], saved: Path) -> Difference:
    from distributor.cli import certificate_files
    from distributor.microsoft import collection, tenant
    from distributor.pki import sst
    from distributor.pki.asn1 import Unreadable

    what = ""
    try:
        data = tenant.parse_smime_config(certificate_files.read(saved))
        what = "the collection in it is damaged: "
        store = sst.read(data) if data else sst.Collection(())
    except Unreadable as fault:
        raise InvalidInput(f"{what}{fault}", where=str(saved), hint=f"save it with: {tenant.COMMAND}") from None
    theirs, _ = collection.members((certificate_files.called(saved), one) for one in store.stored)
    return collection.compare(found, theirs)


def _summary(
    path: Path,
    found: Sequence[CollectionEntry],
    extra: dict[str, object],
    checked: CheckedCertificates,
    difference: Difference | None,
    issues: Sequence[Issue],
) -> None:
    hashed = f", SHA-256 {extra['sha256']}" if "sha256" in extra else ""
    stderr_line(f"{escape(path)}: {counted(len(found), 'certificate')}{hashed}")
    lists = sum(number for name in ("crls", "ctls") if isinstance(number := extra.get(name), int))
    if lists:
        stderr_line(f"ignored: {counted(lists, 'list')} of revoked or trusted certificates")
    if checked.sought:
        good = sum(map(checked.complete, checked.sought))
        stderr_line(f"checked: {good} of {counted(len(checked.sought), 'certificate')} passed")
    if difference:
        same, here, there = (len(part) for part in (difference.same, difference.only_here, difference.only_there))
        stderr_line(f"tenant: {same} in both, {here} only in this collection, {there} only in the tenant's")
    if wrong := _wrong(issues):
        stderr_line(f"{counted(wrong, 'error')}: correct {'it' if wrong == 1 else 'them'}, then check again")
    elif not checked.sought:
        stderr_line("no errors")


@app.command(epilog="\b\nexample:\n  distributor trust runbook --sst collection.sst > runbook.ps1")
def runbook(
    sst: Annotated[
        Path | None, typer.Option("--sst", metavar="FILE", readable=False, help="The collection; default: `collection` in [trust].")
    ] = None,
    chosen: Config = None,
) -> None:
    """Print a PowerShell script that uploads the collection to the tenant.

    The script saves the old collection first, then reads the new one back and compares it.
    """
    from distributor import bootstrap
    from distributor.cli import certificate_files
    from distributor.microsoft import collection
    from distributor.microsoft.runbook import powershell

    path = _collection(sst, chosen)
    if is_folder(path) or path.suffix.lower() in PLAIN:
        raise InvalidInput("only a .sst can be uploaded", where=str(path), hint=f"distributor trust export --output collection.sst {path}")
    found, issues, extra = _read(path)
    if wrong := _wrong([*issues, *collection.examine(found, bootstrap.now())]):
        raise RequestDenied(f"the collection has {counted(wrong, 'error')}", where=str(path), hint=f"distributor trust check --sst {path}")
    try:
        stdout_line(powershell(path.name, str(extra["sha256"]), found).rstrip("\n"))
    except ValueError as fault:
        raise InvalidInput(str(fault), where=escape(path), hint="rename it") from None
    stderr_line(f"next: run it beside {certificate_files.called(path)} in PowerShell, then distributor trust check --tenant tenant.txt")


def _answer(as_json: bool, found: Sequence[CollectionEntry], issues: Sequence[Issue], rest: Mapping[str, object]) -> None:
    if as_json:
        print_json("trust", {"certificates": map(_row, found), "issues": map(issue_row, issues), **rest})
        return
    table(
        ("valid until", "key", "kind", "subject", "issuer"),
        (
            (day(one.facts.not_after), one.facts.key, one.kind, one.facts.subject, "itself" if one.self_signed else one.facts.issuer)
            for one in found
        ),
    )
    for issue in issues:
        print_issue(issue)


def _row(member: CollectionEntry) -> dict[str, object]:
    info = member.facts
    return {
        "sha256": info.sha256,
        "serial": info.serial,
        "subject": info.subject,
        "issuer": info.issuer,
        "not_before": info.not_before,
        "not_after": info.not_after,
        "key": info.key,
        "kind": member.kind,
        "self_signed": member.self_signed,
        "name": member.name or None,
        "source": member.source,
    }


def _checked_row(one: ChainGap, checked: CheckedCertificates) -> dict[str, object]:
    info = one.member.facts
    return {"sha256": info.sha256, "subject": info.subject, "source": one.member.source, "complete": checked.complete(one)}


def _difference_row(difference: Difference | None) -> dict[str, object] | None:
    if difference is None:
        return None
    parts = {"same": difference.same, "only_here": difference.only_here, "only_there": difference.only_there}
    return {name: [member.facts.sha256 for member in part] for name, part in parts.items()}


def _file(path: Path, data: bytes) -> dict[str, object]:
    return {"path": str(path), "sha256": _sha256(data), "bytes": len(data)}


def _sha256(data: bytes) -> str:
    import hashlib  # --help needs none

    return hashlib.sha256(data).hexdigest()


def _wrong(issues: Iterable[Issue]) -> int:
    return sum(issue.severity == "error" for issue in issues)


@app.command(epilog="\b\nexample:\n  distributor trust watch --json | jq '.revoked[].address'")
def watch(chosen: Config = None, as_json: Json = False) -> int:
    """Check again whether certificates in use were revoked.

    Withdraws unsent deliveries of revoked certificates; `status` and `history` show the others. Run it every day.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if settings.trust is None:
        raise RequestDenied(
            "no [trust] is configured", hint=f'add [trust] with collection = "collection.sst" to distributor.toml ({_DOCS})'
        )
    with bootstrap.open_for_writing(settings) as ledger:
        done = watched(settings, ledger)
    _show_watched(done, as_json=as_json)
    return 1 if done.revoked or any(issue.severity == "error" for issue in done.issues) else 0


def watched(settings: Settings, ledger: Ledger) -> Watched:
    """The same for another command; checks nothing where `[trust]` is not configured."""
    from distributor import bootstrap
    from distributor.bootstrap import trust
    from distributor.workflows import revocation

    now = bootstrap.now()
    with trust.chain_checker(settings, now) as checker, Bar("checking", None) as bar:
        return revocation.Watched() if checker is None else revocation.watch(ledger, checker, now=now, tell=lambda _: bar.step())


def rows(deliveries: Sequence[RevokedDelivery]) -> list[dict[str, object]]:
    """Deliveries whose certificate was revoked, or is good again, as JSON."""
    return [{"id": r.delivery, "address": r.address, "from": r.before, "to": r.after, "said": r.reason} for r in deliveries]


def _show_watched(done: Watched, *, as_json: bool) -> None:
    if as_json:
        found = {"revoked": rows(done.revoked), "reinstated": rows(done.reinstated)}
        print_json("trust-watch", {"checked": done.checked, **found, "issues": [issue_row(issue) for issue in done.issues]})
        return
    table(("address", "was", "is", "said"), ((r.address, r.before, r.after, r.reason) for r in (*done.revoked, *done.reinstated)))
    for issue in done.issues:
        print_issue(issue)
    affected = f"{counted(len(done.revoked), 'delivery', 'deliveries')} affected" if done.revoked else "none newly revoked"
    stderr_line(f"{counted(done.checked, 'certificate')} checked, {affected}")


app.command(epilog=trust_ldap.EXAMPLE)(trust_ldap.ldap)
