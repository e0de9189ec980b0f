"""`rediss://` with a certificate authority, client certificates, a password and a cluster."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.drivers import open_store
from stream.stores import StoreWatermark
from tests.conftest import create_or_skip
from tests.support.certificates import KEY_PASSPHRASE, create_certificates
from tests.support.services import Redis, find_program, free_ports

PASSWORD = "open-sesame"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "keys"
    create_certificates(folder)
    return folder


def tls_arguments(keys: Path, port: int) -> tuple[str, ...]:
    return (
        "--tls-port", str(port), "--tls-cert-file", f"{keys}/server.pem", "--tls-key-file", f"{keys}/server.key",
        "--tls-ca-cert-file", f"{keys}/ca.pem",
    )  # fmt: skip


@pytest.fixture(scope="module", params=["no", "yes"], ids=["server certificate", "client certificate"])
def address(request: pytest.FixtureRequest, keys: Path) -> Iterator[tuple[str, bool]]:
    """Address of a Redis with TLS and a password, and True if it requires a client certificate."""
    (port,) = free_ports(1)
    options = (*tls_arguments(keys, port), "--tls-auth-clients", request.param)
    redis = create_or_skip(lambda: Redis(keys.parent / request.param, arguments=options))
    redis.start()
    subprocess.run(
        [find_program("redis-cli", "redis-tools"), "-p", str(redis.port), "CONFIG", "SET", "requirepass", PASSWORD],
        check=True, capture_output=True,
    )  # fmt: skip
    yield f"127.0.0.1:{port}", request.param == "yes"
    redis.stop()


def make_url(address: str, keys: Path, authority: str = "ca", client: bool = False, password: str = PASSWORD) -> str:
    passphrase = KEY_PASSPHRASE.replace(" ", "%20")
    certificate = f"&ssl_certfile={keys}/client.pem&ssl_keyfile={keys}/client.key&ssl_password={passphrase}"
    return f"rediss://:{password}@{address}/3?ssl_cafile={keys}/{authority}.pem" + certificate * client


def test_tls_carries_users_both_ways(address: tuple[str, bool], keys: Path) -> None:
    store = open_store(make_url(address[0], keys, client=address[1]))
    store.put_many(np.array([1], np.uint64), [b"a"], [StoreWatermark(0, store.watermark(0), "1")])

    assert (store.get(1), store.watermark(0), store.health_problem()) == (b"a", "1", "")
    store.close()


GET_SCRIPT = """
import sys
from stream.drivers import open_store
for url in sys.argv[1:]:
    try:
        open_store(url).get(1)
    except OSError as error:
        print(error)
"""
CLUSTER_SCRIPT = """
import sys
import numpy as np
from stream.drivers import open_store
from stream.stores import StoreWatermark
store = open_store(sys.argv[1])
keys = np.arange(1, 65, dtype=np.uint64) << np.uint64(57)
store.put_many(keys, [b"x"] * keys.size, [StoreWatermark(0, "", "1")])
print(store.get_many(keys).count(b"x"))
store.close()
"""


def run_script(script: str, *arguments: str) -> str:
    """Output of a script in a new process."""
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True).stdout


def find_errors(*urls: str) -> list[str]:
    """Errors of reads in a new process; redis-py leaks connections whose handshake fails."""
    output = subprocess.run(
        [sys.executable, "-c", GET_SCRIPT, *urls], capture_output=True, text=True, check=True
    ).stdout
    assert PASSWORD not in output
    return output.splitlines()


def test_tls_error_shows_the_fix(address: tuple[str, bool], keys: Path) -> None:
    host, needs_certificate = address
    port = host.partition(":")[2]

    errors = find_errors(
        make_url(host, keys, "stranger"),
        make_url(f"localhost:{port}", keys, client=True),
        f"redis://{host}/0",
        make_url(host, keys, "nowhere"),
        make_url(host, keys, password="guessed", client=True),
        *([make_url(host, keys)] if needs_certificate else []),
    )
    expected = [
        "certificate verify failed.*correct ssl_cafile",
        "certificate is not valid for 'localhost'.*correct ssl_cafile",
        "start it, or correct HEADRACE_STORE__URL .rediss:// for a port with TLS",
        "ssl_cafile in the store URL cannot be read .No such file.*nowhere.pem",
        "correct user and password",
        *(["correct ssl_cafile, ssl_certfile"] if needs_certificate else []),
    ]

    assert len(errors) == len(expected), errors
    for error, pattern in zip(errors, expected, strict=True):
        assert re.search(pattern, error), error


def test_tls_of_a_plain_port_error_shows_the_fix(keys: Path, tmp_path: Path) -> None:
    redis = create_or_skip(lambda: Redis(tmp_path / "redis"))
    redis.start()

    (error,) = find_errors(make_url(f"127.0.0.1:{redis.port}", keys) + "&socket_timeout=0.5")
    redis.stop()

    assert "a port without TLS; check HEADRACE_STORE__URL" in error


def test_tls_files_need_the_scheme_of_tls(keys: Path) -> None:
    with pytest.raises(ValueError, match="of the store URL need TLS: write rediss://"):
        open_store(f"redis://127.0.0.1:1/0?ssl_cafile={keys}/ca.pem")


def test_cluster_with_tls_keeps_users(keys: Path, tmp_path: Path) -> None:
    ports = free_ports(3)
    nodes = [
        create_or_skip(
            lambda n=n, port=port: Redis(  # type: ignore[misc]
                tmp_path / str(n),
                cluster=True,
                arguments=(*tls_arguments(keys, port), "--tls-auth-clients", "no", "--tls-cluster", "yes"),
            )
        )
        for n, port in enumerate(ports)
    ]
    for node in nodes:
        node.start()
    tls = ["--tls", "--cacert", f"{keys}/ca.pem"]
    command = [find_program("redis-cli", "redis-tools"), *tls, "--cluster", "create"]
    command += [f"127.0.0.1:{port}" for port in ports] + ["--cluster-replicas", "0", "--cluster-yes"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    # In a process of its own: redis-py leaks the first connection to a cluster with TLS.
    output = run_script(CLUSTER_SCRIPT, f"rediss://127.0.0.1:{ports[0]}?cluster=true&ssl_cafile={keys}/ca.pem")
    for node in nodes:
        node.stop()

    assert output == "64\n"
