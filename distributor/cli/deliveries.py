"""`distributor resend`, `withdraw` and `publish`: a new generation of a delivery, a delivery taken back, certificates in directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import CertificateName, Config, DeliveryName, Json, Reason, Yes, complete_name, confirm
from distributor.cli.progress import Bar
from distributor.cli.render import escape, issue_row, print_issue, print_json, stderr_line, stdout_line
from distributor.errors import RequestDenied
from distributor.model.states import Way

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.delivery import Delivery
    from distributor.model.ports import Ledger
    from distributor.workflows.publish import Published


RESEND_EXAMPLE = '\b\nexample:\n  distributor resend alice@example.org --reason "new phone, ticket 4711"'


def resend(
    name: DeliveryName,
    reason: Reason,
    certificate: CertificateName = None,
    way: Annotated[Way | None, typer.Option("--way", help="For a person who is served by both.")] = None,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Send a new package with a new password, which replaces the old one.

    The certificate is read again from [[sources]], or from where `plan` found it.
    """
    from distributor import bootstrap
    from distributor.bootstrap import delivery, intune
    from distributor.cli import password_mail, send_run
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.people import key_of
    from distributor.workflows.resend import choose

    settings, why = bootstrap.settings(chosen), bootstrap.reason(reason)
    delivery.refuse_outdated_templates(settings)
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        old = choose(ledger, name, certificate, bootstrap.now(), way)
        scope = DeliveryFilter(addresses=frozenset({key_of(old.address)}), way=old.way)
        imports = old.way is Way.INTUNE
        connector = intune.connector(settings) if imports else None
        if not yes:
            _ask_to_resend(settings, old)
        _renew(settings, ledger, old, why)
        words = send_run.IMPORTING if imports else send_run.SENDING
        with delivery.packing_pool(settings, connector=connector) as pool:
            found, watcher = send_run.run(settings, ledger, pool, scope, total=1, keep=as_json, words=words)
        code = send_run.report(found, watcher, as_json=as_json, held=ledger.under_way(scope), words=words)
    return code if imports else password_mail.after_send(settings, code)


def _ask_to_resend(settings: Settings, old: Delivery) -> None:
    if old.way is Way.INTUNE:
        confirm(f"Import the certificate of {escape(old.address)} into Intune again?", "--yes", "nothing imported")
        return
    domain = old.address.rpartition("@")[2]
    what = f"1 message from {settings.sender.address} to {escape(old.address)} (1 domain: {domain})"
    confirm(f"Send {what}? This replaces its password.", "--yes")


def _renew(settings: Settings, ledger: Ledger, old: Delivery, reason: str) -> None:
    from distributor.bootstrap import inputs, requests
    from distributor.workflows.resend import renew

    with inputs.parsing_pool(settings) as pool:
        new = renew(ledger, old, reason, requests.places(settings), pool)
    password = "" if old.way is Way.INTUNE else f"; the password of generation {old.generation} is destroyed"
    stderr_line(f"{escape(new.address)}: generation {new.generation} planned{password}")


WITHDRAW_EXAMPLE = '\b\nexample:\n  distributor withdraw d-01JX... --reason "left the company"'


def withdraw(
    names: Annotated[
        list[str],
        typer.Argument(metavar="DELIVERY", autocompletion=complete_name, help="Addresses, ids or certificates, as for `history`."),
    ],
    reason: Reason,
    chosen: Config = None,
) -> int:
    """Cancel planned or queued deliveries.

    The message and its password are deleted.
    """
    from distributor import bootstrap
    from distributor.model.states import REMAINING
    from distributor.workflows import lookup

    refused = 0
    with bootstrap.open_for_writing(bootstrap.settings(chosen)) as ledger:
        for name in names:
            try:
                delivery = lookup.one(ledger, name, REMAINING)
                ledger.withdraw(delivery.id, bootstrap.reason(reason))
            except RequestDenied as error:
                refused += 1
                stderr_line(f"error: {escape(error)}\nhint: {escape(error.hint)}")
            else:
                stdout_line(f"{delivery.id}  {escape(delivery.address)}  withdrawn")
    return 1 if refused else 0


PUBLISH_EXAMPLE = "\b\nexample:\n  distributor publish --json | jq .written"


def publish(chosen: Config = None, as_json: Json = False) -> int:
    """Publish certificates to [[directories]], so that others can encrypt to their owners.

    Each person's newest delivered certificate, unless it has expired or was revoked. Running it again changes nothing.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if not settings.directories:
        hint = 'add [[directories]] to distributor.toml, such as kind = "ldap" (see docs/trust.md#publish-to-directories)'
        raise RequestDenied("no directory is configured", hint=hint)
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
        stderr_line("no certificate was delivered yet; next: distributor send")
