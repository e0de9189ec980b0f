"""A broker that insists on TLS, on a password, on a certificate: by the settings of the log url alone, both clients.

Looks into topics go by kafka-python whichever client moves the records, so what is wrong is said by it first. That
the other one would say it as clearly, when a password changes while it runs say, is asked of its sender by itself.
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
from tests.conftest import made, needed
from tests.support.services import PASSWORD, USER, Door, Kafka

SECRET = "of the key"
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2")
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def certificates(folder: Path) -> None:
    """Two authorities that know nothing of each other, and of the first one a broker and a client."""
    folder.mkdir()
    for name in ("ca", "stranger"):
        openssl(folder, *EC, "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    openssl(folder, *EC, *signed, "-nodes", "-subj", "/CN=broker", "-keyout", "broker.key", "-out", "broker.pem")
    secret = ("-passout", f"pass:{SECRET}")
    openssl(folder, *EC, *signed, *secret, "-subj", "/CN=client", "-keyout", "client.key", "-out", "client.pem")
    (folder / "broker.store").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())


def openssl(folder: Path, *words: str) -> None:
    program = needed("openssl", "openssl")
    subprocess.run([program, "req", "-x509", *words], cwd=folder, capture_output=True, timeout=60, check=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("security") / "keys"
    certificates(folder)
    return folder


@pytest.fixture(scope="module")
def broker(keys: Path) -> Iterator[Kafka]:
    own = {"ssl.keystore.type": "PEM", "ssl.keystore.location": f"{keys}/broker.store"}
    trusted = {"ssl.truststore.type": "PEM", "ssl.truststore.location": f"{keys}/ca.pem"}
    doors = (
        Door("TLS", "SSL", own),
        Door("KNOWN", "SSL", {**own, **trusted, "ssl.client.auth": "required"}),
        Door(
            "SCRAM",
            "SASL_SSL",
            {**own, "sasl.enabled.mechanisms": "SCRAM-SHA-256", "scram-sha-256.sasl.jaas.config": SCRAM},
        ),
    )
    kafka = made(lambda: Kafka(keys.parent / "kafka", doors))
    kafka.start()
    yield kafka
    kafka.stop()


def way_in(broker: Kafka, door: str, **settings: str) -> str:
    words = "&".join(f"{name}={value}" for name, value in settings.items())
    return f"kafka://{broker.addresses[door]}?patience=1&{words}"


def tls(keys: Path, authority: str = "ca") -> dict[str, str]:
    return {"security_protocol": "SSL", "ssl_cafile": f"{keys}/{authority}.pem"}


def certificate(keys: Path) -> dict[str, str]:
    return {"ssl_certfile": f"{keys}/client.pem", "ssl_keyfile": f"{keys}/client.key", "ssl_password": SECRET}


def password(keys: Path, said: str, authority: str = "ca") -> dict[str, str]:
    asked = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256"}
    return tls(keys, authority) | asked | {"sasl_username": USER, "sasl_password": said}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("door", ["TLS", "KNOWN", "SCRAM"])
def test_records_go_through_a_guarded_door_both_ways(broker: Kafka, keys: Path, door: str, client: str) -> None:
    settings = {"TLS": tls(keys), "KNOWN": tls(keys) | certificate(keys), "SCRAM": password(keys, PASSWORD)}
    log = open_log(way_in(broker, door, **settings[door], client=client), f"{uuid4()}.")
    log.create("events", 2)
    log.append("events", 1, [(b"k", b"v")] * 3)
    source = log.source("events", "g")
    (records,) = source.next_batch(10, timeout=20.0)
    log.close()

    assert (records.partition, list(records.values)) == (1, [b"v"] * 3)


def told(script: str, url: str) -> str:
    """What another process is told last; the clients leave open what they could not connect."""
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode, done.stdout
    return done.stderr.strip().split("\n")[-1]


KNOCK = """
import sys
from stream.drivers import open_log
open_log(sys.argv[1], "knock.").create("events", 1)
"""
SEND = """
import sys
from stream.kafka.libraries import client_of
from stream.kafka.url import parse_url
brokers = parse_url(sys.argv[1])
client_of(brokers).open_sender(brokers).send("events", [(0, [(b"k", b"v")])])
"""


@pytest.mark.parametrize(
    ("door", "fault"),
    [
        pytest.param("TLS", "TLS does not .*certificate verify failed.*correct ssl_cafile", id="another authority"),
        pytest.param("KNOWN", "TLS does not .*certificate.*correct .*ssl_certfile", id="no certificate"),
        pytest.param("SCRAM", "lets nobody in: .*sasl_password", id="wrong password"),
    ],
)
def test_what_keeps_a_process_out_is_said_with_its_mend(broker: Kafka, keys: Path, door: str, fault: str) -> None:
    settings = {"TLS": tls(keys, "stranger"), "KNOWN": tls(keys), "SCRAM": password(keys, "not-the-one")}
    said = told(KNOCK, way_in(broker, door, **settings[door]))

    assert re.match(f"PermissionError: .*{fault}", said), said
    assert "not-the-one" not in said


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        pytest.param("authority", "ssl_cafile", id="another authority"),
        pytest.param("password", "sasl_password", id="wrong password"),
    ],
)
def test_the_other_clients_sender_says_it_too(broker: Kafka, keys: Path, wrong: str, fault: str) -> None:
    settings = password(keys, PASSWORD, "stranger") if wrong == "authority" else password(keys, "not-the-one")
    said = told(SEND, way_in(broker, "SCRAM", **settings, client="confluent"))

    assert re.match(f"PermissionError: .*{fault}", said), said
    assert "not-the-one" not in said


def test_a_file_of_keys_that_is_not_there_is_named(broker: Kafka, keys: Path) -> None:
    said = told(KNOCK, way_in(broker, "TLS", **tls(keys, "nowhere")))

    assert re.match(r"PermissionError: .*No such file.*nowhere\.pem.*correct ssl_cafile", said), said
