"""How a gateway is served: where it says it is, and what ends it before it starts."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from worker.errors import SettingError
from worker.gateway import server
from worker.gateway.app import create_app
from worker.gateway_settings import GatewaySettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.tls import Authority


# No system has so many kinds of addresses.
UNKNOWN_FAMILY = 255


def settings(**told: Any) -> GatewaySettings:
    return GatewaySettings.model_validate({"redis_url": "redis://127.0.0.1:1", **told})


@pytest.mark.parametrize(
    ("host", "family", "shown"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("::1", socket.AF_INET6, "[::1]"),
    ],
)
@pytest.mark.parametrize("by_tls", [False, True])
def test_it_tells_where_it_listens_as_one_types_it(
    issued: tuple[Path, Path], host: str, family: int, shown: str, *, by_tls: bool
) -> None:
    files: dict[str, Any] = {}
    if by_tls:
        files = dict(zip(("gateway_tls_cert_file", "gateway_tls_key_file"), issued, strict=True))
    config = server.server_config(settings(**files), create_app(settings()))
    with socket.socket(family) as listener, capture_logs() as lines:
        listener.bind((host, 0))
        server._tell_ready(config, [listener])
        port = listener.getsockname()[1]
    scheme = "https" if by_tls else "http"
    assert [(each["event"], each["url"]) for each in lines] == [
        ("gateway.ready", f"{scheme}://{shown}:{port}")
    ]


def test_it_says_nothing_of_itself_and_believes_no_proxy() -> None:
    """Who stands before it may say anything; who asks need not know what it is made of."""
    told = settings(gateway_host="10.0.0.7", gateway_port=81, gateway_connections=9)
    config = server.server_config(told, create_app(settings()))
    assert (config.host, config.port) == ("10.0.0.7", 81)
    assert (config.server_header, config.proxy_headers, config.access_log) == (False, False, False)
    assert (config.lifespan, config.ws) == ("on", "none")
    assert config.timeout_graceful_shutdown == server.GRACE_SECONDS


def test_it_looks_for_its_port_as_it_will_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv4 and IPv6 each by itself, and without what a machine knows by name alone."""
    told = settings(gateway_host="::", gateway_port=0)
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104 - the address is what this is about
        other.listen()
        port = other.getsockname()[1]
        assert server._port_trouble(settings(gateway_host="::", gateway_port=port)) == ""
        taken = settings(gateway_host="0.0.0.0", gateway_port=port)  # noqa: S104
        assert "Address already in use" in server._port_trouble(taken)
    unknown = (UNKNOWN_FAMILY, socket.SOCK_STREAM, 0, "", ("::1", 0))
    found = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)
    # As on a kernel without IPv6, whose file of hosts names `::1` all the same.
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [unknown, *found])
    assert server._port_trouble(told) == ""


def test_a_certificate_and_its_own_key_are_taken_and_nothing_else(
    issued: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    certificate, key = issued
    _, other_key = authority.issue(tmp_path / "other", "127.0.0.1")
    text = tmp_path / "text.pem"
    text.write_text("no certificate", "utf-8")
    server._check_certificate(settings())
    for cert_file, key_file in (
        (certificate, key),
        (certificate, other_key),
        (text, key),
        (certificate, text),
    ):
        told = settings(gateway_tls_cert_file=cert_file, gateway_tls_key_file=key_file)
        if (cert_file, key_file) == (certificate, key):
            server._check_certificate(told)
        else:
            with pytest.raises(SettingError, match=r"TLS_CERT_FILE and .* its own key"):
                server._check_certificate(told)


def test_an_address_of_this_machine_alone_needs_no_token_and_no_redis() -> None:
    """Of another one Redis is asked, which is away here."""
    server._check_address(settings(gateway_host="localhost"))
    with pytest.raises(RedisConnectionError):
        server._check_address(settings(gateway_host="0.0.0.0"))  # noqa: S104 - it is what is meant
