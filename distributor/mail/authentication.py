"""Reads Authentication-Results (RFC 8601): whether the receiving host verified by DMARC that a mail comes from the domain in From. Pure.

Only the topmost field of the configured host counts: anybody can write such a field, and a host removes those that claim its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from distributor.model.people import Address, parse_address

LONGEST_RESULTS = 10_000  # characters of one field
_PAIR = re.compile(r'(?<![\w.-])([\w.-]+)(?:\s*/\s*\d+)?\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]+)')
_FIRST_VERSION = ("", "1")


def unauthenticated(fields: Sequence[str], authserv_id: str, domain: str) -> str:
    """Why the mail is not proved to come from `domain` (From's, as A-labels); empty: it is. `fields`: the topmost first."""
    if not authserv_id:
        return "the host that authenticates mails is not configured"
    for field in fields:
        host, *methods = _segments(field) or ("",)
        name, _, version = host.partition(" ")
        if not name:
            if authserv_id.lower() in field.lower():  # its own, so those below it do not count either
                return f"malformed Authentication-Results of {authserv_id}"
        elif _unquoted(name).lower() == authserv_id.lower() and version.strip() in _FIRST_VERSION:
            return _judged(methods, domain)
    return f"no Authentication-Results of {authserv_id}"


def _judged(methods: Sequence[str], domain: str) -> str:
    pairs = [[(name.lower(), _unquoted(value)) for name, value in _PAIR.findall(method)] for method in methods]
    results = [(found[0][1].lower(), dict(found[1:])) for found in pairs if found and found[0][0] == "dmarc"]
    if not results:
        return "no DMARC result"
    for result, properties in results:
        if result != "pass":
            return f"dmarc={result[:20]}"
        if _domain(properties.get("header.from", "")) != domain:
            return "the DMARC result is about another domain"
    return ""


def _domain(value: str) -> str:
    """A property's domain as A-labels; it may be a whole address (RFC 8601 2.7.1)."""
    found = parse_address("postmaster@" + value.rpartition("@")[2])
    return found.domain if isinstance(found, Address) else ""


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _segments(field: str) -> list[str]:
    """The field split at semicolons, without comments; nothing where a comment or a quoted text does not end."""
    if len(field) > LONGEST_RESULTS:
        return []
    segments: list[list[str]] = [[]]
    depth, quoted, escaped = 0, False, False
    for character in field:
        kept = depth == 0
        if escaped:
            escaped = False
        elif character == "\\" and (quoted or depth):
            escaped = True
        elif character == '"' and not depth:
            quoted = not quoted
        elif character == "(" and not quoted:
            depth, kept = depth + 1, False
        elif character == ")" and depth:
            depth -= 1
            character = " "  # noqa: PLW2901  a comment separates words
            kept = depth == 0
        elif character == ";" and not quoted and not depth:
            segments.append([])
            continue
        if kept:
            segments[-1].append(character)
    return [] if depth or quoted else ["".join(segment).strip() for segment in segments]
