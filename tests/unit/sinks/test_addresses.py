"""Which addresses a webhook may lie at."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from worker.sinks.addresses import AddressError, check_url, is_public, public_addresses

if TYPE_CHECKING:
    from worker.http.opening import AddressInfo

NOT_PUBLIC = (
    "0.0.0.0",  # noqa: S104 - nobody is to bind it
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "localhost",
    "",
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.0.1", "172.32.0.1", "2606:4700::1111")

# Python's resolver, and those of C libraries, take each of these for 127.0.0.1 or 10.0.0.1.
ODD_HOSTS = (
    "2130706433",
    "0x7f000001",
    "0x7F.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "10.1",
    "127.0.0.1.",
    "1.2.3.4.5",
    "256.1.1.1",
    "foo.0x7f",
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_no_public_network_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_is_taken(address: str) -> None:
    assert is_public(address)


def found_at(*addresses: str) -> list[AddressInfo]:
    return [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (each, 80))
        for each in addresses
    ]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_leads_nowhere_public_is_refused(address: str) -> None:
    with pytest.raises(AddressError, match="allow_private"):
        public_addresses(found_at(address, address))


def test_of_what_a_name_leads_to_only_the_public_addresses_are_left() -> None:
    mixed = found_at(*NOT_PUBLIC, *PUBLIC, *NOT_PUBLIC)
    assert public_addresses(mixed) == found_at(*PUBLIC)


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_an_address_that_is_written_in_an_odd_way_is_refused_even_where_private_ones_are_allowed(
    host: str,
) -> None:
    for allow_private in (False, True):
        with pytest.raises(ValueError, match="writes an address as"):
            check_url(f"https://{host}/hook", allow_private=allow_private)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/", "must begin with https"),
        ("file:///etc/passwd", "must begin with https"),
        ("gopher://example.com/", "must begin with https"),
        ("https:///hook", "names no host"),
        ("https://user:pw@example.com/", "user or a password"),
        ("https://example.com:0/", "port"),
        ("https://example.com:99999/", "can't|can be read|port"),
        ("https://example.com/a b", "character"),
        ("https://example.com/\r\nx: y", "character|read"),
        ("https://exämple.com/", "character"),
        ("https://example.com\\@10.0.0.1/", "character"),
        ("https://example.com/#part", "#"),
        ("https://[::1]/", "allow_private"),
        ("https://[::ffff:10.0.0.1]/", "allow_private"),
        ("https://[fe80::1%25eth0]/", "allow_private|character|address"),
        ("https://169.254.169.254/latest/meta-data", "allow_private"),
        ("https://[::1", "read"),
    ],
)
def test_a_url_that_is_no_webhooks_is_refused_before_anything_is_looked_up(
    url: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check_url(url, allow_private=False)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("host", ["[v1.x]", "[::1]x", "[::1]x:80", "a[::1]", "[::1]8080"])
def test_a_host_that_the_connection_would_read_in_another_way_is_refused(host: str) -> None:
    """A sink of it would fail before it sends, again and again."""
    with pytest.raises(ValueError, match="is no URL that can be read"):
        check_url(f"https://{host}/hook", allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?a=b",
        "http://example.com:8080/",
        "http://example.com:80/",
        "https://example.com:443/",
        "https://example.com:/",
        "https://EXAMPLE.com./",
        "https://8.8.8.8/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_a_url_of_the_public_internet_is_taken(url: str) -> None:
    check_url(url, allow_private=False)


def test_a_private_address_is_taken_where_that_is_allowed() -> None:
    check_url("http://127.0.0.1:8000/hook", allow_private=True)
    check_url("http://[::1]:8000/hook", allow_private=True)
