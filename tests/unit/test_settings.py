"""Settings: read once, named when wrong, never shown when secret."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from tools.settings_reference import setting_rows
from worker.bootstrap.encord import create_credentials
from worker.environment import (
    load_gateway_settings,
    load_ledger_settings,
    load_settings,
    secret_files,
    unknown_names,
)
from worker.errors import SettingError
from worker.settings import Settings, environment_names

if TYPE_CHECKING:
    from pathlib import Path

URL = "redis://:s3cret@127.0.0.1:6379/0"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing set but where Redis is."""
    for name in environment_names().values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRAINMASTER_REDIS_URL", URL)


def message_of(setting: str, value: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(setting, value)
    with pytest.raises(SettingError) as caught:
        load_settings()
    return caught.value.message


def test_only_redis_must_be_named() -> None:
    settings = load_settings()
    assert settings.redis_url.get_secret_value() == URL
    assert settings.namespace == "trainmaster"
    required = [row.name for row in setting_rows() if row.required]
    assert required == ["TRAINMASTER_REDIS_URL"]


def test_several_namespaces_are_partitions_where_they_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRAINMASTER_NAMESPACE", "eu,us")
    settings = load_settings(partitions=True)
    assert settings.namespaces == ("eu", "us")
    assert settings.of("us").namespaces == ("us",)
    with pytest.raises(SettingError, match=r"^TRAINMASTER_NAMESPACE names several namespaces"):
        load_settings()
    with pytest.raises(SettingError, match=r"^--namespace names several namespaces"):
        load_ledger_settings(namespace="eu,us")


@pytest.mark.parametrize("names", ["eu,eu", "eu,", ",eu", "eu, us"])
def test_a_list_of_namespaces_has_each_once_and_none_that_is_empty(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message_of("TRAINMASTER_NAMESPACE", names, monkeypatch).startswith(
        "TRAINMASTER_NAMESPACE "
    )


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINMASTER_REDIS_URL")
    with pytest.raises(
        SettingError, match=r"^TRAINMASTER_REDIS_URL is not set; for example redis://127"
    ):
        load_settings()


def test_an_empty_variable_is_the_same_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINMASTER_CONCURRENCY", "")
    monkeypatch.setenv("TRAINMASTER_BEARER_TOKEN", "")
    settings = load_settings()
    assert settings.concurrency == 512
    assert settings.bearer_token is None


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("TRAINMASTER_REDIS_URL", "http://u:s3cret@h", "must begin with redis://"),
        ("TRAINMASTER_REDIS_URL", "redis://:s3cret/x@h", "must end in the number of a database"),
        ("TRAINMASTER_REDIS_URL", "redis://h:s3cret", "names a host or a port that can't be"),
        ("TRAINMASTER_NAMESPACE", "a:s3cret", "must be 1 to 64 letters"),
        ("TRAINMASTER_CONCURRENCY", "s3cret", "must be a valid integer"),
        ("TRAINMASTER_CONCURRENCY", "0", "must be greater than or equal to 1"),
        ("TRAINMASTER_LEASE_SECONDS", "0.5", "must be greater than or equal to 1"),
        ("TRAINMASTER_LEASE_SECONDS", "nan", "must be"),
        ("TRAINMASTER_PAUSE_SHARE", "0", "must be greater than 0"),
        ("TRAINMASTER_LOG_LEVEL", "s3cret", "must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("TRAINMASTER_DATA_ROOTS", "/s3cret/nowhere", "names a folder that is not there"),
        ("TRAINMASTER_SOURCE_URLS", "https://s3cret/,s3://b/", "must have blanks between its URLs"),
        ("TRAINMASTER_SOURCE_URLS", '"https://s3cret/"', "names what is no URL"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line_without_its_value(
    setting: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = message_of(setting, value, monkeypatch)
    assert message.startswith(f"{setting} ")
    assert said in message
    assert "\n" not in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "setting", [*environment_names().values(), "ENCORD_SSH_KEY_FILE_PASSPHRASE"]
)
def test_a_setting_that_is_not_utf8_is_named_in_one_line(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message_of(setting, "s3cret\udcff", monkeypatch) == f"{setting} is not UTF-8"


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINMASTER_CONCURRENCY", "many")
    message = message_of("TRAINMASTER_LOG_FORMAT", "xml", monkeypatch)
    assert message.count(";") == 1
    assert "TRAINMASTER_CONCURRENCY must" in message
    assert "TRAINMASTER_LOG_FORMAT must" in message


@pytest.mark.parametrize("which", ["RETRY", "POLL", "BREAKER"])
def test_a_shortest_time_above_the_longest_is_refused(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TRAINMASTER_{which}_MIN_SECONDS", "20")
    message = message_of(f"TRAINMASTER_{which}_MAX_SECONDS", "10", monkeypatch)
    assert message == (
        f"TRAINMASTER_{which}_MIN_SECONDS must be at most TRAINMASTER_{which}_MAX_SECONDS"
    )
    monkeypatch.setenv(f"TRAINMASTER_{which}_MAX_SECONDS", "20")
    settings = load_settings()
    assert getattr(settings, f"{which.lower()}_max_seconds") == 20, "always the same is a choice"


def test_no_secret_is_in_what_settings_print(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "ENCORD_SSH_KEY",
        "ENCORD_SSH_KEY_PASSPHRASE",
        "TRAINMASTER_BEARER_TOKEN",
    ):
        monkeypatch.setenv(name, "s3cret")
    settings = load_settings()
    assert settings.bearer_token is not None
    assert settings.bearer_token.get_secret_value() == "s3cret"
    assert "s3cret" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_the_older_name_of_the_passphrase_is_taken_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCORD_SSH_KEY_FILE_PASSPHRASE", "s3cret")
    passphrase = load_settings().encord_ssh_key_passphrase
    assert passphrase is not None
    assert passphrase.get_secret_value() == "s3cret"


SECRETS = {
    "TRAINMASTER_REDIS_URL": (URL, "redis_url"),
    "TRAINMASTER_BEARER_TOKEN": ("s3cret-token", "bearer_token"),
    "ENCORD_SSH_KEY_PASSPHRASE": ("s3cret words", "encord_ssh_key_passphrase"),
}


def test_every_secret_of_one_line_may_stand_in_a_file() -> None:
    assert secret_files() == {f"{name}_FILE": name for name in SECRETS}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, end: str
) -> None:
    value, field = SECRETS[name]
    (tmp_path / "secret").write_text(value + end, newline="")
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    assert getattr(settings, field).get_secret_value() == value
    assert "s3cret" not in repr(settings)
    assert unknown_names() == {}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(f"{name}_FILE", "~/secret")
    assert load_settings() == settings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file {} can't be read: No such file or directory"),
        (b"", "the file {} is empty"),
        (b"s3cret\ns3cret\n", "the file {} holds a line break; write the secret on one line"),
        (b"s3cret\xff", "the file {} is not UTF-8"),
        (b"s3cret" * 1000, "the file {} holds more than 4096 bytes; is that the secret?"),
    ],
)
def test_a_file_without_a_secret_is_named_and_nothing_of_it_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    message = message_of("TRAINMASTER_BEARER_TOKEN_FILE", str(path), monkeypatch)
    assert message == f"TRAINMASTER_BEARER_TOKEN_FILE: {said.format(path)}"


MISPLACED = {
    "a token": "eyJhbGciOiJIUzI1NiJ9.S3cret",
    "base64": "/9j4S3cret/+ab==",
    "a password": "s3cret/horse",
    "a URL": "redis://:s3cret@127.0.0.1:6379/0",
    "lines": "-----BEGIN OPENSSH PRIVATE KEY-----\nS3cret/ab\n-----END OPENSSH PRIVATE KEY-----",
    "lines in one": "-----BEGIN OPENSSH PRIVATE KEY-----" + "S3cret/ab" * 300,
}


@pytest.mark.parametrize("value", MISPLACED.values(), ids=MISPLACED)
@pytest.mark.parametrize("variable", [*secret_files(), "ENCORD_SSH_KEY_FILE"])
def test_a_secret_in_place_of_its_files_path_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    setting = secret_files().get(variable, "ENCORD_SSH_KEY")
    monkeypatch.delenv(setting, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError) as caught:
        create_credentials(load_settings())
    assert caught.value.message.startswith(f"{variable}: the file … can't be read: ")
    assert caught.value.message.endswith(f", set {setting}")
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown.lower()


@pytest.mark.parametrize("path", ["/run/secrets/token", "~/key", "/secrets/encord/key.pem"])
def test_the_path_of_a_file_that_is_missing_is_shown(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    assert path in message_of("TRAINMASTER_BEARER_TOKEN_FILE", path, monkeypatch)


@pytest.mark.parametrize("variable", ["TRAINMASTER_HEALTH_FILE", "TRAINMASTER_DATA_ROOTS"])
def test_a_path_that_can_not_be_looked_at_is_one_of_nothing(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    assert "is not there" in message_of(variable, f"/tmp/{'x' * 300}/x", monkeypatch)  # noqa: S108


def test_a_secret_and_its_file_are_not_set_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINMASTER_BEARER_TOKEN", "s3cret")
    message = message_of("TRAINMASTER_BEARER_TOKEN_FILE", "/run/token", monkeypatch)
    assert message == (
        "TRAINMASTER_BEARER_TOKEN_FILE and TRAINMASTER_BEARER_TOKEN are both set: set one of them"
    )


def test_what_is_given_goes_before_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINMASTER_REDIS_URL_FILE", "/nowhere")
    given = "redis://127.0.0.1:1/0"
    assert load_settings(redis_url=given).redis_url.get_secret_value() == given


def test_folders_are_resolved_and_a_home_is_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRAINMASTER_DATA_ROOTS", f"{tmp_path / 'link'}:~/data")
    monkeypatch.setenv("ENCORD_SSH_KEY_FILE", "~/key")
    settings = load_settings()
    assert settings.data_roots == (tmp_path / "data", tmp_path / "data")
    assert settings.encord_ssh_key_file == tmp_path / "key"


@pytest.mark.parametrize("form", ["{}:", ":{}", "{0}::{0}"])
def test_nothing_between_two_colons_is_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    """It would be the one that the worker was started in, with all that lies there."""
    monkeypatch.setenv("TRAINMASTER_DATA_ROOTS", form.format(tmp_path))
    assert set(load_settings().data_roots) == {tmp_path}


def test_what_is_given_goes_before_the_environment_and_is_named_as_it_was_given() -> None:
    settings = load_ledger_settings("redis://elsewhere", "other")
    assert settings.redis_url.get_secret_value() == "redis://elsewhere"
    assert settings.namespace == "other"
    with pytest.raises(SettingError, match=r"^--namespace must be 1 to 64 letters"):
        load_ledger_settings(namespace="{}")
    with pytest.raises(SettingError, match=r"^--redis-url must begin with"):
        load_settings(redis_url="elsewhere")


def test_the_command_line_is_not_stopped_by_a_setting_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRAINMASTER_CONCURRENCY", "many")
    assert load_ledger_settings().namespace == "trainmaster"


def test_variables_that_are_no_settings_are_found_with_what_may_be_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRAINMASTER_LEASE_SECOND", "1")
    monkeypatch.setenv("TRAINMASTER_QQQQQQQQQ", "1")
    monkeypatch.setenv("TRAINMASTER_CONCURRENCY", "1")
    monkeypatch.setenv("TRAINMASTER_PLACES", "1")
    found = unknown_names()
    assert found["TRAINMASTER_PLACES"] == "TRAINMASTER_CONCURRENCY"
    assert found["TRAINMASTER_LEASE_SECOND"] == "TRAINMASTER_LEASE_SECONDS"
    assert found["TRAINMASTER_QQQQQQQQQ"] is None
    assert "TRAINMASTER_CONCURRENCY" not in found


def test_every_setting_has_a_row_with_its_name_range_default_and_meaning() -> None:
    rows = {row.name: row for row in setting_rows()}
    assert list(rows) == list(environment_names().values())
    assert len(rows) == len(Settings.model_fields)
    for row in rows.values():
        assert row.meaning.endswith("."), row
        assert row.kind, row
        without = {"secret", "path", "paths", "host:port"}
        assert row.required or row.default or row.kind in without, row
        if row.kind.endswith("number"):
            assert " to " in row.allowed, row
        if row.name.endswith("_SECONDS"):
            assert row.unit == "s", row
    concurrency = rows["TRAINMASTER_CONCURRENCY"]
    assert (concurrency.kind, concurrency.allowed, concurrency.default) == (
        "whole number",
        "1 to 4096",
        "512",
    )
    assert rows["TRAINMASTER_LOG_LEVEL"].allowed == "DEBUG, INFO, WARNING, ERROR"
    assert rows["TRAINMASTER_PAUSE_SHARE"].allowed == "more than 0 to 1"


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("127.0.0.1:9090", ("127.0.0.1", 9090)),
        ("[::1]:0", ("::1", 0)),
        ("worker.internal:80", ("worker.internal", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(said: str, address: tuple[str, int]) -> None:
    assert Settings(redis_url=URL, bearer_token="t", http=said).http == address


@pytest.mark.parametrize(
    ("said", "told"),
    [
        *((said, "host and port") for said in (":9090", "[]:0", "*:0", "9090", "::1:0", "h:-1")),
        ("http://127.0.0.1:9090", "host and port"),
        ("host:99999", "above 65535"),
    ],
)
def test_what_is_no_address_is_refused_and_none_is_open_to_all_by_mistake(
    said: str, told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        Settings(redis_url=URL, bearer_token="t", http=said)


@pytest.mark.parametrize("named", ["CERT", "KEY"])
def test_a_gateway_has_a_certificate_and_its_key_or_neither(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one of them alone it would speak plain HTTP, and who set that would not know."""
    file = tmp_path / "file.pem"
    file.touch()
    monkeypatch.setenv(f"TRAINMASTER_GATEWAY_TLS_{named}_FILE", str(file))
    with pytest.raises(SettingError, match=r"TLS_CERT_FILE and .*TLS_KEY_FILE: set both or none"):
        load_gateway_settings()
