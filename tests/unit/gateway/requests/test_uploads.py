"""Manifests on their way to where workers read them."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request

from worker.backfill.results.output import Output
from worker.gateway.problems import ProblemError
from worker.gateway.requests import uploads
from worker.gateway.requests.bodies import Bounds
from worker.gateway.requests.uploads import (
    check_uploads,
    spooled_body,
    spooled_file,
    store,
    upload_name,
)

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Message

BOUNDS = Bounds(most_bytes=10_000, idle_seconds=5.0)


def request(*parts: bytes) -> Request:
    coming = iter(enumerate(parts, 1))

    async def receive() -> Message:
        number, part = next(coming)
        return {"type": "http.request", "body": part, "more_body": number < len(parts)}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_a_manifest_is_kept_byte_by_byte_however_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_PIECE_BYTES", 4)
    whole = b"0123456789"
    async with spooled_body(request(b"012", b"3456", b"789"), BOUNDS) as spooled:
        assert (spooled.size, spooled.digest) == (10, hashlib.sha256(whole).hexdigest())
        name = upload_name("night", spooled, "csv")
        assert name == f"night-{spooled.digest[:16]}.csv"
        for _ in range(2):
            # Said again, it is the same file.
            await store(spooled, str(tmp_path), name)
        assert (tmp_path / name).read_bytes() == whole
        file = spooled.file
    assert file.closed
    kept = Output(str(tmp_path))
    async with spooled_file(kept, name) as again:
        assert (again.size, again.digest) == (10, hashlib.sha256(whole).hexdigest())
        again.file.seek(0)
        assert again.file.read() == whole
        file = again.file
    assert file.closed


async def test_a_manifest_of_nothing_is_none() -> None:
    with pytest.raises(ProblemError) as refused:
        async with spooled_body(request(b"", b""), BOUNDS):
            pass
    assert (refused.value.status, refused.value.code) == (400, "empty_manifest")


def test_where_manifests_go_must_be_said() -> None:
    assert check_uploads("/up") == "/up"
    with pytest.raises(ProblemError, match="TRAINMASTER_GATEWAY_UPLOADS") as refused:
        check_uploads(None)
    assert (refused.value.status, refused.value.code) == (501, "uploads_not_set")


@pytest.mark.parametrize(
    ("number", "is_full"),
    [
        (errno.ENOSPC, True),
        (errno.EDQUOT, True),
        (errno.EFBIG, True),
        (errno.EACCES, False),
        (errno.EIO, False),
    ],
)
async def test_a_disk_that_is_full_is_told_from_one_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, is_full: bool
) -> None:
    def fail(*_: object) -> None:
        # As a store of another kind tells of it.
        raise OSError("the store failed") from OSError(number, "because")

    async with spooled_body(request(b"x"), BOUNDS) as spooled:
        monkeypatch.setattr(uploads, "_copy", fail)
        with pytest.raises(ProblemError) as refused:
            await store(spooled, str(tmp_path), "name")
    assert (refused.value.status, refused.value.code) == (503, "uploads_unavailable")
    assert ("is full" in refused.value.detail) == is_full
    assert refused.value.headers == {"Retry-After": "10", "Connection": "close"}


async def test_no_room_for_a_temporary_file_is_told_wherever_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "failures.jsonl").write_bytes(b"x")
    for name in ("tempfile.TemporaryFile", "_written"):
        with monkeypatch.context() as patch:
            patch.setattr(f"worker.gateway.requests.uploads.{name}", fail)
            for spooling in (
                spooled_body(request(b"x"), BOUNDS),
                spooled_file(Output(str(tmp_path)), "failures.jsonl"),
            ):
                with pytest.raises(ProblemError, match="is full") as refused:
                    async with spooling:
                        pass
                assert refused.value.code == "uploads_unavailable"
