"""Rules of files and URLs that commands name: none leads out of what an operator has named."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from worker.errors import InputError
from worker.files.file_access import AllowedFiles, may_be_read

OPEN = Path("/proc/self/fd")
NAMED = ("http://shelf.example/data/public",)
PARTS = st.lists(
    st.sampled_from([
        *"./\\?#;%&:@ \t\n\r\x00\x0b",
        "..",
        "%2e",
        "%2F",
        "%252e",
        "%09",
        "%5c",
        "a",
        "‥",
        "．",
    ]),
    max_size=8,
)


@given(PARTS)
def test_what_may_be_read_is_asked_below_what_was_named(parts: list[str]) -> None:
    """As the library that asks writes it, which leaves some characters out."""
    url = f"{NAMED[0]}/{''.join(parts)}"
    if may_be_read(url, NAMED):
        with suppress(ValueError):
            assert str(URL(url)).startswith(f"{NAMED[0]}/")


@pytest.mark.parametrize(
    "end",
    ["..?list", "..#a", "..;/secret", ".\t./secret", ".\n./.\n./secret", "%2e.?", "a/.%09./b"],
)
def test_no_url_that_leads_upwards_may_be_read(end: str) -> None:
    assert not may_be_read(f"{NAMED[0]}/{end}", NAMED)


@pytest.mark.parametrize("end", ["a b.png", "a.png?sig=1;2&x=a/b", "..a/b..", "a;v=1/b", "ä.png"])
def test_odd_names_below_what_was_named_may_be_read(end: str) -> None:
    assert may_be_read(f"{NAMED[0]}/{end}", NAMED)


@pytest.mark.parametrize("name", ["large", "pipe", "."])
def test_a_file_that_is_refused_once_it_is_open_is_closed_again(tmp_path: Path, name: str) -> None:
    """Or a worker would have no descriptor left after a thousand such commands."""
    (tmp_path / "large").write_bytes(b"1234")
    os.mkfifo(tmp_path / "pipe")
    allowed = AllowedFiles((tmp_path.resolve(),), "data.data_path", most_bytes=3)
    before = set(OPEN.iterdir())
    with pytest.raises(InputError):
        allowed.open(tmp_path / name)
    assert set(OPEN.iterdir()) <= before
