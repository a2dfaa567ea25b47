"""`distributor resend`: a new generation for a person, sent at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Reason, Yes

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.core.deliveries import Delivery
    from distributor.core.ports import Ledger

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
    from distributor import outgoing, wiring
    from distributor.cli import sending
    from distributor.core.deliveries import Scope
    from distributor.flow.resend import choose

    settings, why, key = wiring.settings(chosen), wiring.reason(reason), wiring.address_key(address)
    with wiring.writing(settings, sends=True) as ledger:
        old = choose(ledger, key, certificate, wiring.now())
        if not yes:
            _ask(settings, old)
        _renew(settings, ledger, old, why)
        with outgoing.packers(settings) as pool:
            found, watcher = sending.run(settings, ledger, pool, Scope(address=key), total=1, keep=as_json)
        return sending.report(found, watcher, as_json=as_json, held=ledger.under_way(Scope(address=key)))


def _ask(settings: Settings, old: Delivery) -> None:
    from distributor.cli.prompt import confirm
    from distributor.cli.show import foreign

    domain = old.address.rpartition("@")[2]
    what = f"1 letter from {settings.sender.address} to {foreign(old.address)} (1 domain: {domain})"
    confirm(f"Send {what}? Its old password dies.", "--yes")


def _renew(settings: Settings, ledger: Ledger, old: Delivery, reason: str) -> None:
    import secrets

    from distributor import intake
    from distributor.cli.show import foreign, say
    from distributor.flow.resend import Places, renew

    configured = intake.configured(settings)
    places = Places(partial(intake.open_plan, settings), intake.inputs(configured) if configured else None, secrets.token_hex(4))
    with intake.opening(settings) as pool:
        new = renew(ledger, old, reason, places, pool)
    say(f"{foreign(new.address)}: generation {new.generation}; the password of generation {old.generation} is destroyed")
