"""The address of Redis: one URL for the ledger's clients and for Celery's broker."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from kombu.utils.url import parse_url

from worker.errors import SettingError
from worker.redaction import HIDDEN
from worker.redis_address import RedisAddress


def test_a_plain_url_is_the_same_for_celery() -> None:
    address = RedisAddress.parse("redis://user:p%40ss@[::1]:7000/3")
    assert (address.hosts, address.db) == ((("::1", 7000),), 3)
    assert (address.username, address.password) == ("user", "p@ss")
    assert address.broker().url == "redis://user:p%40ss@[::1]:7000/3"
    assert address.broker().tls is None


@pytest.mark.parametrize("scheme", ["redis", "rediss", "sentinel"])
@pytest.mark.parametrize("secret", ["p/@s", "p?s#x", "p%41:s", "p [s]+;s", "pä€s"])
def test_celery_reads_the_same_user_and_password_whatever_stands_in_them(
    scheme: str, secret: str
) -> None:
    quoted = quote(secret, safe="")
    address = RedisAddress.parse(f"{scheme}://u{quoted}:{quoted}@host:7000/3")
    assert address.password == secret
    read = parse_url(address.broker().url)
    assert (read["userid"], read["password"]) == (f"u{secret}", secret)
    assert (read["hostname"], read["port"], read["virtual_host"]) == ("host", 7000, "3")


def test_ports_and_database_have_defaults() -> None:
    assert RedisAddress.parse("redis://host").hosts == (("host", 6379),)
    assert RedisAddress.parse("redis://host").db == 0
    assert RedisAddress.parse("sentinel://a,b:1").hosts == (("a", 26379), ("b", 1))


def test_tls_always_asks_for_a_certificate() -> None:
    address = RedisAddress.parse("rediss://host/0?ssl_ca_certs=/etc/ca.pem")
    wanted = {"ssl_ca_certs": "/etc/ca.pem", "ssl_cert_reqs": "required"}
    assert address.broker().tls == wanted
    assert address.client().connection_pool.connection_kwargs.items() >= wanted.items()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_cluster_is_named_by_any_of_its_nodes(scheme: str) -> None:
    address = RedisAddress.parse(f"{scheme}+cluster://u:p%40ss@one:1,[::1]/0")
    assert address.hosts == (("one", 1), ("::1", 6379))
    assert address.shown == f"{scheme}+cluster://one:1,[::1]:6379/0"
    broker = address.broker("{trainmaster}:")
    assert broker.url == f"{scheme}://u:p%40ss@one:1/0"
    assert broker.options == {"cluster_nodes": address.hosts, "cluster_slot": 14406}
    assert (broker.tls is not None) == (scheme == "rediss")
    assert broker.transport == "worker.cluster_transport:Transport"
    with pytest.raises(ValueError, match="needs a key"):
        address.client()


def test_sentinels_are_asked_for_their_service() -> None:
    address = RedisAddress.parse("sentinel://:pw@one:1,two:2/0?service=ledger&sentinel_password=s")
    broker = address.broker()
    assert broker.url == "sentinel://:pw@one:1/0;sentinel://:pw@two:2/0"
    assert broker.options["master_name"] == "ledger"
    provider = broker.options["sentinel_kwargs"]["credential_provider"]
    assert provider.get_credentials() == ("s",)
    assert (
        "credential_provider"
        not in RedisAddress.parse("sentinel://one").broker().options["sentinel_kwargs"]
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "must begin with"),
        ("", "must begin with"),
        ("redis://", "names no host"),
        ("redis://host/x", "number of a database"),
        ("redis://a,b/0", "only sentinel"),
        ("redis+cluster://a/1", "has only one, 0"),
        ("redis+cluster://a?service=x", "unknown option"),
        ("redis+sentinel://a", "must begin with"),
        ("redis://host:port/0", "can't be"),
        ("redis://host/0?ssl_ca_certs=x", "unknown option"),
        ("rediss://host/0?ssl_cert_reqs=none", "unknown option"),
    ],
)
def test_what_can_not_be_used_is_named_in_one_line(url: str, said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        RedisAddress.parse(url)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("url", ["redis://:geheim?x=geheim@h/0", "redis://u:geheim@h/x"])
def test_no_error_and_no_representation_shows_the_password(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        RedisAddress.parse(url)
    assert "geheim" not in str(caught.value)
    address = RedisAddress.parse("redis://u:geheim@h/0")
    assert "geheim" not in repr(address)
    assert "geheim" not in repr(address.broker())
    sentinel = RedisAddress.parse("sentinel://h/0?sentinel_password=geheim")
    assert "geheim" not in repr(sentinel)
    assert "geheim" not in repr(sentinel.broker())


@pytest.mark.parametrize(
    "url", ["redis://:p%2F%40s@h/0", "sentinel://h/0?sentinel_password=p%2F%40s"]
)
def test_a_text_of_others_loses_a_password_in_whatever_form_it_repeats_it(url: str) -> None:
    said = RedisAddress.parse(url).without_secrets("no p/@s, no p%2F%40s, no p/%40s")
    assert said.split(", ") == [f"no {HIDDEN}"] * 3


@pytest.mark.parametrize(("password", "shown"), [("xyz", HIDDEN), ("xy", "xy")])
def test_a_text_of_others_loses_a_password_of_three_letters_and_no_shorter_one(
    password: str, shown: str
) -> None:
    """What is left out in half of all words would tell the two letters that it was."""
    said = RedisAddress.parse(f"redis://:{password}@h/0").without_secrets(f"no {password}")
    assert said == f"no {shown}"
