"""What of Authentication-Results is believed: the receiving host's own topmost field, a DMARC pass, the domain in From."""

from __future__ import annotations

import pytest

from distributor.mail.authentication import unauthenticated

HOST, DOMAIN = "mx.example.org", "example.org"
PASS = "mx.example.org; spf=pass smtp.mailfrom=elsewhere.example; dmarc=pass header.from=example.org"


@pytest.mark.parametrize(
    "field",
    [
        PASS,
        "mx.example.org 1; dmarc=pass header.from=example.org",
        "MX.Example.org; DMARC=Pass (p=reject dis=none) Header.From=Example.ORG",
        'mx.example.org; dmarc=pass reason="all; well" header.from=example.org',
        "(a (nested\\)) comment) mx.example.org (;); dkim=pass header.d=example.org; dmarc = pass header.from = example.org",
        "mx.example.org; dmarc/1=pass header.from=alice@example.org",
        '"mx.example.org"; dmarc=pass header.from="example.org"',
    ],
)
def test_a_pass_for_the_domain_in_from_is_believed(field: str) -> None:
    assert unauthenticated([field], HOST, DOMAIN) == ""


def test_domains_are_compared_as_a_labels() -> None:
    assert unauthenticated(["mx.example.org; dmarc=pass header.from=bücher.example"], HOST, "xn--bcher-kva.example") == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "no Authentication-Results of mx.example.org"),
        ([PASS.replace("mx.", "mx2.")], "no Authentication-Results of mx.example.org"),
        (["mx.example.org 2; dmarc=pass header.from=example.org"], "no Authentication-Results of mx.example.org"),
        (["mx.example.org; none"], "no DMARC result"),
        (["mx.example.org; spf=pass; dkim=pass header.d=example.org"], "no DMARC result"),
        (["mx.example.org; compauth=pass reason=100"], "no DMARC result"),
        (["mx.example.org; x-dmarc=pass header.from=example.org"], "no DMARC result"),
        (["mx.example.org; spf=pass (dmarc=pass header.from=example.org)"], "no DMARC result"),
        (['mx.example.org; spf=pass reason="; dmarc=pass header.from=example.org"'], "no DMARC result"),
        (["mx.example.org; dmarc=fail header.from=example.org"], "dmarc=fail"),
        (["mx.example.org; dmarc=none header.from=example.org"], "dmarc=none"),
        (["mx.example.org; dmarc=bestguesspass header.from=example.org"], "dmarc=bestguesspass"),
        (["mx.example.org; dmarc=pass header.from=example.com"], "the DMARC result is about another domain"),
        (["mx.example.org; dmarc=pass header.from=mail.example.org"], "the DMARC result is about another domain"),
        (["mx.example.org; dmarc=pass"], "the DMARC result is about another domain"),
        (["mx.example.org; dmarc=pass header.from=example.org; dmarc=fail header.from=example.org"], "dmarc=fail"),
        (["mx.example.org; dmarc=fail header.from=example.org", PASS], "dmarc=fail"),
        (["mx.example.org; spf=pass", PASS], "no DMARC result"),
        (["mx.example.org; dmarc=pass (header.from=example.org", PASS], "malformed Authentication-Results of mx.example.org"),
        ([f"mx.example.org; {'x' * 10_000}", PASS], "malformed Authentication-Results of mx.example.org"),
    ],
)
def test_anything_else_is_not(fields: list[str], reason: str) -> None:
    assert unauthenticated(fields, HOST, DOMAIN) == reason


def test_a_field_of_another_host_above_it_does_not_matter() -> None:
    assert unauthenticated(["other.example; dmarc=fail header.from=example.org", PASS], HOST, DOMAIN) == ""


def test_without_a_configured_host_nothing_is_believed() -> None:
    assert unauthenticated([PASS, "; dmarc=pass header.from=example.org"], "", DOMAIN)
