"""Addresses on which the processes of this machine listen."""

import socket

_ANY_HOST = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # an address that reaches each wildcard


def reachable_host(host: str) -> str:
    """Address at which this machine reaches a process that listens on `host`.

    >>> reachable_host("::")
    '::1'
    """
    return _ANY_HOST.get(host.strip("[]"), host.strip("[]"))


def format_address(host: str, port: int) -> str:
    """Host and port as one text.

    >>> format_address("::", 8000), format_address("shop.local", 8000)
    ('[::]:8000', 'shop.local:8000')
    """
    bare_host = host.strip("[]")
    return f"[{bare_host}]:{port}" if ":" in bare_host else f"{bare_host}:{port}"


def base_url(host: str, port: int) -> str:
    """URL of a process that listens on `host`.

    >>> base_url("::", 8000)
    'http://[::1]:8000'
    """
    return f"http://{format_address(reachable_host(host), port)}"


def find_bind_error(host: str, port: int) -> str:
    """Reason why nobody can listen there now; empty if a process can."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""
