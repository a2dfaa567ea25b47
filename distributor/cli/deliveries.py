"""`distributor resend`, `withdraw` and `publish`: a new generation of a delivery, a delivery taken back, certificates in directories."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason, Yes, confirm
from distributor.cli.progress import Bar
from distributor.cli.render import escape, issue_row, print_issue, print_json, stderr_line, stdout_line
from distributor.errors import RequestDenied

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.delivery import Delivery
    from distributor.model.ports import Ledger
    from distributor.workflows.publish import Published


RESEND_EXAMPLE = '\b\nexample:\n  distributor resend alice@example.org --reason "new phone, ticket 4711"'


def resend(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="To whom.")],
    reason: Reason,
    certificate: Annotated[str | None, typer.Option("--certificate", metavar="SHA256", help="Which, where a person has several.")] = None,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Send a fresh package with a fresh password; the old one dies.

    The certificate is found again in [[sources]], else where its plan found it.
    """
    from distributor import bootstrap
    from distributor.bootstrap import delivery
    from distributor.cli import send_run
    from distributor.model.delivery import DeliveryFilter
    from distributor.workflows.resend import choose

    settings, why, key = bootstrap.settings(chosen), bootstrap.reason(reason), bootstrap.address_key(address)
    delivery.refuse_outdated_templates(settings)
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        old = choose(ledger, key, certificate, bootstrap.now())
        if not yes:
            _ask_to_resend(settings, old)
        _renew(settings, ledger, old, why)
        with delivery.packing_pool(settings) as pool:
            found, watcher = send_run.run(settings, ledger, pool, DeliveryFilter(address=key), total=1, keep=as_json)
        return send_run.report(found, watcher, as_json=as_json, held=ledger.under_way(DeliveryFilter(address=key)))


def _ask_to_resend(settings: Settings, old: Delivery) -> None:
    domain = old.address.rpartition("@")[2]
    what = f"1 message from {settings.sender.address} to {escape(old.address)} (1 domain: {domain})"
    confirm(f"Send {what}? Its old password dies.", "--yes")


def _renew(settings: Settings, ledger: Ledger, old: Delivery, reason: str) -> None:
    import secrets

    from distributor.bootstrap import inputs
    from distributor.workflows.resend import Places, renew

    configured = inputs.configured(settings)
    places = Places(partial(inputs.open_plan, settings), inputs.inputs(configured) if configured else None, secrets.token_hex(4))
    with inputs.parsing_pool(settings) as pool:
        new = renew(ledger, old, reason, places, pool)
    stderr_line(f"{escape(new.address)}: generation {new.generation}; the password of generation {old.generation} is destroyed")


WITHDRAW_EXAMPLE = '\b\nexample:\n  distributor withdraw d-01JX... --reason "left the company"'


def withdraw(
    deliveries: Annotated[list[str], typer.Argument(metavar="DELIVERY", help="As `distributor status` shows them.")],
    reason: Reason,
    chosen: Config = None,
) -> int:
    """Take planned or queued deliveries back.

    The message leaves the outbox and its password is destroyed.
    """
    from distributor import bootstrap

    refused = 0
    with bootstrap.open_for_writing(bootstrap.settings(chosen)) as ledger:
        for delivery in deliveries:
            try:
                ledger.withdraw(delivery, bootstrap.reason(reason))
            except RequestDenied as error:
                refused += 1
                stderr_line(f"error: {escape(error)}\nhint: {escape(error.hint)}")
            else:
                stdout_line(f"{delivery}  withdrawn")
    return 1 if refused else 0


PUBLISH_EXAMPLE = "\b\nexample:\n  distributor publish --json | jq .written"


def publish(chosen: Config = None, as_json: Json = False) -> int:
    """Put people's certificates into the directories of [[directories]], so that others can encrypt to them.

    Exactly what was delivered, the newest of each person; what expired or was revoked never. Twice is once.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if not settings.directories:
        raise RequestDenied("no directory is configured", hint='add [[directories]] to distributor.toml, such as kind = "ldap"')
    with bootstrap.open_for_writing(settings) as ledger:
        done = _publish(settings, ledger)
    _show_published(done, as_json=as_json)
    if done.errors:
        raise done.errors[0]
    return 1 if any(issue.severity == "error" for issue in done.issues) else 0


def _publish(settings: Settings, ledger: Ledger) -> Published:
    from distributor import bootstrap
    from distributor.bootstrap import delivery
    from distributor.workflows.publish import publish as publish_certificates

    opened = delivery.directories(settings)
    try:
        with Bar("publishing", None) as bar:
            return publish_certificates(ledger, opened, now=bootstrap.now(), tell=lambda _: bar.step())
    finally:
        for directory in opened:
            directory.close()


def _show_published(done: Published, *, as_json: bool) -> None:
    if as_json:
        counts = {"written": done.written, "unchanged": done.unchanged, "removed": done.removed}
        print_json("publish", {**counts, "issues": map(issue_row, done.issues)})
        return
    removed = f", {done.removed} removed" if done.removed else ""
    stdout_line(f"{done.written} written, {done.unchanged} unchanged{removed}")
    for issue in done.issues:
        print_issue(issue)
    if not (done.written or done.unchanged or done.removed or done.issues or done.errors):
        stderr_line("nobody has received a certificate yet; next: distributor send")
