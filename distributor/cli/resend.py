"""`distributor resend`: plans a new generation of a person's delivery and sends it at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason, Yes

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.delivery import Delivery
    from distributor.model.ports import Ledger

EXAMPLE = '\b\nexample:\n  distributor resend alice@example.org --reason "new phone, ticket 4711"'


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
            _ask(settings, old)
        _renew(settings, ledger, old, why)
        with delivery.packing_pool(settings) as pool:
            found, watcher = send_run.run(settings, ledger, pool, DeliveryFilter(address=key), total=1, keep=as_json)
        return send_run.report(found, watcher, as_json=as_json, held=ledger.under_way(DeliveryFilter(address=key)))


def _ask(settings: Settings, old: Delivery) -> None:
    from distributor.cli.options import confirm
    from distributor.cli.render import escape

    domain = old.address.rpartition("@")[2]
    what = f"1 message from {settings.sender.address} to {escape(old.address)} (1 domain: {domain})"
    confirm(f"Send {what}? Its old password dies.", "--yes")


def _renew(settings: Settings, ledger: Ledger, old: Delivery, reason: str) -> None:
    import secrets

    from distributor.bootstrap import inputs
    from distributor.cli.render import escape, stderr_line
    from distributor.workflows.resend import Places, renew

    configured = inputs.configured(settings)
    places = Places(partial(inputs.open_plan, settings), inputs.inputs(configured) if configured else None, secrets.token_hex(4))
    with inputs.parsing_pool(settings) as pool:
        new = renew(ledger, old, reason, places, pool)
    stderr_line(f"{escape(new.address)}: generation {new.generation}; the password of generation {old.generation} is destroyed")
