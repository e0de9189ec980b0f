"""Settings: read once from headrace.toml and HEADRACE_… variables, frozen, handed on."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

PREFIX = "HEADRACE_"
PolicyName = Literal["thompson", "ucb", "squarecb", "epsilon", "linucb", "linear-thompson"]
_NOT_SETTINGS = {"HEADRACE_CONFIG", "HEADRACE_REQUIRE_SERVICES"}


class SettingsError(ValueError):
    """A setting is unknown or has a value it cannot take; the text says which and what is expected."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Section):
    folder: Path = Field(
        Path("headrace-data"), description="where checkpoints and the embedded drivers keep their files"
    )


class LogSettings(_Section):
    url: str = Field("", description="event log: local:PATH or kafka://host:port,…; empty: local, in the data folder")
    prefix: str = Field("", description="goes before every topic and group name")
    partitions: int = Field(
        1, ge=1, le=1024, description="partitions of events, users and examples, when first created"
    )
    retention: float = Field(7 * 86400, gt=0, description="seconds that events are kept")


class StoreSettings(_Section):
    url: str = Field("", description="user store: local:PATH or redis://…; empty: local, in the data folder")
    prefix: str = Field("", description="goes before every key")


class EventsSettings(_Section):
    max_age: float = Field(30 * 86400, ge=0, description="seconds; older events are refused; 0 takes events of any age")
    max_skew: float = Field(300, ge=0, description="seconds that a producer's clock may be ahead")
    dedup_events: int = Field(
        2_000_000, ge=1000, description="event ids per partition within which a repeat is recognised"
    )


class StreamSettings(_Section):
    metrics_port: int = Field(9101, ge=0, le=65535, description="Prometheus port of `headrace stream`; 0: none")
    batch: int = Field(8192, ge=1, le=100_000, description="records in a micro-batch at most")
    linger: int = Field(
        50, ge=0, le=10_000, description="ms from one micro-batch to the next at least: it pays to wait"
    )
    attribution_window: float = Field(1800, gt=0, description="seconds for which an impression waits for actions")
    allowed_lateness: float = Field(10, ge=0, description="seconds by which events may come out of order")
    cached_users: int = Field(16_384, ge=16, description="users kept in memory; the rest are read from the store again")


class LearnSettings(_Section):
    metrics_port: int = Field(9102, ge=0, le=65535, description="Prometheus port of `headrace learn`; 0: none")
    checkpoint_every: float = Field(60, gt=0, description="seconds between checkpoints")
    checkpoints_kept: int = Field(20, ge=2, description="newest checkpoints kept, besides one an hour and one a day")
    batch: int = Field(2048, ge=1, le=100_000, description="examples in a step at most")
    linger: int = Field(50, ge=0, le=10_000, description="ms from one step to the next at least: it pays to wait")
    seed: int = Field(0, ge=0, description="seed of all chance in learning")


class GuardSettings(_Section):
    enabled: bool = Field(True, description="hold back what must not be learnt, and raise alarms")
    max_repeated_actions_per_minute: float = Field(
        200, gt=0, description="actions a minute of one person on items just acted on: more are quarantined"
    )
    max_unseen_slate_actions_per_minute: float = Field(
        60, gt=0, description="actions a minute of one person on slates they were not shown: more are quarantined"
    )
    max_total_actions_per_minute: float = Field(
        6000, gt=0, description="actions a minute of one person: more are quarantined"
    )
    auto_remediate: bool = Field(True, description="hold, roll back and skip without being told; off: alarms alone")
    false_alarms: float = Field(1.0, gt=0, le=100, description="false alarms a day that are put up with")


