"""Settings, read once from headrace.toml and HEADRACE_… variables, then immutable."""

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from stream.process.secrets import mask_url

PREFIX = "HEADRACE_"
PolicyName = Literal["thompson", "ucb", "squarecb", "epsilon", "linucb", "linear-thompson"]
_MIN_SIMILARITY = 0.5  # of a name that an error suggests, 0 to 1
_NOT_SETTINGS = {"HEADRACE_CONFIG", "HEADRACE_KEY", "HEADRACE_REQUIRE_SERVICES"}
# Variables that Kubernetes sets in every container for a service named headrace or headrace-…, with their values.
_ORIGIN = re.compile(r"https?://[^/?#\s]+/?")  # as a browser sends it, without a path
_SERVICE_VARIABLES = (
    (re.compile(r"_SERVICE_HOST$"), re.compile(r"(None|[\d.]+|[\da-fA-F:]*:[\da-fA-F:.]*)")),
    (re.compile(r"_SERVICE_PORT(_[A-Z0-9_]+)?$"), re.compile(r"\d+")),
    (re.compile(r"_PORT(_\d+_(TCP|UDP|SCTP))?$"), re.compile(r"(tcp|udp|sctp)://.+")),
    (re.compile(r"_PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)$"), re.compile(r".*")),
)


