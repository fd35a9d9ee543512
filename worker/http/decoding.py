"""Compressed replies, bounded by the size that they unfold to."""

from __future__ import annotations

import zlib
from typing import Final

import httpx

# An honest server packs once; each layer more multiplies what a few bytes unfold to.
_MOST_LAYERS: Final = 2

# Of gzip, one behind the other; tools that pack block by block make one of 64 KiB each.
_MOST_MEMBERS: Final = 1_000

_ZLIB_HEAD_BYTES: Final = 2


class Inflater:
    """Unpacks a body piece by piece, never to more than is asked for."""

    def __init__(self, content_encoding: str) -> None:
        """Takes the value of `Content-Encoding`.

        Raises:
            httpx.DecodingError: a coding that was not asked for, or too many of them.
        """
        codings = [coding.strip().lower() for coding in content_encoding.split(",")]
        codings = [coding for coding in codings if coding not in {"", "identity"}]
        if len(codings) > _MOST_LAYERS or not {"gzip", "x-gzip", "deflate"}.issuperset(codings):
            raise httpx.DecodingError(f"content-encoding {content_encoding[:100]!r}")
        self._layers = [_Layer(gzip=coding != "deflate") for coding in reversed(codings)]

    def feed(self, piece: bytes, most_bytes: int) -> bytes:
        """Returns what a piece unfolds to, at most so many bytes; the rest is dropped.

        Args:
            piece: Of the body, as it came.
            most_bytes: At least 1.

        Raises:
            httpx.DecodingError: it is broken, or something follows its end.
        """
        if not self._layers:
            return piece[:most_bytes]
        for layer in self._layers[:-1]:
            # Packing makes what can't be packed a little longer.
            piece = layer.feed(piece, most_bytes + most_bytes // 100 + 1024)
        return self._layers[-1].feed(piece, most_bytes)

    @property
    def is_complete(self) -> bool:
        """Whether the body has come to its end."""
        return all(layer.is_complete for layer in self._layers)


class _Layer:
    """One packing: of gzip, whose body may have several members, or of deflate."""

    def __init__(self, *, gzip: bool) -> None:
        self._bits = zlib.MAX_WBITS | 16 if gzip else zlib.MAX_WBITS
        self._inflate = zlib.decompressobj(self._bits)
        self._members = 1 if gzip else _MOST_MEMBERS
        # Of deflate, until it is known whether it has zlib's head.
        self._start = None if gzip else b""

    @property
    def is_complete(self) -> bool:
        return self._inflate.eof

    def feed(self, piece: bytes, most_bytes: int) -> bytes:
        if self._start is not None:
            piece = self._start + piece
            if len(piece) < _ZLIB_HEAD_BYTES:
                self._start = piece
                return b""
            self._start = None
            if not _is_zlib_head(piece):
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._unpack(piece, most_bytes)
        except zlib.error as exc:
            raise httpx.DecodingError(str(exc)) from exc

    def _unpack(self, piece: bytes, most_bytes: int) -> bytes:
        unpacked = b""
        while piece and len(unpacked) < most_bytes:
            if self._inflate.eof:
                self._begin_member()
            unpacked += self._inflate.decompress(piece, most_bytes - len(unpacked))
            piece = self._inflate.unused_data
        return unpacked

    def _begin_member(self) -> None:
        # Each costs a copy of what follows, and may unfold to nothing.
        if self._members == _MOST_MEMBERS:
            raise httpx.DecodingError("something follows the end of the compressed body")
        self._members += 1
        self._inflate = zlib.decompressobj(self._bits)


def _is_zlib_head(start: bytes) -> bool:
    """Tells zlib's two bytes from deflate alone, which some servers mean by it (RFC 1950, 2.2)."""
    return start[0] & 0x0F == zlib.DEFLATED and int.from_bytes(start[:2], "big") % 31 == 0
