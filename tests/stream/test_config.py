"""Settings are read once; an invalid one stops the process and shows the fix."""

from pathlib import Path

import pydantic
import pytest

from stream.config import Settings, SettingsError, iter_settings, load, variable_name


def write_config(folder: Path, text: str) -> Path:
    path = folder / "headrace.toml"
    path.write_text(text)
    return path


def test_settings_without_a_file_are_the_defaults() -> None:
    assert load(environ={}) == Settings()


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[serve]\nport = 1111\nhost = '0.0.0.0'\n")
    settings = load(path, {"HEADRACE_SERVE__PORT": "2222", "OTHER": "x"})

    assert (settings.serve.port, settings.serve.host) == (2222, "0.0.0.0")


def test_environment_variable_names_the_file(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[learn]\nseed = 7\n")

    assert load(environ={"HEADRACE_CONFIG": str(path)}).learn.seed == 7


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("[serve]\nprot = 1\n", "serve.port"),
        ("[learn]\ncheckpoint_evry = 5\n", "learn.checkpoint_every"),
        ("[sreve]\nport = 1\n", "serve.port"),
        ("port = 5\n", "serve.port|log.prefix|serve.host"),
    ],
)
def test_unknown_name_in_the_file_suggests_the_nearest(tmp_path: Path, text: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=rf"unknown setting .* the nearest valid name is '({nearest})'"):
        load(write_config(tmp_path, text), {})


@pytest.mark.parametrize("variable", ["HEADRACE_FOO", "HEADRACE_ZZZZ"])
def test_variable_that_is_near_none_names_the_list(variable: str) -> None:
    with pytest.raises(SettingsError, match=rf"{variable} is an unknown .*; no valid name is near; .*settings\.md"):
        load(environ={variable: "1"})


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("HEADRACE_SERVE__PROT", "HEADRACE_SERVE__PORT"),
        ("HEADRACE_SERVE_PORT", "HEADRACE_SERVE__PORT"),
        ("HEADRACE_LEARN__CHECKPOINTEVERY", "HEADRACE_LEARN__CHECKPOINT_EVERY"),
    ],
)
def test_unknown_variable_suggests_the_nearest(variable: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable} is an unknown setting; the nearest valid name is '{nearest}'"):
        load(environ={variable: "1"})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "HEADRACE_SERVE__PORT",
            "many",
            "serve.port is 'many': .*; correct HEADRACE_SERVE__PORT or serve.port in .*toml",
        ),
        ("HEADRACE_SERVE__PORT", "", "setting serve.port is ''"),
        ("HEADRACE_SERVE__PORT", "70000", "setting serve.port is '70000': .*less than or equal to 65535"),
        ("HEADRACE_STREAM__ATTRIBUTION_WINDOW", "0", "setting stream.attribution_window is '0': .*greater than 0"),
        ("HEADRACE_STREAM__ATTRIBUTION_WINDOW", "inf", "setting stream.attribution_window is 'inf': .*finite"),
        ("HEADRACE_STREAM__ALLOWED_LATENESS", "nan", "setting stream.allowed_lateness is 'nan'"),
        ("HEADRACE_LEARN__CHECKPOINTS_KEPT", "1", "setting learn.checkpoints_kept is '1'"),
        ("HEADRACE_SERVE__CORS_ORIGINS", "https://a.example,shop.example", "expected origins .*, got shop.example"),
        ("HEADRACE_SERVE__CORS_ORIGINS", "https://a.example/shop", "expected origins .*, got https://a.example/shop"),
        ("HEADRACE_SERVE__POLICY", "tompson", "setting serve.policy is 'tompson': .*; the nearest is 'thompson'"),
        (
            "HEADRACE_SERVE__EXPLORATION_SCOPE",
            "slates",
            "setting serve.exploration_scope is 'slates': .*; the nearest is 'slate'",
        ),
        (
            "HEADRACE_SERVE__EXPLORATION_RATE",
            "0.7",
            "exploration_scope is 'fresh': expected slate, .*exploration_rate is 0.7",
        ),
    ],
)
def test_invalid_value_error_names_the_setting(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(environ={variable: value})


@pytest.mark.parametrize("text", ["serve = 3\n", "serve = 'x'\n", "[[serve]]\nport = 1\n", "serve = [1]\n"])
def test_section_that_is_no_table_error_shows_a_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"\[serve\] in .*toml is .*; expected a table, as in \[serve\] with a line"
    ):
        load(write_config(tmp_path, text), {})


