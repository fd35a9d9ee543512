"""Compressed replies, bounded by the size that they unfold to."""

from __future__ import annotations

import zlib

import httpx

# An honest server packs once; each layer more multiplies what a few bytes unfold to.
_MOST_LAYERS = 2


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

        Raises:
            httpx.DecodingError: it is broken.
        """
        for layer in self._layers:
            piece = layer.feed(piece, most_bytes)
        return piece[:most_bytes]

    @property
    def is_complete(self) -> bool:
        """Whether the body has come to its end."""
        return all(layer.is_complete for layer in self._layers)


class _Layer:
    def __init__(self, *, gzip: bool) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16 if gzip else zlib.MAX_WBITS)
        self._may_be_raw = not gzip

    @property
    def is_complete(self) -> bool:
        return self._inflate.eof

    def feed(self, piece: bytes, most_bytes: int) -> bytes:
        if not piece:
            return b""
        may_be_raw, self._may_be_raw = self._may_be_raw, False
        try:
            return self._inflate.decompress(piece, most_bytes)
        except zlib.error as exc:
            if not may_be_raw:
                raise httpx.DecodingError(str(exc)) from exc
            # By "deflate" some servers mean it without zlib's head.
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            return self.feed(piece, most_bytes)
