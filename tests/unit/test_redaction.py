"""URLs as they may be shown: random secrets in each place of each URL-like setting."""

from __future__ import annotations

import json
import logging
import string
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pytest
import structlog
from hypothesis import assume, given
from hypothesis import strategies as st
from kombu.utils.json import dumps
from pydantic import SecretStr

from worker.app import describe
from worker.backfill.errors import SourceError
from worker.environment import load_settings
from worker.errors import InputError, SettingError
from worker.logging import configure
from worker.redaction import redact_text, redact_url
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

# Upper case and rare: nothing else that is printed holds three of them in a row.
PIECE = st.text(alphabet="QXZJKW89", min_size=4, max_size=8)
# What parsers of URLs stumble over.
ODD = st.sampled_from(["[", "]", "@", "#", "?", "%", "/", ":", "ß", "é", "\u2100", "\uff0f", "&"])
# Where a text ends what it quotes.
QUOTES = ('"', "'", "<", ">")


@st.composite
def secrets(draw: st.DrawFn) -> list[str]:
    """Returns a secret as its pieces and what stands between them, in turn."""
    parts = [draw(PIECE)]
    for _ in range(draw(st.integers(0, 3))):
        parts += [draw(ODD), draw(PIECE)]
    return parts


def leaks(shown: str, secret: list[str]) -> list[str]:
    """Returns what of a secret's pieces can be read: three characters in a row or more."""
    pieces = secret[::2]
    return [
        piece[start : start + 3]
        for piece in pieces
        for start in range(len(piece) - 2)
        if piece[start : start + 3] in shown
    ]


def parsed(url: str) -> RedisAddress | SettingError:
    try:
        return RedisAddress.parse(url)
    except SettingError as exc:
        return exc


REDIS_URLS = (
    "redis://:{}@host:6379/0",
    "redis://{}@host",
    "redis://user:{}@[::1]:7000/3",
    "rediss://user:{}@host/0?ssl_ca_certs=/ca.pem",
    "rediss://host/0?ssl_ca_cert={}",
    "sentinel://:{}@one:1,two:2/0?service=ledger",
    "sentinel://one:1/0?service=ledger&sentinel_password={}",
    "{}://host",
    "redis://:{}",
    "redis://host/{}x",
    "redis://host#{}",
    "http://:{}@host",
)


@given(st.sampled_from(REDIS_URLS), secrets(), st.booleans())
def test_nothing_that_is_told_of_redis_url_holds_a_piece_of_its_secret(
    form: str, secret: list[str], quoted: bool
) -> None:
    text = "".join(secret)
    # What stands behind an @ there is a host, as far as anyone can tell.
    assume(quoted or form != "redis://:{}" or "@" not in text)
    url = form.format(quote(text, safe="") if quoted else text)
    address = parsed(url)
    if isinstance(address, SettingError):
        assert leaks(f"{address!r} {address}", secret) == []
        return
    broker = address.broker()
    told = f"{address!r} {address} {address.shown} {broker!r} {broker.options}"
    told += dumps(broker.options)
    assert "{}@" not in form or address.hosts[0][0] in {"host", "::1", "one"}, "a wrong host"
    assert leaks(told, secret) == []
    if address.password:
        assert leaks(address.without_secrets(f"wrong: {address.password}!"), secret) == []


@pytest.mark.parametrize("quoted", [True, False])
@given(secret=secrets())
def test_a_password_in_a_redis_url_is_taken_whole_or_the_url_is_refused(
    secret: list[str], quoted: bool
) -> None:
    text = "".join(secret)
    url = f"redis://user:{quote(text, safe='') if quoted else text}@host:1/2"
    address = parsed(url)
    if isinstance(address, SettingError):
        assert not quoted
        assert set("/?#") & set(text)
        assert "in a password write % as %25, / as %2F" in address.message
        return
    assert (address.hosts, address.db, address.username) == ((("host", 1),), 2, "user")
    assert address.password == (text if quoted else unquote(text))


def test_brackets_in_a_redis_password_are_taken() -> None:
    address = RedisAddress.parse("redis://:ab[SECRET]gh@host")
    assert (address.password, address.hosts) == ("ab[SECRET]gh", (("host", 6379),))


URLS = (
    "https://user:{}@host:8443/folder/file.csv",
    "https://{}@host/file.csv",
    "https://bucket.example/file.csv?X-Amz-Signature={}&x=1",
    "https://bucket.example/file.csv?sig={}#x",
    "https://bucket.example/file.csv#{}",
    "s3://key:{}@bucket/file.jsonl",
    "ftp://user:{}@host",
    "zip://inside.csv::https://user:{}@host/outside.zip",
    "zip://inside.csv::https://host/outside.zip?sig={}",
)


