"""Find out why a broker rejects a connection; kafka-python reports only that it tried."""

import logging
import socket
import ssl
from collections.abc import Mapping
from functools import cache

from stream.kafka.url import KafkaSettings
from stream.process.outages import OutageLog

_logger = logging.getLogger(__name__)
_TIMEOUT = 1.0  # seconds


@cache
def connection_outage(settings_text: str) -> OutageLog:
    """Log of the outages of a cluster, which all clients of this process share.

    The libraries log every attempt of every connection to connect again; they are silenced.
    """
    return OutageLog(
        lambda reason: _logger.warning("%s does not answer; retrying (%s)", settings_text, reason),
        lambda: _logger.info("%s answers again", settings_text),
    )


def diagnose(settings: KafkaSettings) -> str:
    """Cause of a rejected connection and its fix; empty if nothing listens at the address."""
    host, _, port = settings.servers[0].rpartition(":")
    host = host.strip("[]")  # an IPv6 address
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT) as connection:
            uses_tls = settings.security.get("security_protocol", "").endswith("SSL")
            error_text = _find_tls_error(connection, host, settings.security) if uses_tls else ""
    except OSError:
        return ""
    if error_text:
        return describe_tls_error(error_text)
    fix = "correct security_protocol, sasl_mechanism, sasl_username and sasl_password in HEADRACE_LOG__URL"
    return f"a broker listens there but rejects the connection: {fix}"


def describe_unreadable(place: str, detail: str) -> str:
    """Sentence about records that no retry makes readable, with the way out."""
    return (
        f"records at {place} cannot be read ({detail[:300]}): the records before them are processed; restore the topic,"
        " or skip these with kafka-delete-records.sh, which deletes all below an offset, and start again"
    )


def describe_tls_error(error_text: str) -> str:
    fix = "correct ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password in HEADRACE_LOG__URL"
    return f"the TLS handshake failed ({error_text}): {fix}"


def _find_tls_error(connection: socket.socket, host: str, security: Mapping[str, str]) -> str:
    """Error of a TLS handshake with the settings of the client; empty if it succeeds."""
    try:
        context = ssl.create_default_context(cafile=security.get("ssl_cafile"))
        if certificate := security.get("ssl_certfile"):
            context.load_cert_chain(certificate, security.get("ssl_keyfile"), security.get("ssl_password", ""))
    except OSError as error:  # a missing file, an invalid certificate, or a wrong key password
        files = [security[name] for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if name in security]
        return f"{error}, in {', '.join(files)}"
    try:
        with context.wrap_socket(connection, server_hostname=host) as tls_socket:
            tls_socket.recv(1)  # a broker that requires a certificate says so now; others send nothing
    except TimeoutError:
        return ""
    except OSError as error:
        return str(error)
    return "the broker closed the connection"