class SettingsError(ValueError):
    """Unknown setting or invalid value; the text names the setting, its value and the fix."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Section):
    """Files on this machine."""

    folder: Path = Field(Path("headrace-data"), description="Folder for checkpoints and for the embedded drivers.")


class LogSettings(_Section):
    """Event log."""

    url: str = Field(
        "", description="Event log: `local:PATH` or `kafka://host:port,…`. Empty: an embedded log in the data folder."
    )
    prefix: str = Field("", description="Prefix of every topic name and group name.")
    partitions: int = Field(
        1,
        ge=1,
        le=1024,
        description="Partitions of the topics events, users and examples when they are created; the maximum number of"
        " stream workers. It cannot change later.",
    )
    retention: float = Field(7 * 86400, gt=0, description="Seconds for which events and examples are kept.")


class StoreSettings(_Section):
    """User store."""

    url: str = Field(
        "",
        description="User store: `local:PATH`, `redis://…` or `rediss://…` (TLS). Empty: an embedded store in the data"
        " folder.",
    )
    prefix: str = Field("", description="Prefix of every key.")


class EventsSettings(_Section):
    """Validation of incoming events."""

    max_age: float = Field(
        30 * 86400, ge=0, description="Maximum age of an event in seconds; older events are rejected. 0: no limit."
    )
    max_skew: float = Field(
        300, ge=0, description="Maximum seconds by which an event may be ahead of this machine's clock."
    )
    disliked_stars: float = Field(
        2.0, description="Ratings of at most so many stars are dislikes: of the item, for the user's taste. -1: none."
    )
    user_id_secret: str = Field(
        "",
        description="Secret with which `serve` and `produce` replace user and session ids by keyed hashes before they"
        " write or look up anything. Empty: ids stay as they are. It must never change.",
    )
    dedup_events: int = Field(
        2_000_000, ge=1000, description="Latest event ids per partition that are remembered to skip duplicates."
    )


class ItemsSettings(_Section):
    """Items that may be recommended."""

    catalog_only: bool = Field(
        False,
        description="Recommend items of the catalog only. Off: also items that events name, unless the catalog has"
        " deleted them.",
    )


class FieldsSettings(_Section):
    """Fields of items and users that the model learns from."""

    max: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Distinct fields, first come; those of later names are left out, counted and logged.",
    )
    include: str = Field(
        "",
        description="Names of the only fields to learn from, separated by commas, such as `creator,tags,country`."
        " Empty: all.",
    )
    exclude: str = Field("", description="Names of fields not to learn from, separated by commas.")


class StreamSettings(_Section):
    """Stream workers."""

    metrics_port: int = Field(9101, ge=0, le=65535, description="Prometheus port of `headrace stream`. 0: disabled.")
    batch: int = Field(8192, ge=1, le=100_000, description="Maximum records in a micro-batch.")
    linger: int = Field(
        50,
        ge=0,
        le=10_000,
        description="Minimum milliseconds between the starts of two micro-batches. Larger values raise the throughput"
        " and the latency.",
    )
    attribution_window: float = Field(
        1800, gt=0, description="Seconds after an impression during which actions are attributed to it."
    )
    allowed_lateness: float = Field(
        10, ge=0, description="Seconds by which events may arrive out of order without missing their impression."
    )
    cached_users: int = Field(
        16_384, ge=16, description="Users kept in memory per stream worker; others are read from the user store."
    )


class LearnSettings(_Section):
    """Learner."""

    metrics_port: int = Field(9102, ge=0, le=65535, description="Prometheus port of `headrace learn`. 0: disabled.")
    checkpoint_every: float = Field(60, gt=0, description="Seconds between checkpoints.")
    checkpoints_kept: int = Field(
        20, ge=2, description="Newest checkpoints that are kept, in addition to one per hour and one per day."
    )
    batch: int = Field(2048, ge=1, le=100_000, description="Maximum examples in a training step.")
    linger: int = Field(
        50,
        ge=0,
        le=10_000,
        description="Minimum milliseconds between the starts of two training steps. Larger values raise the throughput"
        " and the latency.",
    )
    seed: int = Field(0, ge=0, description="Random seed of training.")
    ranker: str = Field(
        "listnet",
        description="Ranker of `learn` and `serve` (the same in both): `listnet`, `ftrl`, `fm`, `deepfm`, an entry"
        " point of the group `headrace.models`, or `module:Class`. After a change the ranker starts untrained.",
    )


class GuardSettings(_Section):
    """Detection of drift and poison."""

    enabled: bool = Field(True, description="Quarantine poison and raise alarms. Off: neither.")
    max_repeated_actions_per_minute: float = Field(
        200,
        gt=0,
        description="Maximum actions per minute of one user that repeat an action on the same item; further ones are"
        " quarantined.",
    )
    max_unseen_slate_actions_per_minute: float = Field(
        60,
        gt=0,
        description="Maximum actions per minute of one user on slates that this user was not shown; further ones are"
        " quarantined.",
    )
    max_total_actions_per_minute: float = Field(
        6000, gt=0, description="Maximum actions per minute of one user; further ones are quarantined."
    )
    auto_remediate: bool = Field(
        True, description="Pause, roll back and exclude poisoned data without an operator. Off: alarms only."
    )
    false_alarms: float = Field(
        1.0, gt=0, le=100, description="False alarms per day that the detectors' thresholds allow in total."
    )


class ServeSettings(_Section):
    """HTTP and recommendations."""

    host: str = Field(
        "127.0.0.1",
        description="Address of HTTP and of the metrics ports of `stream` and `learn`. `0.0.0.0`: every IPv4 address;"
        " `::`: every address.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port on which HTTP listens.")
    processes: int = Field(
        1, ge=1, le=64, description="`headrace serve` processes that share the port under `headrace up`."
    )
    log_timeout: float = Field(
        1.8,
        gt=0,
        le=600,
        description="Seconds that a request waits for the event log before it gets 503. While the log does not answer,"
        " later requests get 503 at once; recommendations go on.",
    )
    lame_duck: float = Field(
        0,
        ge=0,
        le=600,
        description="Seconds after SIGTERM for which requests are still answered while `/readyz` gives 503, so that"
        " load balancers turn away first. Then running requests finish, and the process ends.",
    )
    admin_key: str = Field(
        "",
        description="Bearer token of the admin routes; it opens all other routes as well. Several keys are separated by"
        " commas, so that a new one can replace an old one. Empty: the admin routes reject every request.",
    )
    ingest_key: str = Field(
        "",
        description="Bearer token of the routes that write events and items; several as above. Empty: they are open.",
    )
    recommend_key: str = Field(
        "",
        description="Bearer token of the routes that return recommendations, items and the lag; several as above."
        " Empty: they are open. With this key or `serve.ingest_key`, the routes of users need the admin key.",
    )
    cors_origins: str = Field(
        "",
        description="Origins of web pages that may call the API from a browser, separated by commas, such as"
        " `https://shop.example`; `*` allows all. Empty: none.",
    )
    exploration_rate: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of slate positions for exploration. At most 0.5 when the scope is `fresh`.",
    )
    exploration_scope: Literal["fresh", "slate"] = Field(
        "fresh",
        validate_default=True,
        description="Items that exploration can select: `fresh` (new items only) or `slate` (any of the best"
        " candidates).",
    )
    exploration_budget: float = Field(
        5.0, gt=0, description="Maximum expected clicks lost to exploration per 1,000 slate positions."
    )
    exploration_min_probability: float = Field(
        1e-5,
        gt=0,
        le=0.5,
        description="Minimum selection probability of an item in an exploration draw (uniform for more than 1 / minimum"
        " items). An item that only exploration can show has at least this propensity times the share of explored"
        " positions: `serve.exploration_rate`, or less when `serve.exploration_budget` limits it.",
    )
    exploration_max_probability: float = Field(
        1.0,
        ge=0.5,
        le=1,
        description="Maximum selection probability of an item in the first exploration draw of a slate with several"
        " items. In later draws the remaining items share the probability of those drawn. The next item by rank fills"
        " a position without a draw, so its propensity can be higher.",
    )
    cold_start_impressions: int = Field(
        100, ge=1, description="Impressions after which an item is no longer new for exploration."
    )
    policy: PolicyName = Field(
        "thompson",
        description="Exploration policy: thompson, ucb, squarecb, epsilon, linucb or linear-thompson.",
    )
    candidates: int = Field(200, ge=10, le=10_000, description="Maximum candidates ranked per recommendation request.")
    rules: dict[str, dict[str, Any]] = Field(
        {},
        description="Rules of the slates of each surface, in sections such as `[serve.rules.home]` or as JSON; those of"
        " `default` are for all other surfaces. See docs/rules.md.",
    )
    max_queue: int = Field(
        512,
        ge=1,
        description="Maximum concurrent recommendation requests; excess requests get 503 with Retry-After.",
    )
    max_wait: float = Field(
        0.025,
        gt=0,
        le=60,
        description="Seconds that a recommendation request may be expected to wait for its turn; requests that would"
        " wait longer get 503 with Retry-After at once. A turn takes up to 16 requests; as many may always wait.",
    )
    seed: int = Field(0, ge=0, description="Random seed of exploration.")

    @field_validator("rules", mode="before")
    @classmethod
    def _parse_rules(cls, rules: object) -> object:
        try:
            return json.loads(rules) if isinstance(rules, str) else rules
        except ValueError as error:
            raise ValueError(f"expected rules by surface as JSON: {error}") from None

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: str) -> str:
        for origin in filter(None, map(str.strip, origins.split(","))):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"expected origins such as https://shop.example or http://localhost:3000, got {origin}"
                )
        return origins

    @field_validator("exploration_scope")
    @classmethod
    def _check_scope(cls, scope: str, info: ValidationInfo) -> str:
        rate = info.data.get("exploration_rate", 0)
        if scope == "fresh" and rate > 0.5:
            raise ValueError(f"expected slate, because serve.exploration_rate is {rate}, above 0.5")
        return scope


class LoggingSettings(_Section):
    """Log lines of all processes."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level of log lines: `debug`, `info`, `warning` or `error`."
    )
    format: Literal["text", "json"] = Field(
        "text", description="Format of log lines: `text`, or `json` (one object per line)."
    )