@given(st.sampled_from(URLS), secrets())
def test_a_url_of_files_is_shown_without_a_piece_of_its_secret(
    form: str, secret: list[str]
) -> None:
    url = form.format("".join(secret))
    assert leaks(redact_url(url), secret) == []
    assert leaks(redact_text(f"{url}: can't be read: no {url!r}."), secret) == []
    assert leaks(str(SourceError(f"{url}: there is no such file")), secret) == []
    error = InputError(f"{url} can't be read")
    assert leaks(f"{error} {error.message} {error.body()}", secret) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/data/a@b/c?d.csv", "/data/a@b/c?d.csv"),
        ("https://api.encord.com", "https://api.encord.com"),
        ("s3://bucket/folder/", "s3://bucket/folder/"),
        ("https://u:p@host:1/a/b.csv", "https://host:1/a/b.csv"),
        ("https://host/a.csv?X-Amz-Signature=1", "https://host/a.csv?…"),
        ("https://host/a.csv#token=1", "https://host/a.csv#…"),
        ("https://host/a.csv?sig=1#x", "https://host/a.csv?…"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("zip://a.csv::s3://k:s@b/a.zip", "zip://a.csv::s3://b/a.zip"),
        ("zip://a.csv::/data/a.zip", "zip://a.csv::/data/a.zip"),
        ("memory://x", "memory://x"),
        ("https://user:pa?ss@host/x", "https://…"),
        ("file:///data/x.csv", "file:///data/x.csv"),
    ],
)
def test_what_is_no_secret_is_shown(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert redact_text(f"before {shown}: after") == f"before {shown}: after"


SETTINGS = {
    "TRAINMASTER_REDIS_URL": REDIS_URLS,
    "ENCORD_DOMAIN": ("https://user:{}@host", "https://host:{}", "https://host/?{}", "{}://host"),
    "TRAINMASTER_RESULT_STORE": URLS,
    "TRAINMASTER_SOURCE_URLS": (*URLS, "{}"),
    "TRAINMASTER_DATA_ROOTS": URLS,
    "TRAINMASTER_CONCURRENCY": ("{}",),
    "TRAINMASTER_LOG_LEVEL": ("{}",),
    "TRAINMASTER_NAMESPACE": ("{} blank",),
}


@pytest.mark.parametrize("sign", QUOTES)
def test_a_quotation_mark_ends_no_secret(sign: str) -> None:
    url = f"https://host/a?sig=QXZJ{sign}KW89"
    shown = "https://host/a?…"
    assert redact_text(f"at {url}, then") == f"at {shown}, then"
    around = repr(url)[0]
    assert redact_text(f"no {url!r}: gone") == f"no {around}{shown}{around}: gone"
    assert redact_text(json.dumps({"url": url, "at": 1})) == f'{{"url": "{shown}", "at": 1}}'
    password = f"redis://:QXZJ {sign}KW89@host:1/0"
    assert redact_text(f"at {password} now") == "at redis://host:1/0 now"


@given(
    st.sampled_from([(name, form) for name, forms in SETTINGS.items() for form in forms]), secrets()
)
def test_no_error_and_no_representation_of_settings_holds_a_piece_of_a_secret(
    setting: tuple[str, str], secret: list[str]
) -> None:
    name, form = setting
    variables = {
        "TRAINMASTER_REDIS_URL": "redis://host",
        name: form.format("".join(secret)),
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in variables.items():
            patch.setenv(variable, value)
        told: object
        try:
            told = load_settings().redis_url
        except SettingError as exc:
            told = exc
    assert isinstance(told, SecretStr | SettingError)
    assert leaks(f"{told!r} {told}", secret) == []


def open_nothing(url: str) -> None:
    raise OSError(f"403, message='Forbidden', url='{url}'")


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Returns what is logged; puts Python's own logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield lambda: capsys.readouterr().err
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    logging.captureWarnings(False)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_log_line_and_its_traceback_hold_no_url_whole(log_lines: Any, log_format: str) -> None:
    url = "https://user:geheim@host/file?X-Amz-Signature=geheim"
    configure("INFO", log_format)
    try:
        open_nothing(url)
    except OSError:
        lists = {"places": [url], "named": {"it": (url,)}}
        structlog.get_logger("own").exception("store.failed", place=url, count=3, **lists)
        logging.getLogger("foreign").exception("can't open %s", url)
    told = log_lines()
    assert "geheim" not in told
    assert told.count("https://host/file?") == 6
    if log_format == "json":
        assert [json.loads(line)["level"] for line in told.splitlines()] == ["error", "error"]


def test_on_a_terminal_colours_hide_no_url_and_show_no_secret(
    log_lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand right behind a value, and are no part of its host."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure("INFO", "text")
    structlog.get_logger("own").info("ready", api="http://127.0.0.1:8800", odd={"http://:QXZ@host"})
    try:
        open_nothing("https://user:pa\x1b[31mQXZ@host/file")
    except OSError:
        logging.getLogger("foreign").exception("can't open")
    told = log_lines()
    assert "\x1b[35mhttp://127.0.0.1:8800\x1b[0m" in told
    assert "http://host" in told
    assert "QXZ" not in told


def test_the_ready_line_shows_of_no_url_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TRAINMASTER_REDIS_URL": "redis://:geheim@host/1",
        "TRAINMASTER_SOURCE_URLS": "https://user:geheim@host/data/ s3://k:geheim@bucket/",
        "TRAINMASTER_RESULT_STORE": "ftp://user:geheim@host/results",
    }.items():
        monkeypatch.setenv(name, value)
    told = describe(load_settings())
    assert told["redis"] == "redis://host:6379/1"
    assert told["source_urls"] == ["https://host/data/", "s3://bucket/"]
    assert told["result_store"] == "ftp://host/results"
    assert "geheim" not in repr(told)


def test_letters_of_the_tests_secrets_stand_in_no_message() -> None:
    """Else a leak could not be told from chance."""
    assert not set("QXZJKW89") & set(string.ascii_lowercase)
