"""Rules of how a connection comes about: names, addresses, TLS. Nothing is sent before."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization as forms

from tests.security.tls import Authority, server_context
from tests.stub_api import StubApi, reply
from tests.unit.http.asking import PATIENT, comes_true, exchange, opened, route_to
from worker.errors import SettingError
from worker.http.client_certificate import ClientCertificate
from worker.http.failures import NOT_SENT, NotWrittenError, UnresolvedNameError
from worker.http.pool import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


async def ask(url: str) -> bytes:
    """Returns what one request gets."""
    async with opened(url) as pool:
        return (await exchange(pool, "POST", body=b"{}")).body


@pytest.mark.parametrize(
    "name", ["api.invalid", "a" * 64 + ".example", "no-such-host.trainmaster.invalid"]
)
def test_a_name_that_has_no_address_is_told_by_name(run: Run, name: str) -> None:
    with pytest.raises(UnresolvedNameError, match=f"the name {name} can't be resolved: .") as told:
        run(ask(f"http://{name}/"))
    assert isinstance(told.value, NOT_SENT)


def test_a_name_is_looked_up_once_for_all_who_come_meanwhile(run: Run, stub: StubApi) -> None:
    """However late they come: also in the turn in which it becomes known."""
    stub.default = reply(200, b"ok")

    async def ask_all() -> int:
        loop = asyncio.get_running_loop()
        lookups = 0
        look_up = loop.getaddrinfo

        async def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal lookups
            lookups += arguments[0] == "localhost"  # uvloop looks at addresses, too
            return await look_up(*arguments, **options)

        loop.getaddrinfo = counted  # type: ignore[method-assign] # counts
        async with opened(stub.url.replace("127.0.0.1", "localhost"), limit=100) as pool:
            tasks = []
            for _ in range(100):
                tasks.append(asyncio.create_task(exchange(pool)))
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
        return lookups

    assert run(ask_all()) == 1


def test_a_name_is_looked_up_anew_after_a_failure_and_after_a_time(
    run: Run, stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a server that has moved would never be found again."""
    monkeypatch.setattr("worker.http.opening.NAME_SECONDS", 0.0)
    stub.default = reply(200, b"ok")

    async def ask_again_and_again() -> int:
        loop = asyncio.get_running_loop()
        lookups = 0
        look_up = loop.getaddrinfo

        async def fail_first(*arguments: Any, **options: Any) -> Any:
            nonlocal lookups
            lookups += arguments[0] == "localhost"
            if lookups == 1:
                raise socket.gaierror(socket.EAI_AGAIN, "not now")
            return await look_up(*arguments, **options)

        loop.getaddrinfo = fail_first  # type: ignore[method-assign] # fails once
        async with opened(stub.url.replace("127.0.0.1", "localhost"), keeps=False) as pool:
            with pytest.raises(UnresolvedNameError):
                await exchange(pool)
            for _ in range(2):
                assert (await exchange(pool)).body == b"ok"
        return lookups

    assert run(ask_again_and_again()) == 3


def test_an_address_of_ipv6_is_asked_by_its_brackets(run: Run, stub: StubApi) -> None:
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(200, head).raw)
        await writer.drain()
        writer.close()

    async def ask_it() -> bytes:
        server = await asyncio.start_server(pass_on, sock=listening)
        async with server, opened(f"http://[::1]:{listening.getsockname()[1]}") as pool:
            return (await exchange(pool)).body

    del stub
    port = listening.getsockname()[1]
    assert f"Host: [::1]:{port}\r\n".encode() in run(ask_it())


