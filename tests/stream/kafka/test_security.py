"""TLS, passwords and client certificates work with both clients.

kafka-python reads topic metadata for both clients, so it reports errors first. The errors of the confluent client,
for example after a password change at runtime, are tested with its producer alone.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from stream.drivers import open_log
from stream.kafka.url import CLIENTS
from tests.conftest import create_or_skip
from tests.support.certificates import KEY_PASSPHRASE, create_certificates
from tests.support.services import PASSWORD, USER, Kafka, Listener

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("security") / "keys"
    create_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def broker(keys: Path) -> Iterator[Kafka]:
    keystore = {"ssl.keystore.type": "PEM", "ssl.keystore.location": f"{keys}/server.store"}
    truststore = {"ssl.truststore.type": "PEM", "ssl.truststore.location": f"{keys}/ca.pem"}
    listeners = (
        Listener("TLS", "SSL", keystore),
        Listener("KNOWN", "SSL", {**keystore, **truststore, "ssl.client.auth": "required"}),
        Listener(
            "SCRAM",
            "SASL_SSL",
            {**keystore, "sasl.enabled.mechanisms": "SCRAM-SHA-256", "scram-sha-256.sasl.jaas.config": SCRAM},
        ),
    )
    kafka = create_or_skip(lambda: Kafka(keys.parent / "kafka", listeners))
    kafka.start()
    yield kafka
    kafka.stop()


def make_url(broker: Kafka, listener: str, **settings: str) -> str:
    parameters = "&".join(f"{name}={value}" for name, value in settings.items())
    return f"kafka://{broker.addresses[listener]}?patience=1&{parameters}"


def tls_settings(keys: Path, authority: str = "ca") -> dict[str, str]:
    return {"security_protocol": "SSL", "ssl_cafile": f"{keys}/{authority}.pem"}


def certificate_settings(keys: Path) -> dict[str, str]:
    return {"ssl_certfile": f"{keys}/client.pem", "ssl_keyfile": f"{keys}/client.key", "ssl_password": KEY_PASSPHRASE}


def sasl_settings(keys: Path, password: str, authority: str = "ca") -> dict[str, str]:
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256"}
    return tls_settings(keys, authority) | sasl | {"sasl_username": USER, "sasl_password": password}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("listener", ["TLS", "KNOWN", "SCRAM"])
def test_secured_listener_carries_records_both_ways(broker: Kafka, keys: Path, listener: str, client: str) -> None:
    settings = {
        "TLS": tls_settings(keys),
        "KNOWN": tls_settings(keys) | certificate_settings(keys),
        "SCRAM": sasl_settings(keys, PASSWORD),
    }
    log = open_log(make_url(broker, listener, **settings[listener], client=client), f"{uuid4()}.")
    log.create("events", 2)
    log.append("events", 1, [(b"k", b"v")] * 3)
    source = log.open_source("events", "g")
    (records,) = source.next_batch(10, timeout=20.0)
    log.close()

    assert (records.partition, list(records.values)) == (1, [b"v"] * 3)


def run_failing_script(script: str, url: str) -> str:
    """Last line of the error in a new process; the clients leak connections that fail."""
    process = subprocess.run(
        [sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode, process.stdout
    return process.stderr.strip().split("\n")[-1]


CONNECT_SCRIPT = """
import sys
from stream.drivers import open_log
open_log(sys.argv[1], "knock.").create("events", 1)
"""
SEND_SCRIPT = """
import sys
from stream.kafka.libraries import load_client
from stream.kafka.url import parse_url
settings = parse_url(sys.argv[1])
load_client(settings).open_producer(settings).send("events", [(0, [(b"k", b"v")])])
"""


@pytest.mark.parametrize(
    ("listener", "error"),
    [
        pytest.param(
            "TLS", "TLS handshake failed .*certificate verify failed.*correct ssl_cafile", id="another authority"
        ),
        pytest.param("KNOWN", "TLS handshake failed .*certificate.*correct .*ssl_certfile", id="no certificate"),
        pytest.param("SCRAM", "rejects the connection: .*sasl_password", id="wrong password"),
    ],
)
def test_connection_error_shows_the_fix(broker: Kafka, keys: Path, listener: str, error: str) -> None:
    settings = {
        "TLS": tls_settings(keys, "stranger"),
        "KNOWN": tls_settings(keys),
        "SCRAM": sasl_settings(keys, "wrong-password"),
    }
    output = run_failing_script(CONNECT_SCRIPT, make_url(broker, listener, **settings[listener]))

    assert re.match(f"PermissionError: .*{error}", output), output
    assert "wrong-password" not in output


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        pytest.param("authority", "ssl_cafile", id="another authority"),
        pytest.param("password", "sasl_password", id="wrong password"),
    ],
)
def test_confluent_producer_error_shows_the_fix(broker: Kafka, keys: Path, wrong: str, error: str) -> None:
    password, authority = (PASSWORD, "stranger") if wrong == "authority" else ("wrong-password", "ca")
    settings = sasl_settings(keys, password, authority)
    output = run_failing_script(SEND_SCRIPT, make_url(broker, "SCRAM", **settings, client="confluent"))

    assert re.match(f"PermissionError: .*{error}", output), output
    assert "wrong-password" not in output


def test_missing_key_file_error_names_the_file(broker: Kafka, keys: Path) -> None:
    output = run_failing_script(CONNECT_SCRIPT, make_url(broker, "TLS", **tls_settings(keys, "nowhere")))

    assert re.match(r"PermissionError: .*No such file.*nowhere\.pem.*correct ssl_cafile", output), output
