"""`distributor publish`: writes the certificates that people received to the directories of `[[directories]]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributor.cli.options import Config, Json
from distributor.errors import RequestDenied

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.ports import Ledger
    from distributor.workflows.publish import Published

EXAMPLE = "\b\nexample:\n  distributor publish --json | jq .written"


def publish(chosen: Config = None, as_json: Json = False) -> int:
    """Put people's certificates into the directories of [[directories]], so that others can encrypt to them.

    Exactly what was delivered, the newest of each person; what expired or was revoked never. Twice is once.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if not settings.directories:
        raise RequestDenied("no directory is configured", hint='add [[directories]] to distributor.toml, such as kind = "ldap"')
    with bootstrap.open_for_writing(settings) as ledger:
        done = _made(settings, ledger)
    _show(done, as_json=as_json)
    if done.errors:
        raise done.errors[0]
    return 1 if any(issue.severity == "error" for issue in done.issues) else 0


def _made(settings: Settings, ledger: Ledger) -> Published:
    from distributor import bootstrap
    from distributor.bootstrap import delivery
    from distributor.cli.progress import Bar
    from distributor.workflows.publish import publish as publish_certificates

    opened = delivery.directories(settings)
    try:
        with Bar("publishing", None) as bar:
            return publish_certificates(ledger, opened, now=bootstrap.now(), tell=lambda _: bar.step())
    finally:
        for directory in opened:
            directory.close()


def _show(done: Published, *, as_json: bool) -> None:
    from distributor.cli.plan import issue_row, tell_issue
    from distributor.cli.render import print_json, stderr_line, stdout_line

    if as_json:
        counts = {"written": done.written, "unchanged": done.unchanged, "removed": done.removed}
        print_json("publish", {**counts, "issues": map(issue_row, done.issues)})
        return
    removed = f", {done.removed} removed" if done.removed else ""
    stdout_line(f"{done.written} written, {done.unchanged} unchanged{removed}")
    for issue in done.issues:
        tell_issue(issue)
    if not (done.written or done.unchanged or done.removed or done.issues or done.errors):
        stderr_line("nobody has received a certificate yet; next: distributor send")
