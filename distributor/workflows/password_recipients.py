"""Checks, when deliveries are planned, that passwords of channel mail can go to another mailbox than their packages."""

from __future__ import annotations

from collections.abc import Callable

from distributor.model.certificates import CertificateInfo
from distributor.model.channels import PasswordTo, check_recipient
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, BadAddress, Person
from distributor.workflows.roster import MergedRoster


class PasswordRecipients:
    """The second mailboxes of one plan's people."""

    def __init__(self, to: PasswordTo) -> None:
        self._to = to
        self._reported: set[str] = set()

    def refuses(self, person: Person, info: CertificateInfo, people: MergedRoster, report: Callable[[Issue], None]) -> bool:
        """Whether a person's password could not be sent; the first time, reports an issue of the person's row."""
        text = person.manager if self._to is PasswordTo.MANAGER else person.alternate_email

        def is_own(address: Address) -> bool:  # the directory knows other addresses of the same mailbox
            return any(one.address.key == person.address.key for one in people.of([address]))

        found = check_recipient(text, self._to, (str(person.address), *info.addresses), is_own)
        if not isinstance(found, BadAddress):
            return False
        if person.address.key not in self._reported:
            self._reported.add(person.address.key)
            source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
            check = CheckId.BAD_ADDRESS if text.strip() else CheckId.BAD_ROW
            report(Issue(Severity.ERROR, check, found.reason, found.hint, source, line, str(person.address)))
        return True
