"""Bind the port of a server on IPv4, IPv6, or both."""

import socket


def bind(host: str, port: int, is_shared: bool = False, variable: str = "HEADRACE_SERVE__PORT") -> socket.socket:
    """Bind a TCP port; OSError if the host is unknown or another process uses the port.

    A shared port admits further processes that share it too. `::` accepts IPv4 as well. `variable`: name of the setting
    of the port, for the error.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            f"host {host!r} is no address of this machine ({reason}): set HEADRACE_SERVE__HOST to one"
        ) from None
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, is_shared)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(
            f"port {port} of {host} cannot be used ({error.strerror}): "
            f"stop the process that listens there, or set {variable} to a free port",
        ) from None
    return listener


def format_address(host: str, port: int) -> str:
    """Host and port as in a URL.

    >>> format_address("::1", 80), format_address("localhost", 80)
    ('[::1]:80', 'localhost:80')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
