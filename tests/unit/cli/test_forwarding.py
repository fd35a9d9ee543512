"""Which URLs events may be forwarded to."""

from __future__ import annotations

import click
import pytest

from worker.cli.forwarding import ForwardUrl


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("8000", "http://localhost:8000"),
        ("localhost:8000/hook?a=b", "http://localhost:8000/hook?a=b"),
        ("https://me:pw@example.com", "https://me:pw@example.com"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
    ],
)
def test_a_url_is_taken_whole_or_in_part(value: str, url: str) -> None:
    assert ForwardUrl().convert(value, None, None) == url


@pytest.mark.parametrize("host", ["[::1]99999999", "[::1]:99999999", "[v1.x]", "a[::1]", "[::1]x"])
def test_what_the_connection_could_not_be_made_to_is_wrong_usage(host: str) -> None:
    """Not an error that shows where in our code it came about."""
    with pytest.raises(click.UsageError, match="is no URL like"):
        ForwardUrl().convert(f"http://{host}/hook", None, None)
