"""Packed messages through Microsoft Graph's double at its full speed: our CPU, requests a message, tokens, and if a limit was passed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.ground import accepted, distributor, line, people, workspace
from tests.doubles.graphd import Cloud, graphd

COUNT = 1000
MAILBOX = "certificates@example.org"


def run(folder: Path) -> None:
    """Measure and print, with copies kept and without."""
    roster = people(folder, COUNT)
    for copies in ("true", "false"):
        with graphd(folder / f"cloud-{copies}") as cloud:
            os.environ.update(cloud.environment, BENCH_SECRET="s3cret")
            _once(folder / f"copies-{copies}", roster, cloud, copies)


def _once(folder: Path, roster: Path, cloud: Cloud, copies: str) -> None:
    folder.mkdir()
    cloud.mailbox(MAILBOX)
    client = cloud.app(secrets={"s3cret": None}, roles=["Mail.Send", "Mail.ReadWrite"])
    config = _configured(workspace(folder, 2525), cloud, client, copies)
    distributor("plan", "--roster", str(roster), "--json", config=config)
    distributor("send", "--dry-run", str(folder / "dry"), "--json", config=config)
    sent = distributor("send", "--yes", "--json", config=config)
    accepted(sent, COUNT)
    counts = cloud.counts()
    mine = counts["mailboxes"][MAILBOX]
    requests = sum(mine["requests"].values())
    line(f"{COUNT} messages, save_copy = {copies}: our CPU", f"{sent.cpu:.1f} s", "wanted: under 60")
    line("on the clock, the double beside us", f"{sent.wall:.1f} s")
    line("requests a message", f"{requests / COUNT:.2f}", "wanted: at most 3")
    line("token requests in this run", f"{len(cloud.requests('token'))}", "wanted: 1")
    line("most requests in flight", f"{mine['max_in_flight']}", "allowed: 4")
    line("refused for a limit", f"{sum(mine['refused'].values())}", "wanted: 0")


def _configured(config: Path, cloud: Cloud, client: str, copies: str) -> Path:
    """The workspace's configuration with Graph for its transport, as fast as it goes."""
    text = config.read_text(encoding="utf-8")
    begin, end = text.index("[transport]"), text.index("[package]")
    table = (
        f'[transport]\nkind = "graph"\nmailbox = "{MAILBOX}"\ntenant = "{cloud.tenant}"\nclient_id = "{client}"\n'
        f'secret = "env:BENCH_SECRET"\nlogin = "{cloud.login}"\ngraph = "{cloud.graph}"\nsave_copy = {copies}\n'
        'rate = "1000/s"\ndaily = 100000\n\n'
    )
    config.write_text(text[:begin] + table + text[end:], encoding="utf-8")
    return config
