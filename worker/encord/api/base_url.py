"""Whom we ask, and through which proxy."""

from __future__ import annotations

import httpx

from schemas.events import ErrorCode
from worker.errors import SettingError
from worker.http.proxies import find_proxy, read_url


def environment_proxy(domain: str) -> str | None:
    """Returns the proxy that the environment names for `domain`; never one for loopback.

    Raises:
        SettingError: `domain` is not a URL that can be asked, or the proxy's can't be used.
    """
    return find_proxy(parse_domain(domain))


def parse_domain(domain: str) -> httpx.URL:
    """Returns scheme, host and any path of the API.

    Raises:
        SettingError: `domain` is not a URL that can be asked.
    """
    try:
        url = read_url(domain)
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
