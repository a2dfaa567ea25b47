"""The [transport] tables that `distributor init` writes: a local or other SMTP server, or Exchange Online by SMTP or Graph."""

from __future__ import annotations

import ipaddress
import re

from distributor.errors import UsageError

SECRET = "# a reference: env:NAME, file:PATH, keyring:SERVICE/NAME or cred:NAME, never the password itself"  # noqa: S105  a comment
APP = 'tenant = "example.onmicrosoft.com", client_id = "00000000-0000-0000-0000-000000000000", certificate = "file:app.pem"'
RATE = '# rate = "30/min"                  # default: none; 30/min and 3 connections for Exchange Online'
LOCAL = f"""\
[transport]
kind = "smtp"                      # smtp | graph (Exchange Online) | folder (writes .eml files to `path`)
host = "127.0.0.1"
port = 2525
tls = "none"                       # starttls | implicit | none; none only for a server on this machine
connections = 12
{RATE}
# username = "..."                 # default: sender.address
# password = "env:SMTP_PASSWORD"   {SECRET}
# oauth = {{tenant = "...", client_id = "...", certificate = "file:app.pem"}}    # instead of a password, for Exchange Online
"""
GRAPH = """\
[transport]
kind = "graph"                     # smtp | graph (Exchange Online) | folder (writes .eml files to `path`)
tenant = "example.onmicrosoft.com"                     # your tenant: its ID or a domain
client_id = "00000000-0000-0000-0000-000000000000"     # of the app registration: see docs/exchange-online.md#1-a-mailbox-and-an-app
certificate = "file:app.pem"       # its certificate and key; or secret = "env:NAME", managed_identity = true, assertion = "file:PATH"
# mailbox = "..."                  # default: sender.address
# save_copy = false                # keep no copy in Sent Items
# rate = "30/min"                  # the default: what Exchange Online accepts from one mailbox
"""
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_IMPLICIT = 465  # RFC 8314


def smtp_table(server: str) -> str:
    """The table for HOST or HOST:PORT, with what config knows of Exchange Online's hosts. Raises UsageError."""
    from distributor.config.schema import host_defaults

    found = _HOST.fullmatch(server.strip())
    if found is None:
        raise UsageError(f'"{server}" is not a host name', where="--smtp", hint="write HOST or HOST:PORT, such as mail.example.org:587")
    host, known = found["host"].strip("[]"), host_defaults("smtp", {"host": found["host"].strip("[]")})
    local = _is_local(host)
    port = int(found["port"] or (25 if local else 587))
    tls = "none" if local else "implicit" if port == _IMPLICIT else "starttls"
    lines = [
        "[transport]",
        'kind = "smtp"                      # smtp | graph (Exchange Online) | folder (writes .eml files to `path`)',
        f'host = "{host}"',
        f"port = {port}",
        f'tls = "{tls}"'.ljust(35) + "# starttls | implicit | none; none only for a server on this machine",
    ]
    if known:
        lines += [
            f"# connections = {known['connections']}".ljust(35) + "# the defaults for this host: Exchange Online's limits for one mailbox",
            f'# rate = "{known["rate"]}"',
            f"oauth = {{{APP}}}   # of the app registration: see docs/exchange-online.md#1-a-mailbox-and-an-app",
        ]
    else:
        signs_in = "# " if local else ""
        lines += ["connections = 4", RATE, f'{signs_in}password = "env:SMTP_PASSWORD"'.ljust(35) + SECRET]
    return "\n".join([*lines, '# username = "..."                 # default: sender.address', ""])


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
