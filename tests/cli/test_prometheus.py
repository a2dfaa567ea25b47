"""Figures for Prometheus: by command, in a file that `send --follow` writes, and read by Prometheus's own checker."""

from __future__ import annotations

import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from distributor.ledger.sqlite import sqlite3
from tests.cli.test_follow import following
from tests.needs import require
from tests.workspace import Workspace

ALERTS = Path(__file__).parents[2] / "docs" / "deploy" / "alerts.yml"
FIGURES = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'distributor_oldest_delivery_seconds{{state="queued"}}', values: '{oldest}'}}
      - {{series: 'distributor_quota_left{{sender="a@example.org"}}', values: '{left}'}}
      - {{series: 'distributor_quota_per_day{{sender="a@example.org"}}', values: '10000x40'}}
      - {{series: 'distributor_audit_intact', values: '1x40'}}
    alert_rule_test:
      - {{eval_time: 30m, alertname: MessagesWait, exp_alerts: {alerts_expected}}}
      - {{eval_time: 30m, alertname: AuditLogNotIntact, exp_alerts: []}}
"""


def figures(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(distributor_\S+) (\S+)$", text, re.MULTILINE)}


def test_the_figures_are_those_of_the_ledger(sent: Workspace) -> None:
    assert sent.run("distributor audit verify").returncode == 0
    told = sent.run("distributor metrics")
    found = figures(told.stdout)
    assert found['distributor_deliveries{state="accepted",way="mail"}'] == 2
    assert found['distributor_passwords{state="ready"}'] == 2
    assert found['distributor_sent_last_day{sender="certificates@example.org"}'] == 2
    assert found["distributor_audit_intact"] == 1
    assert found["distributor_audit_verified_events"] == found["distributor_events_total"]
    assert "@example.org" not in told.stdout.replace("certificates@example.org", "")


def test_prometheus_reads_them(sent: Workspace) -> None:
    checked = subprocess.run(
        [require("promtool"), "check", "metrics"], input=sent.run("distributor metrics").stdout, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_finding_of_the_last_verification_is_told(sent: Workspace) -> None:
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection, connection:
        connection.execute("UPDATE delivery SET said = 'all is well'")
    assert sent.run("distributor audit verify").returncode == 1
    assert figures(sent.run("distributor metrics").stdout)["distributor_audit_intact"] == 0


def test_who_follows_writes_them_for_another_user_to_read(planned: Workspace) -> None:
    config = planned.folder / "distributor.toml"
    config.write_text(config.read_text() + '\n[metrics]\nfile = "distributor.prom"\n')
    with following(planned) as running:
        running.until("accepted")
        running.until("accepted")
        assert running.stop() == 0
    path = planned.folder / "distributor.prom"
    assert figures(path.read_text())["distributor_events_total"] >= 2
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_is_a_line_in_the_log_and_no_end(planned: Workspace) -> None:
    config = planned.folder / "distributor.toml"
    config.write_text(config.read_text() + '\n[metrics]\nfile = "no/such/folder/distributor.prom"\n')
    with following(planned) as running:
        line = running.until("metrics")
        assert "change `metrics.file`" in str(line["hint"])
        assert running.stop() == 0
        assert sum(line["event"] == "accepted" for line in running.lines) == 2


def test_the_example_alerts_are_rules(tmp_path: Path) -> None:
    assert subprocess.run([require("promtool"), "check", "rules", ALERTS], capture_output=True, check=False).returncode == 0
    waits = "[{exp_labels: {severity: critical, state: queued}, exp_annotations: {summary: Messages wait although the mailboxes may send, description: Look at the log of `send --follow` and run `distributor doctor`.}}]"  # noqa: E501
    for name, oldest, left, expected in (
        ("waits", "2000x40", "10x40", waits),
        ("tomorrow", "2000x40", "0x40", "[]"),
        ("young", "60x40", "10x40", "[]"),
    ):
        file = tmp_path / f"{name}.yml"
        file.write_text(FIGURES.format(alerts=ALERTS, oldest=oldest, left=left, alerts_expected=expected))
        done = subprocess.run([require("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("keys", ['token = "sesame"', "file = 3"])
def test_what_is_configured_wrongly_is_said(sent: Workspace, keys: str) -> None:
    config = sent.folder / "distributor.toml"
    config.write_text(config.read_text() + f"\n[metrics]\n{keys}\n")
    told = sent.run("distributor metrics")
    assert told.returncode == 3
    assert "metrics." in told.stdout
