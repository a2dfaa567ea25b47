"""Which cells of a list a message may quote: what may be a password is described."""

from __future__ import annotations

import pytest

from distributor.model.csv_table import addresses_in, describe_cell, name_cell, quotable_address


@pytest.mark.parametrize("cell", ["anna@exmaple", "anna.b@example.org", "anna@example", " anna@example..org"[:13]])
def test_what_looks_like_an_address_may_be_quoted(cell: str) -> None:
    assert quotable_address(cell)


@pytest.mark.parametrize(
    "cell", ["", "Sommer2026", "P@ssw0rd", "Pa@ssWord", "pa@ss", "a@b@c.org", "Tr0ub@dor&3.org", "anna@ex maple", "x" * 300]
)
def test_what_does_not_may_not(cell: str) -> None:
    assert not quotable_address(cell)


def test_nothing_is_quoted_where_another_cell_may_be_the_address() -> None:
    assert not quotable_address("sommer@winter", ["Anna", "anna@example.org"])
    assert addresses_in("sommer@winter.org sommer@winter.org", ["anna@example.org"]) == []


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("Anna <anna@example.org>", ["anna@example.org"]),
        ("a@example.org, b@Example.org", ["a@example.org", "b@Example.org"]),
        ("anna@example.org;Anna;Sommer2026", []),
        ("anna@example.org|P@ssw0rd.com", []),
        ("anna@example.org;P@ssw0rd.com", []),
        ("P@ssw0rd.com Anna", []),
        ("P@ssw0rd.com <anna@example.org>", []),
    ],
)
def test_addresses_are_taken_out_of_a_cell_only_where_nothing_else_can_be_in_it(cell: str, found: list[str]) -> None:
    assert addresses_in(cell) == found


def test_a_file_is_named_and_anything_else_is_described() -> None:
    assert name_cell("in/alice.PFX") == '"in/alice.PFX"'
    assert name_cell("Sommer2026") == describe_cell("Sommer2026") == "(10 characters)"