class ServeSettings(_Section):
    host: str = Field("127.0.0.1", description="address that HTTP listens on")
    port: int = Field(8000, ge=0, le=65535, description="port that HTTP listens on")
    processes: int = Field(1, ge=1, le=64, description="`headrace serve` processes that share the port under `up`")
    admin_key: str = Field("", description="key of the admin routes; empty: they refuse everyone")
    exploration_rate: float = Field(
        0.1, ge=0, le=1, description="share of a slate's places that are given by chance; to fresh items 0.5 at most"
    )
    exploration_scope: Literal["fresh", "slate"] = Field(
        "fresh",
        validate_default=True,
        description="what those places may go to: fresh (items), or slate (any of the best candidates)",
    )
    exploration_budget: float = Field(
        5.0, gt=0, description="clicks that exploring may be expected to lose per 1,000 places"
    )
    exploration_min_probability: float = Field(
        1e-5,
        gt=0,
        le=0.5,
        description="least chance of an item in a draw (of more than 1 / floor items all have the same); an item that"
        " only a draw can put into a place has at least this propensity there, times the share of places drawn:"
        " `serve.exploration_rate`, or less where `serve.exploration_budget` holds it back",
    )
    exploration_max_probability: float = Field(
        1.0,
        ge=0.5,
        le=1,
        description="greatest chance of an item in the first draw of a slate, if there are others; in later draws"
        " those left share the chances of those drawn. The next best by rank keeps its place where none is drawn, so"
        " its propensity may be greater",
    )
    cold_start_impressions: int = Field(100, ge=1, description="places shown after which an item is fresh no more")
    policy: PolicyName = Field(
        "thompson",
        description="how what is explored is weighed: thompson, ucb, squarecb, epsilon, linucb or linear-thompson",
    )
    candidates: int = Field(200, ge=10, le=10_000, description="candidates ranked for one answer at most")
    max_queue: int = Field(512, ge=1, description="answers under way at most; more are told to come again")
    seed: int = Field(0, ge=0, description="seed of exploration")

    @field_validator("exploration_scope")
    @classmethod
    def _check_scope(cls, scope: str, info: ValidationInfo) -> str:
        if scope == "fresh" and info.data.get("exploration_rate", 0) > 0.5:
            raise ValueError("with serve.exploration_rate above 0.5 it must be slate")
        return scope


class Settings(_Section):
    """All settings of all processes; each process reads its section and the shared ones."""

    data: DataSettings = DataSettings()
    log: LogSettings = LogSettings()
    store: StoreSettings = StoreSettings()
    events: EventsSettings = EventsSettings()
    stream: StreamSettings = StreamSettings()
    learn: LearnSettings = LearnSettings()
    guard: GuardSettings = GuardSettings()
    serve: ServeSettings = ServeSettings()

    @property
    def log_url(self) -> str:
        return self.log.url or f"local:{self.data.folder / 'log'}"

    @property
    def store_url(self) -> str:
        return self.store.url or f"local:{self.data.folder / 'users'}"

    @property
    def checkpoints(self) -> Path:
        return self.data.folder / "checkpoints"


def iter_settings() -> Iterator[tuple[str, str, str]]:
    """Every setting as (section, name, what it is for)."""
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        for name, inner in field.annotation.model_fields.items():
            yield section, name, inner.description or ""


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process: defaults, then the file, then the environment."""
    config_path = path or Path(environ.get("HEADRACE_CONFIG", "headrace.toml"))
    values = _read_file(config_path, must_exist=path is not None or "HEADRACE_CONFIG" in environ)
    for section, name, value in _read_environment(environ):
        values.setdefault(section, {})[name] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        name = ".".join(str(part) for part in detail["loc"])
        message = f"setting {name} is {detail['input']!r}: {detail['msg'].lower()}"
        if detail["type"] == "literal_error":
            valid = re.findall("'([^']*)'", detail["ctx"]["expected"])
            message += f"; the nearest is {difflib.get_close_matches(str(detail['input']), valid, 1, 0)[0]!r}"
        raise SettingsError(message) from None


def _variables_by_setting() -> dict[str, str]:
    return {f"{section}.{name}": f"{PREFIX}{section.upper()}__{name.upper()}" for section, name, _ in iter_settings()}


def _read_file(path: Path, must_exist: bool) -> dict[str, dict[str, Any]]:
    if not path.exists():
        if must_exist:
            raise SettingsError(f"settings file {path} does not exist")
        return {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
    valid_names = list(_variables_by_setting())
    for section, inner in values.items():
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
            raise SettingsError(f"{variable} is an unknown setting; {_suggest_name(variable, list(variables))}")
        section, name = variables[variable].split(".")
        yield section, name, environ[variable]


def _suggest_name(name: str, valid_names: list[str]) -> str:
    return f"the nearest valid name is {difflib.get_close_matches(name, valid_names, 1, 0)[0]!r}"
