"""Producers of librdkafka, as other people's services have them."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4


def open_producer(kafka_url: str, **options: object) -> Any:
    """Open a producer with these settings of librdkafka."""
    from confluent_kafka import Producer

    return Producer({"bootstrap.servers": kafka_url.removeprefix("kafka://"), **options})


def run_transaction(kafka_url: str, topic: str, values: Sequence[bytes], is_committed: bool) -> None:
    """Send values in one transaction, which ends with a commit or an abort."""
    producer = open_producer(kafka_url, **{"transactional.id": str(uuid4())})
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, b"u")
    producer.flush(20)
    (producer.commit_transaction if is_committed else producer.abort_transaction)(20)
