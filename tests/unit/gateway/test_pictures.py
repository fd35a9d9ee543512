"""What is shown as a picture, by its first bytes alone."""

from __future__ import annotations

import pytest

from worker.gateway.pictures import image_type

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
