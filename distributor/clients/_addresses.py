"""A host's name -> addresses that may be connected to. Pure but for the question to the resolver.

What is asked is connected to: a name that means another address a moment later gains nothing.
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
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_METADATA = frozenset(  # clouds answer there with keys; some of these are public by their numbers, or would pass as private
    map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "169.254.169.254", "fd00:ec2::254"))
)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system knows them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def ask(resolver: Resolve, host: str, port: int) -> list[str]:
    """The same beside an event loop; a resolver that hangs holds up nobody, not even the program's end."""
    answer: Future[list[str]] = Future()
    answer.set_running_or_notify_cancel()  # from now on nobody can cancel it under the thread

    def work() -> None:
        try:
            answer.set_result(resolver(host, port))
        except Exception as error:  # noqa: BLE001  it is raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True, name="resolving").start()
    return await asyncio.wrap_future(answer)


def allowed(text: str, *, private: bool) -> bool:
    """Whether an address may be connected to: one of the internet, or with `private` also one of one's own networks and machine.

    Nobody's CRL lies at a multicast, unspecified or link-local address or where a cloud tells its machines their keys: never those.
    """
    try:
        address = _inner(ipaddress.ip_address(text))
    except ValueError:  # with a scope, which only link-local ones have
        return False
    if address in _METADATA or address.is_multicast or address.is_unspecified or address.is_link_local:
        return False
    return address.is_global and not address.is_reserved if not private else address.is_global or address.is_private


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address
