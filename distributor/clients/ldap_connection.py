"""An endpoint and credentials -> a connection of ldap3, encrypted and bound, or an Error that says why not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributor.clients import ldap_tls
from distributor.clients.ldap_results import SUCCESS, ldap_result, not_signed_in
from distributor.clients.ldap_url import LdapEndpoint
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

_STARTTLS = "1.3.6.1.4.1.1466.20037"


@dataclass(frozen=True)
class LdapBind:
    """The keys of every table with a directory."""

    url: str
    base: str  # the search base
    bind: str | None = None  # the bind DN; None: anonymous
    password: Secret | None = None
    starttls: bool = True  # false: ldap:// in clear, on this machine and anonymous only


def connect(place: LdapEndpoint, trust: ldap_tls.TlsWrapper, sign_in: LdapBind | None, key: str, seconds: int) -> Any:  # noqa: ANN401  ldap3 has no types
    """Connect and bind; anonymous without `sign_in`. Also raises ldap3's exceptions."""
    library = ldap_tls.library()
    encrypted = place.security == "tls"
    server = library.Server(place.host, port=place.port, use_ssl=encrypted, get_info=library.NONE, connect_timeout=seconds)
    server.tls = trust  # its own would be asked for by name
    connection = library.Connection(server, auto_referrals=False, auto_range=False, check_names=False, receive_timeout=seconds)
    try:
        connection.open(read_server_info=False)
        connection.socket = ldap_tls.BoundedSocket(connection.socket)
        if place.security == "starttls":
            _start_tls(connection, trust, str(place))
        _bind(library, connection, sign_in, key, str(place))
    except BaseException:
        disconnect(connection)
        raise
    return connection


def _start_tls(connection: Any, trust: ldap_tls.TlsWrapper, where: str) -> None:  # noqa: ANN401
    connection.extended(_STARTTLS)
    no = ldap_result(connection.result, Redactor())  # no credentials were sent yet
    if no.code != SUCCESS:
        hint = "set up TLS on the server, or use ldaps://; nothing is asked in clear"
        raise ServiceUnavailable(f"the server does not begin TLS: {no}", where=where, hint=hint)
    connection.socket = connection.socket.wrapped
    trust.wrap_socket(connection)
    connection.socket = ldap_tls.BoundedSocket(connection.socket)
    connection.tls_started = True


def _bind(library: Any, connection: Any, sign_in: LdapBind | None, key: str, where: str) -> None:  # noqa: ANN401
    if sign_in is None or sign_in.bind is None or sign_in.password is None:
        return  # a connection is anonymous before a bind (RFC 4513 4)
    if not sign_in.password:
        raise InvalidInput("empty", where=f"{key}.password", hint="an empty password signs nobody in, and servers say yes to it")
    connection.authentication, connection.user = library.SIMPLE, sign_in.bind
    connection.password = sign_in.password.reveal()
    try:
        connection.bind(read_server_info=False)
        no = ldap_result(connection.result, Redactor([sign_in.password]))
    finally:
        connection.password = connection.request = None  # the request contains it too
    if no.code != SUCCESS:
        raise not_signed_in(no, where, key)


def disconnect(connection: Any) -> None:  # noqa: ANN401
    """Unbind and close, whatever fails."""
    line = connection.socket
    with suppress(Exception):  # whatever a hostile or stopping server causes
        connection.unbind()
    if line is not None:
        line.close()
