"""`distributor plan`: checks certificates and people and records the deliveries in the ledger. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Both, Config, History, Json, Offline, Passwords, Roster, Sources
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
from distributor.model.states import REMAINING, State, Way

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.certificates import CertificateInfo
    from distributor.model.delivery import Delivery, DeliveryRequest
    from distributor.model.issues import Issue
    from distributor.model.ports import Checker, Ledger, Spool
    from distributor.workflows.plan import PlanResult

EXAMPLE = "\b\nexample:\n  distributor plan certificates/ --roster people.csv --passwords passwords.csv"
MOST_LEFT = 5  # files without certificates that are listed; `--verbose` lists all
ALREADY_SENT = "already-sent"  # the first line counts these
MOST_ROWS = 20  # ready deliveries that are listed; `--verbose` and `status --plan` list all


def plan(
    sources: Sources = None,
    roster: Roster = None,
    passwords: Passwords = None,
    offline: Offline = False,
    lint: Annotated[bool, typer.Option("--lint", help="Also check against the S/MIME Baseline Requirements (extra `lint`).")] = False,
    history: History = False,
    both: Both = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every finding, file and delivery.")] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Check certificates and people, and record what to send to whom.

    Sends nothing. Problems are listed by cause, with examples and a hint; deliveries without problems are planned.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    planned = make(settings, sources or (), roster, passwords, as_json=as_json, offline=offline, lint=lint, both=both, history=history)
    if as_json:
        print_json("plan", result(planned))
    else:
        show(planned, verbose=verbose, passwords=passwords is not None)
        _say_next(planned)
    return 1 if has_errors(planned) or planned.fruitless else 0


def result(planned: PlanResult) -> dict[str, object]:
    """What `--json` prints of a plan."""
    rows = map(Written, planned.deliveries)
    issues = map(issue_row, planned.issues)
    left = ({"source": one.source, "message": one.message, "hint": one.hint} for one in planned.left)
    counts = {
        "ready": len(planned.deliveries),
        "renewals": planned.renewals,
        "old": planned.old[0],
        "known": {str(state): number for state, number in planned.known.items()},
    }
    return {"plan": planned.plan, **counts, "deliveries": rows, "issues": issues, "left_alone": left}


def has_errors(planned: PlanResult) -> bool:
    """Whether something was found that keeps deliveries from being planned."""
    return any(issue.severity == "error" for issue in planned.issues)


def make(
    settings: Settings,
    sources: Sequence[Path],
    roster: Path | None,
    passwords: Path | None,
    *,
    as_json: bool,
    offline: bool,
    lint: bool = False,
    way: Way = Way.MAIL,
    both: bool = False,
    history: bool = False,
) -> PlanResult:
    """Check and record; an import is also compared with the tenant's users. Its rows are JSON or cells of a table."""
    import secrets
    from functools import cache

    from distributor import bootstrap
    from distributor.bootstrap import delivery, inputs, intune, trust
    from distributor.files.spool import FileSpool
    from distributor.model.channels import PasswordTo
    from distributor.workflows.plan import plan as make_plan

    if offline:
        _say_offline(settings)
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
        _warn(settings, ledger)
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
            password_to=PasswordTo(settings.password.to) if settings.password.channel == "mail" and way is Way.MAIL else None,
            way=way,
            both=both,
            history=history,
            now=now,
            directory=inputs.directory(settings) or (intune.users(settings) if way is Way.INTUNE else None),
            checker=_linted(checker) if lint else checker,
            tell=lambda _: bar.step(),
            show=_row if as_json else _cells,
            spool=FileSpool,
        )


def _warn(settings: Settings, ledger: Ledger) -> None:
    """What keeps `send` from sending what is planned now."""
    from distributor.bootstrap import delivery
    from distributor.cli.ledger import warn_gap, warn_restored

    warn_restored(ledger)
    warn_gap(ledger)
    if (outdated := delivery.outdated_templates(settings)) is not None:
        stderr_line(f"warning: {outdated}; nothing is sent until it is moved")
        stderr_line(f"hint: {outdated.hint}")


def _linted(checker: Checker | None) -> Checker:
    from distributor.pki.lint import Linter, LintingChecker

    return LintingChecker(Linter(), checker)


def _say_offline(settings: Settings) -> None:
    if settings.trust is None:
        stderr_line("--offline has no effect: chains and revocation are checked only if [trust] is configured")
    else:
        stderr_line("offline: revocation is not checked, and no issuer certificates are downloaded; plan again online before you send")


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
        "way": delivery.way,
        "series": delivery.series or None,
        "predecessor": delivery.predecessor,
    }
    return encoded(row)


def _cells(delivery: Delivery, _: DeliveryRequest) -> tuple[str, ...]:
    """A delivery as a row of the table."""
    subject = f"{delivery.certificate_subject} (old {delivery.series})" if delivery.series else delivery.certificate_subject
    return delivery.address, delivery.name, delivery.language, day(delivery.certificate_not_after), subject


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


def show(planned: PlanResult, *, verbose: bool, passwords: bool) -> None:
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
    for line in _of_age(planned):
        stdout_line(line)
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
    if has_errors(planned):
        stderr_line("correct the errors and plan again; what is ready is not planned twice")


def _of_age(planned: PlanResult) -> Iterator[str]:
    """What is planned for people who have a certificate already, or had one."""
    if planned.renewals:
        yield f"{counted(planned.renewals, 'renewal')}: the old certificates stay on the phones, to read older mail"
    if planned.old[0]:
        people = counted(planned.old[1], "person", "people")
        yield f"{counted(planned.old[0], 'old certificate')} of {people}, to read older mail; numbered, oldest first"


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


def _say_next(planned: PlanResult) -> None:
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
    elif planned.elsewhere:
        stderr_line("everybody is served by another way already; --both delivers both ways")
    elif not has_errors(planned):
        stderr_line("nothing was found to plan")
