"""Parameters in the URL of a Redis."""

from urllib.parse import unquote_plus

# Names that the log URL uses, and redis-py's.
_ALIASES = {"ssl_cafile": "ssl_ca_certs"}


def parse_parameters(query: str) -> dict[str, str]:
    """Parameters by redis-py's names; ValueError for a part that is not name=value.

    >>> parse_parameters("ttl=60&ssl_cafile=%2Fca.pem")
    {'ttl': '60', 'ssl_ca_certs': '/ca.pem'}
    """
    parameters = {}
    for number, part in enumerate(query.split("&") if query else [], 1):
        name, separator, value = part.partition("=")
        if not separator or not name.isidentifier():
            raise ValueError(
                f"parameter {number} of the store URL is not name=value; write & and ? in a value as %26 and %3F"
            )
        parameters[_ALIASES.get(name, name)] = unquote_plus(value)
    return parameters
