"""`distributor trust watch`: checks the certificates that were planned or sent against fresh CRLs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributor.cli.options import Config, Json
from distributor.errors import RequestDenied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributor.config import Settings
    from distributor.model.certificates import RevokedDelivery
    from distributor.model.ports import Ledger
    from distributor.workflows.revocation import Watched

EXAMPLE = "\b\nexample:\n  distributor trust watch --json | jq '.revoked[].address'"


def watch(chosen: Config = None, as_json: Json = False) -> int:
    """Ask again whether certificates in use were revoked.

    Unsent deliveries of a revoked one are withdrawn; `status` and `history` show the others. Best run every day.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if settings.trust is None:
        raise RequestDenied("no [trust] is configured", hint='add [trust] with collection = "collection.sst" to distributor.toml')
    with bootstrap.open_for_writing(settings) as ledger:
        done = watched(settings, ledger)
    _show(done, as_json=as_json)
    return 1 if done.revoked or any(issue.severity == "error" for issue in done.issues) else 0


def watched(settings: Settings, ledger: Ledger) -> Watched:
    """The same for another command; checks nothing where `[trust]` is not configured."""
    from distributor import bootstrap
    from distributor.bootstrap import trust
    from distributor.cli.progress import Bar
    from distributor.workflows import revocation

    now = bootstrap.now()
    with trust.chain_checker(settings, now) as checker, Bar("checking", None) as bar:
        return revocation.Watched() if checker is None else revocation.watch(ledger, checker, now=now, tell=lambda _: bar.step())


def rows(deliveries: Sequence[RevokedDelivery]) -> list[dict[str, object]]:
    """Deliveries whose certificate was revoked, or is good again, as JSON."""
    return [{"id": r.delivery, "address": r.address, "from": r.before, "to": r.after, "said": r.said} for r in deliveries]


def _show(done: Watched, *, as_json: bool) -> None:
    from distributor.cli.plan import issue_row, tell_issue
    from distributor.cli.render import counted, print_json, stderr_line, table

    if as_json:
        found = {"revoked": rows(done.revoked), "reinstated": rows(done.reinstated)}
        print_json("trust-watch", {"checked": done.checked, **found, "issues": [issue_row(issue) for issue in done.issues]})
        return
    table(("address", "was", "is", "said"), ((r.address, r.before, r.after, r.said) for r in (*done.revoked, *done.reinstated)))
    for issue in done.issues:
        tell_issue(issue)
    stderr_line(f"{counted(done.checked, 'certificate')} checked, {counted(len(done.revoked), 'delivery', 'deliveries')} of revoked ones")
