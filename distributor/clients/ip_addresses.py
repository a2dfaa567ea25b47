"""A host name -> the addresses that may be connected to (protection from SSRF). No I/O besides the resolver.

The caller connects to the address that was checked, so that a second DNS answer (rebinding) changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_OWN_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215: a network's own translation, to an IPv4 address at a place of its choice
_COMPATIBLE = ipaddress.ip_network("::/96")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")  # RFC 791
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")  # RFC 3879; deprecated, and no CRL is published there
_ISATAP = (0x00005EFE, 0x02005EFE)  # the interface's identifier before an IPv4 address (RFC 5214)
_METADATA = frozenset(  # the metadata services of clouds, which give out keys; some are public addresses or would pass as private ones
    map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "169.254.169.254", "fd00:ec2::254"))
)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name by the system's resolver. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def ask(resolver: Resolve, host: str, port: int) -> list[str]:
    """The same in a daemon thread: a resolver that hangs blocks neither the event loop nor the end of the program."""
    answer: Future[list[str]] = Future()
    answer.set_running_or_notify_cancel()  # from now on it cannot be cancelled while the thread runs

    def work() -> None:
        try:
            answer.set_result(resolver(host, port))
        except Exception as error:  # noqa: BLE001  it is raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True, name="resolving").start()
    return await asyncio.wrap_future(answer)


def allowed(text: str, *, private: bool) -> bool:
    """Whether an address may be connected to: one of the internet, or with `private` also one of one's own networks and machine.

    No CRL is published at a multicast, unspecified, link-local, site-local or reserved address or where a cloud tells its machines their
    keys: never those, also where an IPv6 address only leads there.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address in _OWN_NAT64):
        return False
    meant = _meant(address)
    return all(_fit(each, private=private) for each in meant)


def _fit(address: Address, *, private: bool) -> bool:
    if (
        address in _METADATA
        or address in _THIS_NETWORK
        or address.is_multicast
        or address.is_unspecified
        or address.is_link_local
        or address in _SITE_LOCAL
    ):
        return False
    if address.is_global:
        return not address.is_reserved
    return private and address.is_private and (address.is_loopback or not address.is_reserved)


def _meant(address: Address) -> list[Address]:
    """The addresses that packets reach: the address itself, or the IPv4 addresses embedded in it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return [last]
    if address.ipv4_mapped or address.sixtofour:
        return [address.ipv4_mapped or address.sixtofour or last]
    if address.teredo:
        return list(address.teredo)  # the relay that is sent to, and the client behind it
    if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        return [address, last]
    return [address]
