"""Load the Kafka client library that the log URL asks for."""

from stream.kafka.clients import ClientLibrary
from stream.kafka.url import KafkaSettings


def load_client(settings: KafkaSettings) -> ClientLibrary:
    """Import the client that the log URL selects; ValueError if its package is not installed."""
    try:
        if settings.client == "confluent":
            from stream.kafka import confluent

            return confluent
        from stream.kafka.kafka_python import client

        return client
    except ModuleNotFoundError as error:
        message = f"client={settings.client} in the log URL needs the package {error.name}"
        raise ValueError(f"{message}: pip install 'headrace[fast-kafka]'") from error
