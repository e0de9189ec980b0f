"""Mask passwords before a person or a log sees them."""

import re

_MASK = "***"
# Parameters of the log and store URLs that hold no secret; the values of all others are masked, misspelled ones too.
_PUBLIC_PARAMETERS = frozenset(
    (
        "client", "replication", "member", "session", "patience", "security_protocol", "sasl_mechanism", "ttl",
        "cluster", "db", "protocol", "ssl_cafile", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs",
        "ssl_check_hostname",
    )
)  # fmt: skip
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"`<>]+", re.IGNORECASE)
# The form of a URL, as errors show it.
_FORM = re.compile(r"[a-z]+://(USER:PASSWORD@)?HOST:PORT(,…|/DB(\?NAME=VALUE)?)?")
_TRAILING = ":,;.)]}"  # punctuation of the sentence around a URL
_ASSIGNMENT = re.compile(
    r"(\b\w*(?:password|passwd|passphrase|secret|token|admin_key|admin__key)['\"]?\s*=\s*)"
    r"('[^']*'|\"[^\"]*\"|[^\s&'\",;)]+)",
    re.IGNORECASE,
)


def mask_url(url: str) -> str:
    """Show a URL without user, password and unknown parameters, however malformed it is.

    >>> mask_url("redis://app:pass@word@cache:6379/0?ttl=60&password=x")
    'redis://***@cache:6379/0?ttl=60&***'
    >>> mask_url("kafka://b1:9092,b2:9092"), mask_url("redis://app:secret/0"), mask_url("redis:secret")
    ('kafka://b1:9092,b2:9092', 'redis://app:***/0', 'redis:***')
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, separator, rest = url.partition(":")
        hides_rest = scheme != "local" and bool(rest)
        return f"{scheme}{separator}{_MASK}" if hides_rest else mask_assignments(url)
    address, mark, query = rest.partition("?")
    if "@" in query:  # the "?" may be part of the password, or the "@" part of a parameter
        return f"{scheme}://{_MASK}"
    user, at, hosts = address.rpartition("@")
    hosts = re.sub(r":(?!\d+(?:[/,]|$))(?![^\[,]*\])[^/,]+", f":{_MASK}", hosts)
    if scheme.startswith(("redis", "valkey")):  # the path is the number of a database
        hosts = re.sub(r"/(?!\d*$).*", f"/{_MASK}", hosts)
    parts = [part if part.partition("=")[0] in _PUBLIC_PARAMETERS else _MASK for part in query.split("&") if part]
    return f"{scheme}://{_MASK + at if user else at}{hosts}{mark}{'&'.join(dict.fromkeys(parts))}"


def mask_secrets(text: str) -> str:
    """Mask each URL and each `password=…` in a text.

    >>> mask_secrets("no answer from redis://app:s3cret@cache:6379/0: start it, or correct sasl_password=s3cret")
    'no answer from redis://***@cache:6379/0: start it, or correct sasl_password=***'
    """
    return mask_assignments(_URL.sub(_mask_match, text))


def _mask_match(match: re.Match[str]) -> str:
    url = match[0].rstrip(_TRAILING)
    return (url if _FORM.fullmatch(url) else mask_url(url)) + match[0][len(url) :]


def mask_assignments(text: str) -> str:
    return _ASSIGNMENT.sub(rf"\1{_MASK}", text)
