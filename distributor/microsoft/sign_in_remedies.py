"""The AADSTS number of a failed sign-in -> the line of PowerShell that fixes it, where there is one. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from distributor.microsoft import powershell
from distributor.microsoft.powershell import WINDOW, App, steps

_NUMBER = re.compile(r"AADSTS(\d{4,8})")
_PUBLIC = "openssl x509 -in app.pem -out app.crt"  # the certificate without its key
_MENDS: Mapping[int, tuple[str, Callable[[App], str]]] = {
    7000215: (f"or make a new one, {WINDOW}", powershell.new_secret),
    7000222: (WINDOW, powershell.new_secret),
    7000112: (WINDOW, powershell.enterprise_application),
    7000229: (WINDOW, powershell.enterprise_application),
}
_CONSENT = frozenset({65001, 501051})
_UNREGISTERED, _UNTIMELY = 700027, 700024
_CLOCK = "timedatectl set-ntp true"
_EXPIRED = "the certificate expired on"  # found before Entra is asked
_ANEW = (
    "umask 077; openssl req -x509 -newkey rsa:2048 -nodes -days 730 -subj /CN=distributor -keyout app.key -out app.crt"
    " && cat app.key app.crt > app.pem && rm app.key"
)


def remedy(message: str, hint: str | None, app: App, permissions: tuple[str, ...] = (), service: str = powershell.GRAPH) -> str | None:
    """The hint of a failed sign-in, with commands. `permissions`: those of that service to consent to."""
    found = _NUMBER.search(message)
    number = int(found[1]) if found else 0
    if number in _CONSENT and permissions:
        return steps(f"{hint}; {WINDOW}:", (powershell.consent(app, permissions, service),))
    if number in _MENDS:
        words, line = _MENDS[number]
        return steps(f"{hint}; {words}:", (line(app),))
    if number == _UNREGISTERED or _EXPIRED in message:
        first = _ANEW if _EXPIRED in message else _PUBLIC
        return steps(f"{hint}; on this machine:", (first,), f"then with app.crt, {WINDOW}:", (powershell.certificate(app),))
    return steps(f"{hint}; on this machine:", (_CLOCK,)) if number == _UNTIMELY else hint