class Settings(_Section):
    """Settings of all processes; each process reads its own section and the shared ones."""

    data: DataSettings = DataSettings()
    log: LogSettings = LogSettings()
    store: StoreSettings = StoreSettings()
    events: EventsSettings = EventsSettings()
    items: ItemsSettings = ItemsSettings()
    fields: FieldsSettings = FieldsSettings()
    stream: StreamSettings = StreamSettings()
    learn: LearnSettings = LearnSettings()
    guard: GuardSettings = GuardSettings()
    serve: ServeSettings = ServeSettings()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        """Each process listens on a port of its own."""
        ports: dict[int, str] = {}
        for name, port in self.listening_ports.items():
            if port and port in ports:
                raise ValueError(f"{ports[port]} and {name} are both {port}: set one of them to another port")
            ports[port] = name
        return self

    @property
    def listening_ports(self) -> dict[str, int]:
        """Port by the name of its setting; 0 means any free port for HTTP, and no port for metrics."""
        return {
            "serve.port": self.serve.port,
            "stream.metrics_port": self.stream.metrics_port,
            "learn.metrics_port": self.learn.metrics_port,
        }

    @property
    def log_url(self) -> str:
        return self.log.url or f"local:{self.data.folder / 'log'}"

    @property
    def store_url(self) -> str:
        return self.store.url or f"local:{self.data.folder / 'users'}"

    @property
    def checkpoints(self) -> Path:
        return self.data.folder / "checkpoints"

    @property
    def installation(self) -> str:
        """Id that the processes of one installation share: a digest of the log's address and prefix."""
        url = re.sub("//[^@/]*@", "//", self.log_url.partition("?")[0])
        if url.startswith("local:"):
            url = str(Path(url.removeprefix("local:")).expanduser().resolve())
        return hashlib.sha256(f"{self.log.prefix}|{url}".encode()).hexdigest()[:12]


