"""Rules of which proxy is asked for whom."""

from __future__ import annotations

import httpx
import pytest

from worker.http.proxies import find_proxy, is_excepted

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

# The exceptions, and who is asked directly or not.
EXCEPTIONS: list[tuple[str, str, bool]] = [
    ("", "https://api.example.com", False),
    ("api.example.com", "https://api.example.com", True),
    ("API.Example.com", "https://api.example.COM", True),
    ("example.com", "https://api.example.com", True),
    (".example.com", "https://api.example.com", True),
    (".example.com", "https://example.com", True),
    ("*.example.com", "https://api.example.com", True),
    ("*.example.com", "https://a.b.example.com", True),
    ("*.example.com", "https://example.com", False),
    ("example.com", "https://badexample.com", False),
    ("api.example.com", "https://example.com", False),
    ("example.com.", "https://api.example.com", True),
    ("example.com", "https://api.example.com.", True),
    ("*", "https://api.example.com", True),
    ("a.example, *", "https://10.1.2.3", True),
    ("a.example,b.example", "https://b.example", True),
    (" a.example ,\tb.example , ", "https://b.example", True),
    ("a.example b.example", "https://b.example", True),
    (",,", "https://b.example", False),
    (".", "https://b.example", False),
    ("*.", "https://b.example", False),
    ("example.com:443", "https://api.example.com", True),
    ("example.com:8443", "https://api.example.com", False),
    ("example.com:8443", "https://api.example.com:8443", True),
    (".example.com:80", "http://api.example.com", True),
    ("10.1.2.3", "https://10.1.2.3", True),
    ("10.1.2.3", "https://10.1.2.4", False),
    ("10.1.2.3:443", "https://10.1.2.3", True),
    ("10.1.2.3:444", "https://10.1.2.3", False),
    ("10.0.0.0/8", "https://10.1.2.3", True),
    ("10.0.0.1/8", "https://10.1.2.3", True),
    ("10.0.0.0/8", "https://11.1.2.3", False),
    ("10.0.0.0/99", "https://10.1.2.3", False),
    ("2.3", "https://10.1.2.3", False),
    ("10.0.0.0/8", "https://10.example.com", False),
    ("2001:db8::7", "https://[2001:db8::7]", True),
    ("2001:DB8:0:0::7", "https://[2001:db8::7]", True),
    ("[2001:db8::7]", "https://[2001:db8::7]", True),
    ("[2001:db8::7]:443", "https://[2001:db8::7]", True),
    ("[2001:db8::7]:444", "https://[2001:db8::7]", False),
    ("2001:db8::/32", "https://[2001:db8::7]", True),
    ("fd00::/8", "https://[2001:db8::7]", False),
    ("fd00::/8", "https://10.1.2.3", False),
    ("münchen.example", "https://api.münchen.example", True),
    ("xn--mnchen-3ya.example", "https://münchen.example", True),
    ("http://example.com", "https://example.com", False),
]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(("exceptions", "url", "is_direct"), EXCEPTIONS)
def test_exceptions_are_taken_as_people_write_them(
    exceptions: str, url: str, *, is_direct: bool
) -> None:
    assert is_excepted(httpx.URL(url), exceptions) is is_direct


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        (
            {"https_proxy": "http://a:1", "http_proxy": "http://b:1"},
            "https://x.example",
            "http://a:1",
        ),
        (
            {"https_proxy": "http://a:1", "http_proxy": "http://b:1"},
            "http://x.example",
            "http://b:1",
        ),
        ({"HTTPS_PROXY": "http://a:1"}, "http://x.example", None),
        (
            {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"},
            "https://x.example",
            "http://b:1",
        ),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": " "}, "https://x.example", "http://a:1"),
        ({"ALL_PROXY": "http://a:1"}, "https://x.example", "http://a:1"),
        ({"ALL_PROXY": "http://a:1", "HTTP_PROXY": "http://b:1"}, "http://x.example", "http://b:1"),
        ({"ALL_PROXY": "http://a:1", "NO_PROXY": "x.example"}, "http://x.example", None),
        (
            {"ALL_PROXY": "http://a:1", "NO_PROXY": "y", "no_proxy": "x.example"},
            "http://x.example",
            None,
        ),
        ({"ALL_PROXY": "http://a:1"}, "http://localhost:80", None),
        ({"ALL_PROXY": "http://a:1"}, "http://127.3.2.1", None),
        ({"ALL_PROXY": "http://a:1"}, "http://[::1]", None),
        ({"ALL_PROXY": "http://a:1"}, "http://127.example", "http://a:1"),
    ],
)
def test_the_environment_names_a_proxy_by_scheme(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(httpx.URL(url)) == proxy