def test_of_several_addresses_a_dead_one_costs_no_more_than_a_moment(
    run: Run, stub: StubApi
) -> None:
    """One refuses and one is silent, in front of the one that answers."""
    stub.default = reply(200, b"ok")
    silent = socket.socket()
    silent.bind(("127.0.0.2", 0))
    silent.listen(0)
    # A queue that is full takes no further connection, and says nothing.
    fillers = [socket.socket() for _ in range(4)]
    for each in fillers:
        each.setblocking(False)
        each.connect_ex(silent.getsockname())

    async def ask_it() -> tuple[bytes, float]:
        async with opened(stub.url) as pool:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            places = [("127.0.0.1", 1), silent.getsockname(), ("127.0.0.1", stub.port)]
            dialer = pool._dialer
            dialer._addresses = [(*kind, place) for place in places]
            dialer._known_until = asyncio.get_running_loop().time() + 60
            # Each time another one is first.
            dialer._addresses = [dialer._addresses[-1], *dialer._addresses[:-1]]
            await exchange(pool)
            pool._close_idle()
            started = time.monotonic()
            body = (await exchange(pool)).body
            assert await comes_true(lambda: len(asyncio.all_tasks()) == 1)
            return body, time.monotonic() - started

    body, took = run(ask_it())
    for each in (*fillers, silent):
        each.close()
    assert body == b"ok"
    assert took < PATIENT.connect / 2
    assert stub.connections == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_of_tls_are_spoken_and_a_connection_is_kept(
    run: Run, shown: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    shown.minimum_version = shown.maximum_version = version

    async def ask_twice(url: str) -> str:
        async with opened(url) as pool:
            for _ in range(3):
                await exchange(pool, "POST", body=b"{}")
            (connection,) = pool._idle
            return str(connection._transport.get_extra_info("ssl_object").version())

    with StubApi(tls=shown) as server:
        assert run(ask_twice(server.url)) == version.name.replace("_", ".")
        assert server.connections == 1


@pytest.mark.parametrize("wrong", ["authority", "host", "expired"])
def test_a_server_that_can_t_prove_who_it_is_is_never_asked(
    run: Run, authority: Authority, shown: ssl.SSLContext, tmp_path: Path, wrong: str
) -> None:
    del shown  # trusted
    issuer = Authority.create(tmp_path / "ca.pem", "another") if wrong == "authority" else authority
    host = "api.example" if wrong == "host" else "127.0.0.1"
    valid = timedelta(days=-1) if wrong == "expired" else timedelta(hours=1)
    context = server_context(*issuer.issue(tmp_path / "server", host, valid=valid))
    told = {
        "authority": "unable to get local issuer certificate",
        "host": "not valid for '127.0.0.1'",
        "expired": "certificate has expired",
    }
    with StubApi(tls=context) as server:
        with pytest.raises(httpx.ConnectError, match=told[wrong]):
            run(ask(server.url))
        assert not server.recorded


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_shown", [True, False])
def test_a_server_may_ask_who_we_are(
    run: Run,
    issued: tuple[Path, Path],
    shown: ssl.SSLContext,
    tmp_path: Path,
    version: ssl.TLSVersion,
    *,
    is_shown: bool,
) -> None:
    """With TLS 1.2 a refusal comes in the handshake; with 1.3 after what was written meanwhile."""
    del shown  # trusted
    clients = Authority.create(tmp_path / "clients.pem", "of clients")

    async def ask_it(url: str) -> bytes:
        route = route_to(url)
        if is_shown:
            ClientCertificate(*clients.issue(tmp_path / "me", "me")).show_in(route.tls)
        pool = ConnectionPool(route, limit=1)
        try:
            return (await exchange(pool, "POST", body=b"{}")).body
        finally:
            await pool.aclose()

    context = server_context(*issued, version=version, asks_for=clients.file)
    with StubApi(tls=context, default=reply(200, b"ok")) as server:
        if is_shown:
            assert run(ask_it(server.url)) == b"ok"
            return
        with pytest.raises(httpx.HTTPError) as told:
            run(ask_it(server.url))
        if version is ssl.TLSVersion.TLSv1_2:
            assert isinstance(told.value, NOT_SENT)
        else:  # Unless it came before we had begun, what was written may have been read.
            assert isinstance(told.value, (httpx.ReadError, NotWrittenError))
        assert not server.recorded


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ("missing.pem", None),
            "^TRAINMASTER_CLIENT_CERTIFICATE_FILE: .*missing.pem can't be read",
        ),
        (("own.pem", "missing.pem"), "^TRAINMASTER_CLIENT_KEY_FILE: .*missing.pem can't be read"),
        (("empty.pem", None), "CERTIFICATE_FILE: .*empty.pem holds no certificate .* with its key"),
        (("own.pem", "other.key"), "CERTIFICATE_FILE: .*own.pem holds .* with the key in .*other"),
        (("own.pem", "sealed.key"), "^TRAINMASTER_CLIENT_KEY_FILE: .*sealed.key is encrypted"),
        (("both.pem", None), ""),
    ],
)
def test_a_certificate_that_can_t_be_shown_is_a_bad_setting(
    tmp_path: Path, files: tuple[str, str | None], told: str
) -> None:
    clients = Authority.create(tmp_path / "clients.pem", "of clients")
    certificate, key = clients.issue(tmp_path / "me", "me")
    (tmp_path / "own.pem").write_bytes(certificate.read_bytes())
    (tmp_path / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    (tmp_path / "empty.pem").touch()
    (tmp_path / "other.key").write_bytes(clients.issue(tmp_path / "b", "b")[1].read_bytes())
    (tmp_path / "sealed.key").write_bytes(_sealed(key.read_bytes()))
    key_file = None if files[1] is None else tmp_path / files[1]
    shown = ClientCertificate(tmp_path / files[0], key_file)
    context = ssl.create_default_context()
    if not told:
        shown.show_in(context)
        return
    with pytest.raises(SettingError, match=told):
        shown.show_in(context)


def _sealed(key: bytes) -> bytes:
    return forms.load_pem_private_key(key, None).private_bytes(
        forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.BestAvailableEncryption(b"pass")
    )
