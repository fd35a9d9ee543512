"""Pictures that are stored turned or mirrored, with the EXIF orientation that sets them right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from PIL import ExifTags, Image

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH: Final = 160
_HEIGHT: Final = 96

# How the upright picture is stored for each orientation: the opposite of how it is shown.
_STORED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_OPTIONS: Final = {".webp": {"lossless": True}, ".jpg": {"quality": 95, "subsampling": 0}}
RED: Final = (230, 30, 30)
# Where the red of `corners` is: x, y, w, h, 0 to 1.
RED_BOX: Final = (0.0, 0.0, 0.25, 0.5)


def corners() -> Image.Image:
    """Returns a picture, not square, that looks like itself from one side only."""
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), (30, 30, 30))
    picture.paste(RED, (0, 0, _WIDTH // 4, _HEIGHT // 2))
    picture.paste((30, 230, 30), (_WIDTH // 2, _HEIGHT // 2, _WIDTH, _HEIGHT))
    return picture


def orientation_exif(orientation: int | str) -> bytes:
    """Returns EXIF that tells an orientation, as JPEG has it; text is of the wrong type there."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1 if isinstance(orientation, str) else orientation
    told = exif.tobytes()
    if isinstance(orientation, int):
        return told
    # Type 3 is a short, type 2 is text.
    tag = told.index(b"\x12\x01") if b"II*" in told else told.index(b"\x01\x12")
    at = tag + (2 if b"II*" in told else 3)
    return told[:at] + b"\x02" + told[at + 1 :]


def turned_file(
    file: Path, upright: Image.Image, orientation: int, *, exif: bytes | None = None
) -> Path:
    """Writes a picture so that it is shown upright by its EXIF orientation."""
    method = _STORED.get(orientation)
    stored = upright if method is None else upright.transpose(method)
    if file.suffix == ".tiff":
        stored.save(file, tiffinfo={ExifTags.Base.Orientation: orientation})
        return file
    options = _OPTIONS.get(file.suffix, {})
    stored.save(file, exif=exif or orientation_exif(orientation), **options)  # type: ignore[arg-type]
    return file


def unturned_files(folder: Path) -> tuple[Path, Path]:
    """Writes pictures whose orientation browsers pass over: in XMP, and behind a PNG's pixels."""
    xmp, late = folder / "xmp.jpg", folder / "late.png"
    corners().save(xmp, xmp=b'<rdf:Description tiff:Orientation="6"/>')
    early = turned_file(folder / "early.png", corners(), 1, exif=orientation_exif(6)).read_bytes()
    start = early.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(early[start : start + 4], "big")
    late.write_bytes(early[:start] + early[end:-12] + early[start:end] + early[-12:])
    return xmp, late
