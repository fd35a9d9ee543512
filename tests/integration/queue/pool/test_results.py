"""Rules of the result store: what it can't keep is tried again, whatever its errors are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from worker.errors import SettingError
from worker.queue.pool.results import ResultStore

if TYPE_CHECKING:
    from pathlib import Path


RESULT = b'"' + b"x" * 2000 + b'"'


class OddStore(MemoryFileSystem):  # type: ignore[misc]
    """A store whose errors are its own, as those of some clouds are."""

    protocol = "odd"

    def makedirs(self, path: str, exist_ok: bool = False) -> None:  # noqa: ARG002
        """Fails."""
        raise RuntimeError("quota with s3cret")


async def test_errors_of_a_store_s_own_are_told_like_those_of_a_disk() -> None:
    fsspec.register_implementation("odd", OddStore, clobber=True)
    with pytest.raises(OSError, match="RuntimeError") as caught:
        await ResultStore("odd://results", 1024).keep("1-0", RESULT)
    assert "s3cret" not in str(caught.value)


class ShortStore(MemoryFileSystem):  # type: ignore[misc]
    """A store that keeps less than it was given, and says nothing."""

    protocol = "short"
    keeps = 0

    def mv(self, path1: str, path2: str, **options: object) -> None:
        """Leaves the end behind."""
        super().mv(path1, path2, **options)
        self.pipe_file(path2, self.cat_file(path2)[: self.keeps])


@pytest.mark.parametrize("size", [0, len(RESULT) - 1])
async def test_a_result_of_which_the_store_kept_less_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(ShortStore, "keeps", size)
    fsspec.register_implementation("short", ShortStore, clobber=True)
    with pytest.raises(OSError, match=f"holds {size} bytes of the {len(RESULT)}"):
        await ResultStore("short://results", 1024).keep("1-0", RESULT)


class GuardedStore(MemoryFileSystem):  # type: ignore[misc]
    """A store that lets nobody in who has not the password that its URL has."""

    protocol = "guarded"

    def __init__(self, password: str = "", **options: object) -> None:
        super().__init__(**options)
        if password != "s3cret":
            raise PermissionError(13, "Permission denied")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        _, has_password, rest = path.partition("://us:")
        return {"password": rest.partition("@")[0]} if has_password else {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("guarded://").rpartition("@")[2].lstrip("/")


async def test_a_store_is_rehearsed_with_the_credentials_of_its_url() -> None:
    fsspec.register_implementation("guarded", GuardedStore, clobber=True)
    await ResultStore("guarded://us:s3cret@here/results", 1024).rehearse()
    with pytest.raises(PermissionError):
        await ResultStore("guarded://here/results", 1024).rehearse()


@pytest.mark.parametrize("url", ["odd-s3cret://results", "odd-s3cret::memory://results"])
def test_a_store_that_nobody_knows_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingError, match=r"^TRAINMASTER_RESULT_STORE: ") as caught:
        ResultStore(url, 1024)
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("protocol", ["", "file://", "local://"])
async def test_a_large_result_lies_in_a_folder_however_it_is_named(
    tmp_path: Path, protocol: str
) -> None:
    url = await ResultStore(f"{protocol}{tmp_path / 'results'}", 1024).keep("1-0", RESULT)
    assert url is not None
    with fsspec.open(url) as file:
        assert file.read() == RESULT
