"""Prometheus metrics on a port of their own."""

from prometheus_client import start_http_server


def serve_metrics(host: str, port: int, setting: str) -> None:
    """Serve the metrics at an address of this machine; port 0 disables it."""
    if port == 0:
        return
    try:
        start_http_server(port, host.strip("[]"))
    except OSError as error:
        raise OSError(
            f"metrics port {port} of {host} cannot be used ({error.strerror}); "
            f"set {setting} to a free port, or HEADRACE_SERVE__HOST to an address of this machine"
        ) from None
