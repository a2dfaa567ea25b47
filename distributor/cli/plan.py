"""`distributor plan`: checks certificates and people and records the deliveries in the ledger. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, listable
from distributor.cli.progress import Bar
from distributor.cli.render import (
    Written,
    counted,
    day,
    encoded,
    escape,
    issue_row,
    print_issue,
    print_json,
    stderr_line,
    stdout_line,
    table,
    time,
)
from distributor.model.states import REMAINING, State

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.certificates import CertificateInfo
    from distributor.model.delivery import Delivery, DeliveryRequest
    from distributor.model.issues import Issue
    from distributor.model.ports import Checker, Spool
    from distributor.workflows.plan import PlanResult

EXAMPLE = "\b\nexample:\n  distributor plan certificates/ --roster people.csv --passwords passwords.csv"
MOST_LEFT = 5  # files without certificates that are listed; `--verbose` lists all
ALREADY_SENT = "already-sent"  # the first line counts these
MOST_ROWS = 20  # ready deliveries that are listed; `--verbose` and `status --plan` list all


def plan(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SOURCE", readable=False, help="A .pfx/.p12, a folder, a flat .zip, PEM pairs; default: [[sources]]."),
    ] = None,
    roster: Annotated[
        Path | None,
        typer.Option(
            "--roster", metavar="FILE", readable=False, help="People as CSV; else [[rosters]], else each certificate's own address."
        ),
    ] = None,
    passwords: Annotated[
        Path | None,
        typer.Option(
            "--passwords",
            metavar="PATH",
            readable=False,
            callback=listable,
            help="Passwords of the files: a CSV, or a folder of <stem>.txt.",
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Fetch no CRL and no issuer's certificate: chains are checked as far as files go.")
    ] = False,
    lint: Annotated[bool, typer.Option("--lint", help="Check certificates against the S/MIME BR too (extra `lint`).")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every finding, file and delivery.")] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Check certificates and people, and record who is to get what.

    Sends nothing. Problems are listed by cause, with examples and a hint; deliveries without problems are planned.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if offline:
        _say_offline(settings)
    planned = _made(settings, sources or (), roster, passwords, show=_row if as_json else _cells, offline=offline, lint=lint)
    if as_json:
        rows = map(Written, planned.deliveries)
        issues = map(issue_row, planned.issues)
        left = ({"source": one.source, "message": one.message, "hint": one.hint} for one in planned.left)
        counts = {"ready": len(planned.deliveries), "known": {str(state): number for state, number in planned.known.items()}}
        print_json("plan", {"plan": planned.plan, **counts, "deliveries": rows, "issues": issues, "left_alone": left})
    else:
        _show(planned, verbose=verbose, passwords=passwords is not None)
    errors = any(issue.severity == "error" for issue in planned.issues)
    return 1 if errors or not planned.recorded else 0


def _made(
    settings: Settings,
    sources: Sequence[Path],
    roster: Path | None,
    passwords: Path | None,
    *,
    show: Callable[[Delivery, DeliveryRequest], object],
    offline: bool,
    lint: bool,
) -> PlanResult:
    import secrets
    from functools import cache

    from distributor import bootstrap
    from distributor.bootstrap import delivery, inputs, trust
    from distributor.cli.ledger import warn_gap, warn_restored
    from distributor.files.spool import FileSpool
    from distributor.workflows.plan import plan as make_plan

    found = inputs.source_sets(settings, sources, roster, passwords)
    renderer = delivery.template_renderer(settings)
    used = cache(lambda: {*renderer.columns(), *(("oid",) if settings.portal else ())})  # an account of Entra is known by its oid
    now = bootstrap.now()
    with (
        trust.chain_checker(settings, now, offline=offline) as checker,
        inputs.parsing_pool(settings) as pool,
        bootstrap.open_for_writing(settings) as ledger,
        Bar("reading", None) as bar,
    ):
        warn_restored(ledger)
        warn_gap(ledger)
        if (outdated := delivery.outdated_templates(settings)) is not None:
            stderr_line(f"warning: {outdated}; nothing is sent until it is moved")
            stderr_line(f"hint: {outdated.hint}")
        ledger.keep_columns(used)
        return make_plan(
            ledger,
            inputs.people(found, used),
            inputs.certificates(settings, found),
            pool,
            plan_id=secrets.token_hex(4),
            inputs=inputs.inputs(found, settings),
            languages=settings.organisation.languages,
            written_in=renderer.nearest,
            now=now,
            directory=inputs.directory(settings),
            checker=_linted(checker) if lint else checker,
            tell=lambda _: bar.step(),
            show=show,
            spool=FileSpool,
        )


def _linted(checker: Checker | None) -> Checker:
    from distributor.pki.lint import Linter, LintingChecker

    return LintingChecker(Linter(), checker)


def _say_offline(settings: Settings) -> None:
    if settings.trust is None:
        stderr_line("offline: nothing is left out; no [trust] is configured, so chains and revocation are not checked anyway")
    else:
        stderr_line(
            "offline: revocation is not checked, and no issuer's certificate is fetched; plan again with the network before you send"
        )


def _row(delivery: Delivery, request: DeliveryRequest) -> str:
    """A delivery as JSON text."""
    row = {
        "id": delivery.id,
        "address": delivery.address,
        "name": delivery.name,
        "language": delivery.language,
        "generation": delivery.generation,
        "state": delivery.state,
        "certificate": _certificate(request.facts),
        "chain": len(request.chain),
    }
    return encoded(row)


def _cells(delivery: Delivery, _: DeliveryRequest) -> tuple[str, ...]:
    """A delivery as a row of the table."""
    return delivery.address, delivery.name, delivery.language, day(delivery.certificate_not_after), delivery.certificate_subject


def _certificate(info: CertificateInfo) -> dict[str, object]:
    return {
        "sha256": info.sha256,
        "serial": info.serial,
        "subject": info.subject,
        "issuer": info.issuer,
        "addresses": list(info.addresses),
        "not_before": time(info.not_before),
        "not_after": time(info.not_after),
        "key": info.key,
        "usages": list(info.usages),
    }


def _show(planned: PlanResult, *, verbose: bool, passwords: bool) -> None:
    """Print the result for people; `passwords`: --passwords was given."""
    from distributor.cli.findings import grouped, print_groups, summary

    ready = len(planned.deliveries)
    known = "".join(f", {number} already {state}" for state in State if (number := planned.known[state]))
    plan_id = planned.plan if planned.recorded else "(not recorded)"
    stdout_line(f"plan {plan_id}: {ready} {'new' if known else 'ready'}{known}")
    most = ready if verbose else MOST_ROWS
    if ready:
        stdout_line()
        table(("address", "name", "language", "valid until", "certificate"), islice(planned.deliveries, most))
    if ready > most:
        stdout_line(f"... and {ready - most} more: distributor status --plan {planned.plan}")
    if ready:
        stdout_line(_chains([length for length, number in planned.chains.items() if number]))
    groups = grouped(issue for issue in planned.issues if issue.check != ALREADY_SENT)
    if verbose:
        for issue in planned.issues:
            print_issue(issue)
    else:
        print_groups(groups, partial(_likely, passwords=passwords))
    if groups or (verbose and len(planned.issues)):
        stdout_line()
    _say_left(planned.left, len(planned.left) if verbose else MOST_LEFT)
    if groups:
        stderr_line(summary(groups))
    wrong = any(group.examples[0].severity == "error" for group in groups)
    if wrong:
        stderr_line("correct the errors and plan again; what is ready is not planned twice")
    _say_next(planned, wrong=wrong)


def _likely(issue: Issue, *, passwords: bool) -> str | None:
    """The likely cause of many issues like this one."""
    match issue.check:
        case "wrong-password" if "none was given" in issue.message:
            return "does the list given with --passwords name these files?" if passwords else "did you forget --passwords?"
        case "wrong-password":
            return "do these passwords belong to these files?"
        case "no-certificate" if issue.severity == "error":
            return "are these the right files for these people?"
        case "no-person":
            return "is this the right roster for these files?"
    return None


def _chains(lengths: Sequence[int]) -> str:
    """How many CA certificates come with the ready ones."""
    low, high = min(lengths), max(lengths)
    if not high:
        return "chain: no CA certificates"
    return f"chain: {counted(high, 'CA certificate')} each" if low == high else f"chain: {low} to {high} CA certificates"


def _say_left(left: Spool[Issue], most: int) -> None:
    """List the files that hold no certificate: no issue, but nothing is skipped silently."""
    for one in islice(left, most):
        stderr_line(f"skipped: {escape(one.source)}: {escape(one.message)}")
    if len(left) > most:
        stderr_line(f"skipped: {len(left) - most} more; --verbose lists them")


def _say_next(planned: PlanResult, *, wrong: bool) -> None:
    if len(planned.deliveries) or not REMAINING.isdisjoint(planned.known):
        stderr_line("next: distributor send")
    elif State.AMBIGUOUS in planned.known:
        stderr_line("next: distributor resolve")
    elif planned.known:
        stderr_line("next: distributor status; a new package with a new password: distributor resend ADDRESS --reason TEXT")
    elif planned.nobody == "roster":
        stderr_line("the roster is empty: there is no row below its header")
    elif planned.nobody:
        stderr_line("the directory has no users")
    elif not wrong:
        stderr_line("nothing was found to plan")
