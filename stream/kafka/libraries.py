"""Load the Kafka client library that the log URL asks for."""

from stream.kafka.clients import Client
from stream.kafka.url import Brokers


def client_of(brokers: Brokers) -> Client:
    """The client that the log url asks for."""
    try:
        if brokers.client == "confluent":
            from stream.kafka import confluent

            return confluent
        from stream.kafka.kafka_python import client

        return client
    except ModuleNotFoundError as error:
        raise ValueError(
            f"client={brokers.client} in the log url needs the package {error.name}: pip install 'headrace[fast-kafka]'"
        ) from error
