"""Why a broker that listens lets nobody in: kafka-python says no more than that it tried."""

import socket
import ssl
from collections.abc import Mapping

from stream.kafka.url import KafkaSettings

_TIMEOUT = 1.0  # seconds


def diagnose(settings: KafkaSettings) -> str:
    """What is the matter, and how to mend it; empty if nobody listens there."""
    host, _, port = settings.servers[0].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT) as connection:
            uses_tls = settings.security.get("security_protocol", "").endswith("SSL")
            error_text = _find_tls_error(connection, host, settings.security) if uses_tls else ""
    except OSError:
        return ""
    if error_text:
        return describe_tls_error(error_text)
    fix = "correct security_protocol, sasl_mechanism, sasl_username and sasl_password in HEADRACE_LOG__URL"
    return f"a broker listens there but lets nobody in: {fix}"


def describe_tls_error(error_text: str) -> str:
    fix = "correct ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password in HEADRACE_LOG__URL"
    return f"TLS does not come about ({error_text}): {fix}"


def _find_tls_error(connection: socket.socket, host: str, security: Mapping[str, str]) -> str:
    """What a handshake as the client makes it comes to; empty if it succeeds."""
    try:
        context = ssl.create_default_context(cafile=security.get("ssl_cafile"))
        if certificate := security.get("ssl_certfile"):
            context.load_cert_chain(certificate, security.get("ssl_keyfile"), security.get("ssl_password", ""))
    except OSError as error:  # a file that is not there, or is no certificate, or a key that the password does not open
        files = [security[name] for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if name in security]
        return f"{error}, in {', '.join(files)}"
    try:
        with context.wrap_socket(connection, server_hostname=host) as tls_socket:
            tls_socket.recv(1)  # a broker that misses our certificate says so after the handshake; else it says nothing
    except TimeoutError:
        return ""
    except OSError as error:
        return str(error)
    return "the broker hung up"
