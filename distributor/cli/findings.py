"""Prints the issues of a command that may find thousands: those of the same cause are one entry with a count and three examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distributor.cli.render import coloured_severity, counted, escape, print_issue, stdout_line, wrapped

if TYPE_CHECKING:
    from distributor.model.issues import Issue

EXAMPLES = 3  # of a group; a smaller group is printed in full
MOST_GROUPS = 200  # by their texts; further ones are grouped by check alone, so that the memory stays flat
INDENT = 9  # columns; below the severity
_VARIES = re.compile(r'"[^"]*"|\S*[\d@]\S*')  # what differs between two issues of one cause: names, addresses, numbers, dates


@dataclass(slots=True)
class IssueGroup:
    """Issues of the same cause."""

    number: int = 0
    examples: list[Issue] = field(default_factory=list)
    one_message: bool = True  # all have the same message

    def add(self, issue: Issue) -> None:
        """Count one more."""
        self.number += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(issue)
        self.one_message &= issue.message == self.examples[0].message

    @property
    def noun(self) -> str:
        """What its issues are about."""
        first = self.examples[0]
        if first.address and (first.line or not first.source):
            return "person"
        return "row" if first.line else "file" if first.source else "finding"


def grouped(issues: Iterable[Issue]) -> list[IssueGroup]:
    """The issues by cause, in the order in which each cause came first."""
    groups: dict[tuple[str, ...], IssueGroup] = {}
    for issue in issues:
        key: tuple[str, ...] = (issue.severity, issue.check, _VARIES.sub("", issue.message), _VARIES.sub("", issue.hint or ""))
        if key not in groups and len(groups) >= MOST_GROUPS:
            key = (issue.severity, issue.check)
        groups.setdefault(key, IssueGroup()).add(issue)
    return list(groups.values())


def print_groups(groups: Iterable[IssueGroup], likely: Callable[[Issue], str | None]) -> None:
    """Print each group. `likely` is the likely cause of many issues like this one, where there is one."""
    for group in groups:
        if group.number > EXAMPLES:
            _print_group(group, likely(group.examples[0]))
        else:
            for issue in group.examples:
                print_issue(issue)


def _print_group(group: IssueGroup, likely: str | None) -> None:
    first = group.examples[0]
    number = counted(group.number, group.noun, "people" if group.noun == "person" else None)
    stdout_line(f"\n{coloured_severity(first)}  {first.check}  {number}")
    more = f"and {group.number - len(group.examples)} more: --verbose lists all"
    places = list(map(_place, group.examples))
    if group.one_message:
        texts = [escape(first.message), f"{', '.join(places)} {more}"]
    else:
        texts = [*(f"{place}: {escape(issue.message)}" for place, issue in zip(places, group.examples, strict=True)), more]
    for text in (*texts, *(escape(advice) for advice in (likely, first.hint) if advice)):
        stdout_line(wrapped(f"{'':{INDENT}}{text}", INDENT))


def _place(issue: Issue) -> str:
    """Whom or what an example is about, in one piece of a list."""
    place = " ".join(filter(None, (issue.source, f"line {issue.line}" if issue.line else None)))
    first, other = (issue.address, place) if issue.line else (place, issue.address)
    return escape(f"{first} ({other})" if first and other else first or other or issue.message)


def summary(groups: Iterable[IssueGroup]) -> str:
    """`3 errors (2 wrong-password, 1 expired), 1 warning (no-person)`; empty without issues."""
    causes: dict[str, Counter[str]] = {"error": Counter(), "warning": Counter(), "note": Counter()}
    for group in groups:
        first = group.examples[0]
        causes[first.severity][first.check] += group.number
    return ", ".join(f"{counted(found.total(), severity)} ({_by_cause(found)})" for severity, found in causes.items() if found)


def _by_cause(found: Counter[str]) -> str:
    if len(found) == 1:
        return str(next(iter(found)))
    return ", ".join(f"{number} {check}" for check, number in found.most_common())