def find_service_variables(service: str) -> dict[str, str]:
    """Variables that Kubernetes sets for a service with a named port."""
    name = service.upper().replace("-", "_")
    return {
        f"{name}_SERVICE_HOST": "10.0.171.239",
        f"{name}_SERVICE_PORT": "8000",
        f"{name}_SERVICE_PORT_HTTP": "8000",
        f"{name}_PORT": "tcp://10.0.171.239:8000",
        f"{name}_PORT_8000_TCP": "tcp://10.0.171.239:8000",
        f"{name}_PORT_8000_TCP_PROTO": "tcp",
        f"{name}_PORT_8000_TCP_PORT": "8000",
        f"{name}_PORT_8000_TCP_ADDR": "10.0.171.239",
        f"{name}_PORT_53_UDP": "udp://10.0.171.239:53",
        f"{name}_PORT_53_UDP_ADDR": "fd00::53",
    }


@pytest.mark.parametrize("service", ["headrace", "headrace-serve", "headrace-stream-metrics", "headrace-log-2"])
def test_variables_of_kubernetes_services_are_ignored(service: str) -> None:
    variables = find_service_variables(service)

    assert load(environ=variables) == Settings()
    assert load(environ=variables | {"HEADRACE_SERVE__PORT": "1"}).serve.port == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADRACE_SERVE_PORT", "9000"),
        ("HEADRACE_SERVE_HOST", "0.0.0.0"),
        ("HEADRACE_SERVICE_HOST", "localhost"),
        ("HEADRACE_STREAM_METRICS_PORT", "9101"),
        ("HEADRACE_SERVICE__PORT", "8000"),
        ("HEADRACE_LOG_URL", "kafka://b:1"),
    ],
)
def test_misspelled_setting_is_no_service_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable} is an unknown setting; the nearest valid name is"):
        load(environ={variable: value})


@pytest.mark.parametrize(
    "text",
    ["[serve]\nadmin_key = 314159265\n", "[store]\nurl = ['redis://:314159265@h:1']\n", "[log]\nurl = 314159265\n"],
)
def test_error_about_a_secret_hides_its_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="valid string") as error_info:
        load(write_config(tmp_path, text), {})

    assert "314159265" not in str(error_info.value)


def test_settings_file_that_is_a_folder_gives_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"settings file {tmp_path} cannot be read .is a directory.: make it a"):
        load(tmp_path, {})


@pytest.mark.parametrize("content", [b"[serve", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_invalid_toml_error_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "headrace.toml"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=f"{path} is not valid TOML"):
        load(path, {})


def test_requested_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load(tmp_path / "missing.toml", {})


@pytest.mark.parametrize(("section", "name", "description"), [*iter_settings()])
def test_every_setting_has_a_description(section: str, name: str, description: str) -> None:
    assert description[:1] == description[:1].upper()
    assert description.endswith(".")


def test_settings_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Settings().serve.port = 1  # type: ignore[misc]


def test_drivers_are_embedded_by_default() -> None:
    settings = load(environ={"HEADRACE_DATA__FOLDER": "/d", "HEADRACE_STORE__URL": "redis://r:1/0"})

    assert settings.log_url == "local:/d/log"
    assert settings.store_url == "redis://r:1/0"
    assert settings.checkpoints == Path("/d/checkpoints")


@pytest.mark.parametrize(
    ("names", "port"),
    [
        (("serve.port", "stream.metrics_port"), 9101),
        (("serve.port", "learn.metrics_port"), 9102),
        (("stream.metrics_port", "learn.metrics_port"), 9300),
    ],
)
def test_two_processes_on_one_port_are_refused_by_name(tmp_path: Path, names: tuple[str, str], port: int) -> None:
    environ = {variable_name(name): str(port) for name in names} | {"HEADRACE_SERVE__ADMIN_KEY": "secret-key"}
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)

    assert all(name in str(caught.value) for name in (*names, str(port)))
    assert "secret-key" not in str(caught.value)


def test_disabled_metrics_ports_do_not_collide() -> None:
    environ = {"HEADRACE_STREAM__METRICS_PORT": "0", "HEADRACE_LEARN__METRICS_PORT": "0", "HEADRACE_SERVE__PORT": "0"}

    assert load(environ=environ).serve.port == 0
