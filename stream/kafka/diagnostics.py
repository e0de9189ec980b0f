"""Why a broker that listens lets nobody in: kafka-python says no more than that it tried."""

import socket
import ssl
from collections.abc import Mapping

from stream.kafka.url import Brokers

_PATIENCE = 1.0  # seconds


def why_refused(brokers: Brokers) -> str:
    """What is the matter, and how to mend it; empty if nobody listens there."""
    host, _, port = brokers.servers[0].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_PATIENCE) as line:
            is_asked = brokers.security.get("security_protocol", "").endswith("SSL")
            fault = _fault_of_tls(line, host, brokers.security) if is_asked else ""
    except OSError:
        return ""
    if fault:
        return no_tls(fault)
    mend = "correct security_protocol, sasl_mechanism, sasl_username and sasl_password in HEADRACE_LOG__URL"
    return f"a broker listens there but lets nobody in: {mend}"


def no_tls(fault: str) -> str:
    mend = "correct ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password in HEADRACE_LOG__URL"
    return f"TLS does not come about ({fault}): {mend}"


def _fault_of_tls(line: socket.socket, host: str, security: Mapping[str, str]) -> str:
    """What a handshake as the client makes it comes to; empty if it succeeds."""
    try:
        context = ssl.create_default_context(cafile=security.get("ssl_cafile"))
        if certificate := security.get("ssl_certfile"):
            context.load_cert_chain(certificate, security.get("ssl_keyfile"), security.get("ssl_password", ""))
    except OSError as error:  # a file that is not there, or is no certificate, or a key that the password does not open
        files = [security[name] for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if name in security]
        return f"{error}, in {', '.join(files)}"
    try:
        with context.wrap_socket(line, server_hostname=host) as secured:
            secured.recv(1)  # a broker that misses our certificate says so after the handshake; else it says nothing
    except TimeoutError:
        return ""
    except OSError as error:
        return str(error)
    return "the broker hung up"
