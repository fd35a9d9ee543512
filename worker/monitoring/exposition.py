"""The formats of `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry


def encoder_for(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """Returns what encodes metrics as a client asks for them, and the media type of that.

    Args:
        accept: the client's header, whatever it says.
    """
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        # It compares versions that are none.
        return choose_encoder("")
