"""What is shown as a picture, by its first bytes alone."""

from __future__ import annotations

import pytest

from schemas.events import ErrorCode
from worker.errors import InputError, ShortageError
from worker.gateway.files import pictures as module
from worker.gateway.files.pictures import Pictures, image_type
from worker.gateway.problems import ProblemError

BITMAP = b"BM" + bytes(12)


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\x89PNG\r\n\x1a", None),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\xff\xd8", None),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"GIF88a", None),
        (b"RIFF\1\2\3\4WEBPVP8 ", "image/webp"),
        (b"RIFF\1\2\3\4WEBPVP8L", "image/webp"),
        (b"RIFX\1\2\3\4WEBPVP8 ", None),
        (b"RIFF\1\2\3\4WAVEfmt ", None),
        *(
            (BITMAP + size.to_bytes(4, "little"), "image/bmp")
            for size in (12, 40, 52, 56, 64, 108, 124)
        ),
        (BITMAP + (41).to_bytes(4, "little"), None),
        (BITMAP + (40).to_bytes(4, "big"), None),
        (b"BA" + bytes(12) + (40).to_bytes(4, "little"), None),
        (b"<svg", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_its_first_bytes(head: bytes, media_type: str | None) -> None:
    assert image_type(head + b"\0" * 8 if media_type else head) == media_type


@pytest.mark.parametrize(
    ("error", "status", "code", "said"),
    [
        (InputError("no such file", code=ErrorCode.INVALID_INPUT), 404, "no_picture", "No such f"),
        (
            ShortageError("no room", code=ErrorCode.INTERNAL_ERROR),
            503,
            "picture_unavailable",
            "no room",
        ),
        (OSError("s3cret"), 503, "picture_unavailable", "OSError"),
        (MemoryError(), 503, "picture_unavailable", "MemoryError"),
        (TimeoutError(), 503, "picture_unavailable", "takes too long"),
    ],
)
async def test_what_keeps_a_picture_from_being_read_is_told(
    error: BaseException, status: int, code: str, said: str
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(ProblemError, match=said) as refused:
        await Pictures(())._read(fail)
    assert (refused.value.status, refused.value.code) == (status, code)
    assert "s3cret" not in refused.value.detail
    assert refused.value.headers == ({"Retry-After": "2"} if status == 503 else {})


async def test_a_turn_that_does_not_come_is_given_up_and_no_other_is_lost_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_DECODE_SECONDS", 0.01)
    pictures = Pictures(())
    async with pictures._frame_turn():
        for _ in range(2 * module._MOST_ASKED):
            with pytest.raises(ProblemError, match="unpacked for too long"):
                async with pictures._frame_turn():
                    pass
    async with pictures._frame_turn():
        pass


async def test_so_many_wait_for_their_turn_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ASKED", 2)
    pictures = Pictures(())
    async with pictures._frame_turn():
        pictures._asked += 1
        with pytest.raises(ProblemError, match="Too many frames"):
            async with pictures._frame_turn():
                pass
