"""Weights links: good until they expire, and only as they were made."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from sandbox.errors import ForbiddenError
from sandbox.signed_urls import WeightsUrls

UUID = "6c47fdab-64b5-4ac3-af66-332168eba59a"


def _parts(link: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(link).query)
    return query["expires"][0], query["signature"][0]


def test_a_link_passes_and_names_its_training() -> None:
    links = WeightsUrls(b"key", 10)
    link = links.link("http://127.0.0.1:1", UUID)
    assert link.startswith(f"http://127.0.0.1:1/sandbox/weights/{UUID}?")
    links.check(UUID, *_parts(link))


def test_an_expired_link_does_not_pass() -> None:
    links = WeightsUrls(b"key", -1)
    expires, signature = _parts(links.link("", UUID))
    with pytest.raises(ForbiddenError, match="expired"):
        links.check(UUID, expires, signature)


def test_a_changed_link_does_not_pass() -> None:
    links = WeightsUrls(b"key", 10)
    expires, signature = _parts(links.link("", UUID))
    for changed in (
        (UUID.replace("6", "7"), expires, signature),
        (UUID, f"{expires}0", signature),
        (UUID, "x", signature),
        (UUID, expires, ""),
        (UUID, expires, "é"),
    ):
        with pytest.raises(ForbiddenError, match="signature"):
            links.check(*changed)


def test_another_key_makes_other_links() -> None:
    expires, signature = _parts(WeightsUrls(b"other", 10).link("", UUID))
    with pytest.raises(ForbiddenError):
        WeightsUrls(b"key", 10).check(UUID, expires, signature)
