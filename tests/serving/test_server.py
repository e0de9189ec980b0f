"""A server does not share its port with another process."""

import socket
from threading import Event as Signal

import pytest

from serving.server import serve_http
from stream.config import ServeSettings, Settings


def test_port_in_use_error_shows_the_fix() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(OSError, match=rf"port {port} of 127.0.0.1 .* set HEADRACE_SERVE__PORT to a free port"):
            serve_http(Settings(serve=ServeSettings(port=port)), Signal())
