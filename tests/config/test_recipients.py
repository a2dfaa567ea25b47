"""`vault.recipients` changed in the text of distributor.toml, with everything else as it was."""

from __future__ import annotations

import tomllib

import pytest

from distributor.config.recipients import with_recipients

BEFORE = '# mine\n[organisation]\nname = "recipients = [\\"old\\"]"\n\n[vault] # keys\n'
AFTER = '\nidentity = "file:vault.key" # keep\n\n[ledger]\nurl = "x"\n'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('recipients = ["old", "other"]', 'recipients = ["new", "other"]'),
        ('recipients = ["old", "other",] # two', 'recipients = ["new", "other",] # two'),
        ('recipients = [\n  "old", # ours\n  "other",\n]', 'recipients = [\n  "new", # ours\n  "other",\n]'),
        ("recipients=['old','other']", "recipients=['new','other']"),
        ('recipients = ["old", "older", "other"]', 'recipients = ["new", "other"]'),
    ],
)
def test_one_key_takes_the_place_of_another(written: str, expected: str) -> None:
    changed = with_recipients(BEFORE + written + AFTER, ["new", "other"], ["older", "old"][::-1])
    assert changed == BEFORE + expected + AFTER
    assert tomllib.loads(changed)["vault"]["recipients"] == ["new", "other"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("before", [BEFORE, "[vault]\n"])
def test_a_byte_order_mark_and_the_ends_of_lines_stay(before: str, mark: str, end: str) -> None:
    texts = [mark + (before + f'recipients = ["{key}"]' + AFTER).replace("\n", end) for key in ("old", "new")]
    assert with_recipients(texts[0], ["new"], ["old"]) == texts[1]


@pytest.mark.parametrize(
    "text",
    [
        'vault = {recipients = ["old"]}\n',
        'vault.recipients = ["old"]\n',
        '[ledger]\nrecipients = ["old"]\n\n[vault.more]\nrecipients = ["old"]\n',
        '[vault]\nrecipients = [ # the list ] of keys\n "old"]\n',
    ],
)
def test_what_is_written_in_another_way_is_left_to_a_person(text: str) -> None:
    assert with_recipients(text, ["new"], ["old"]) is None
