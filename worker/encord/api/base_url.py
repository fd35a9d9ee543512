"""Whom we ask, and through which proxy."""

from __future__ import annotations

import urllib.request

import httpx

from schemas.events import ErrorCode
from worker.errors import SettingError


def environment_proxy(domain: str) -> str | None:
    """Returns the proxy that the environment names for `domain`; never one for loopback.

    Raises:
        SettingError: `domain` is not a URL that can be asked, or the proxy's can't be used.
    """
    url = parse_domain(domain)
    if url.host in {"localhost", "::1"} or url.host.startswith("127."):
        return None
    if urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    name = url.scheme if url.scheme in proxies else "all"
    text = proxies.get(name, "").strip()
    return _parse_proxy(text, f"{name.upper()}_PROXY") if text else None


def _parse_proxy(text: str, name: str) -> str:
    """Returns a proxy's URL; `host:port` means one that is asked over HTTP, as it does for curl."""
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as exc:
        raise _proxy_error(name, "is not a URL") from exc
    if url.scheme not in {"http", "https"}:
        raise _proxy_error(name, "names a kind of proxy that is not supported, such as SOCKS")
    if not url.host:
        raise _proxy_error(name, "names no host")
    return text if "://" in text else f"http://{text}"


def _proxy_error(name: str, message: str) -> SettingError:
    return SettingError(
        f"{name} {message}; it must be like http://proxy.example:3128",
        code=ErrorCode.INVALID_SETTING,
    )


def parse_domain(domain: str) -> httpx.URL:
    """Returns scheme, host and any path of the API.

    Raises:
        SettingError: `domain` is not a URL that can be asked.
    """
    try:
        url = httpx.URL(domain)
    except (httpx.InvalidURL, TypeError) as exc:
        raise _domain_error("is not a URL") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise _domain_error("must be a URL like https://api.encord.com")
    if url.userinfo:
        raise _domain_error("must hold no user name and no password")
    if url.query or url.fragment:
        raise _domain_error("must hold no query and no fragment")
    return url


def _domain_error(message: str) -> SettingError:
    return SettingError(f"ENCORD_DOMAIN {message}", code=ErrorCode.INVALID_SETTING)
