"""Every adapter has what its port promises: read by the type checker, never run."""

from __future__ import annotations

from distributor.adapters.channels.letter import PdfPrinter
from distributor.adapters.channels.mail import SentPasswordCopies
from distributor.adapters.directories import folder as folder_directory
from distributor.adapters.directories import ldap as ldap_directory
from distributor.adapters.rosters import csv as csv_roster
from distributor.adapters.rosters import graph as graph_roster
from distributor.adapters.rosters import ldap as ldap_roster
from distributor.adapters.sources.files import Files
from distributor.adapters.trackers import imap, message_trace, sent_items
from distributor.adapters.transports import folder, graph
from distributor.adapters.transports.smtp.transport import SmtpTransport
from distributor.ledger.repository import SqlLedger
from distributor.model.certificates import PublicDirectory
from distributor.model.channels import LetterPrinter
from distributor.model.mailbox_cleanup import CleanupStore
from distributor.model.mailboxes import MailboxReader
from distributor.model.people import Directory
from distributor.model.ports import Connection, Ledger, Roster, Source, Tracker, Transport, Vault
from distributor.vault import AgeVault
from distributor.workflows.sending.direct import SentCopies


def transports(one: folder.FolderTransport, two: graph.GraphTransport, three: SmtpTransport) -> list[Transport]:
    return [one, two, three]


def connections(one: folder.FolderTransport, two: graph.GraphTransport, three: SmtpTransport) -> list[Connection]:
    return [one.connection(), two.connection(), three.connection()]


def trackers(one: sent_items.MailboxTracker, two: message_trace.MessageTraceTracker, three: graph.SentItemsTracker) -> list[Tracker]:
    return [one, two, three]


def mailbox_readers(one: imap.ImapReader) -> list[MailboxReader]:
    return [one]


def rosters(one: csv_roster.CsvRoster, two: graph_roster.GraphRoster, three: ldap_roster.LdapRoster) -> list[Roster]:
    return [one, two, three]


def directories(one: graph_roster.GraphRoster, two: ldap_roster.LdapRoster) -> list[Directory]:
    return [one, two]


def public_directories(one: folder_directory.FolderDirectory, two: ldap_directory.LdapDirectory) -> list[PublicDirectory]:
    return [one, two]


def others(files: Files, vault: AgeVault, ledger: SqlLedger) -> tuple[Source, Vault, Ledger]:
    return files, vault, ledger


def channels(printer: PdfPrinter, copies: SentPasswordCopies) -> tuple[LetterPrinter, SentCopies, CleanupStore]:
    return printer, copies, copies
