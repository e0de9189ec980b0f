"""A server does not share its port with a stranger."""

import socket
from threading import Event as Signal

import pytest

from serving.server import serve_http
from stream.config import Serve, Settings


def test_a_port_that_somebody_listens_on_is_refused_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match=rf"port {port} of 127.0.0.1 .* set HEADRACE_SERVE__PORT to a free port"):
            serve_http(Settings(serve=Serve(port=port)), Signal())
