"""Times as Redis and the lists count them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds_of(time: datetime) -> int:
    """Returns a time in milliseconds since 1970, exactly: floats of seconds make some one less.

    Raises:
        TypeError: it is of no time zone.
    """
    return (time - _EPOCH) // _MILLISECOND
