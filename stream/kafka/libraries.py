"""Load the Kafka client library that the log URL asks for."""

from stream.kafka.clients import ClientLibrary
from stream.kafka.url import KafkaSettings


def load_client(settings: KafkaSettings) -> ClientLibrary:
    """The client that the log url asks for."""
    try:
        if settings.client == "confluent":
            from stream.kafka import confluent

            return confluent
        from stream.kafka.kafka_python import client

        return client
    except ModuleNotFoundError as error:
        raise ValueError(
            f"client={settings.client} in the log url needs the package {error.name}: pip install 'headrace[fast-kafka]'"
        ) from error
