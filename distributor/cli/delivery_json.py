"""Formats a row of `Ledger.rows` for `status --json`, four times as fast as `json.dumps` of an object: there may be 100 000."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted  # in ASCII, as `render.encoded`
from typing import Any

from distributor.cli.render import Written


def line(row: tuple[Any, ...]) -> Written:
    """A delivery as JSON; times are UTC text whose first 19 characters are seconds."""
    (
        id_,
        address,
        name,
        language,
        generation,
        state,
        attempts,
        message_id,
        package,
        profile,
        said,
        not_before,
        updated,
        plan,
        sha256,
        serial,
        subject,
        not_after,
        channel,
        password,
    ) = row
    waits = f'"{not_before[:19]}Z"' if not_before else "null"
    return Written(
        f'{{"id": "{id_}", "address": {quoted(address)}, "name": {quoted(name)}, "language": {quoted(language)}, "state": "{state}", '
        f'"generation": {generation}, "attempts": {attempts}, "message_id": {_text(message_id)}, '
        f'"package_sha256": {_text(package)}, "profile": {_text(profile)}, '
        f'"said": {_text(said)}, "not_before": {waits}, "updated_at": "{updated[:19]}Z", '
        f'"plan": {quoted(plan)}, "certificate": {{"sha256": "{sha256}", "serial": "{serial}", "subject": {quoted(subject)}, '
        f'"not_after": "{not_after[:19]}Z"}}, "password": {_password(channel, password)}}}'
    )


def _text(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _password(channel: str | None, state: str | None) -> str:
    return f'{{"channel": {quoted(channel)}, "state": "{state}"}}' if channel else "null"