def iter_settings() -> Iterator[tuple[str, str, str]]:
    """Every setting as (section, name, description)."""
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        for name, inner in field.annotation.model_fields.items():
            yield section, name, inner.description or ""


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Load settings: defaults, overridden by the file, overridden by the environment."""
    config_path = path or Path(environ.get("HEADRACE_CONFIG", "headrace.toml"))
    values = _read_file(config_path, must_exist=path is not None or "HEADRACE_CONFIG" in environ)
    for section, name, value in _read_environment(environ):
        values.setdefault(section, {})[name] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_describe_error(error.errors()[0], config_path)) from None


def _describe_error(error: ErrorDetails, path: Path) -> str:
    """Message with the setting, its value, the expected values and the places to correct it."""
    name = ".".join(str(part) for part in error["loc"])
    if not name:  # two settings contradict each other; the input has all of them, keys included
        return f"{error['msg'].removeprefix('Value error, ')}, in {path} or the environment"
    value = _show_value(name, error["input"])
    if name in Settings.model_fields:
        example = next(setting for section, setting, _ in iter_settings() if section == name)
        return f"[{name}] in {path} is {value}; expected a table, as in [{name}] with a line {example} = …"
    message = f"setting {name} is {value}: {error['msg'].removeprefix('Value error, ').lower()}"
    if error["type"] == "literal_error":
        valid = re.findall("'([^']*)'", error["ctx"]["expected"])
        message += f"; the nearest is {difflib.get_close_matches(str(error['input']), valid, 1, 0)[0]!r}"
    variable = _variables_by_setting().get(name)
    return f"{message}; correct {variable} or {name} in {path}" if variable else f"{message}; correct it in {path}"


def variable_name(setting: str) -> str:
    """Environment variable of a setting.

    >>> variable_name("serve.port")
    'HEADRACE_SERVE__PORT'
    """
    return f"{PREFIX}{setting.upper().replace('.', '__')}"


def _show_value(name: str, value: object) -> str:
    """Value of a setting as an error message shows it: without secrets."""
    if name.endswith(("key", "password", "secret", "token")):
        return "'***'"
    if name.endswith("url"):
        return repr(mask_url(value)) if isinstance(value, str) else f"a {type(value).__name__}"
    return repr(value)


def _variables_by_setting() -> dict[str, str]:
    return {name: variable_name(name) for name in (f"{section}.{setting}" for section, setting, _ in iter_settings())}


def _read_file(path: Path, must_exist: bool) -> dict[str, dict[str, Any]]:
    fix = "create it, or correct HEADRACE_CONFIG or --config"
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(f"settings file {path} does not exist: {fix}") from None
        return {}
    except OSError as error:
        reason = f"{(error.strerror or str(error)).lower()}"
        raise SettingsError(f"settings file {path} cannot be read ({reason}): make it a readable file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise SettingsError(f"settings file {path} is not valid TOML: {reason}") from None
    valid_names = list(_variables_by_setting())
    for section, inner in values.items():
        if section in Settings.model_fields and not isinstance(inner, dict):
            continue  # the validation shows the expected form
        for name in inner if isinstance(inner, dict) else [None]:
            full = f"{section}.{name}" if name else section
            if full not in valid_names:
                raise SettingsError(f"{path} has an unknown setting {full!r}; {_suggest_name(full, valid_names)}")
    return values


def _read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    variables = {variable: name for name, variable in _variables_by_setting().items()}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS:
            continue
        if variable not in variables:
            if _is_service_variable(variable, environ[variable]):
                continue
            raise SettingsError(f"{variable} is an unknown setting; {_suggest_name(variable, list(variables))}")
        section, name = variables[variable].split(".")
        yield section, name, environ[variable]


def _is_service_variable(variable: str, value: str) -> bool:
    """Return True for a variable that Kubernetes derives from the name of a service."""
    name = variable.removeprefix(PREFIX.removesuffix("_"))
    return "__" not in name and any(shape.search(name) and form.fullmatch(value) for shape, form in _SERVICE_VARIABLES)


def _suggest_name(name: str, valid_names: list[str]) -> str:
    by_short_name = {valid_name.removeprefix(PREFIX): valid_name for valid_name in valid_names}
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), by_short_name, 1, _MIN_SIMILARITY)
    if not nearest:
        return f"no valid name is near; expected one such as {valid_names[0]!r}, see docs/reference/settings.md"
    return f"the nearest valid name is {by_short_name[nearest[0]]!r}"
