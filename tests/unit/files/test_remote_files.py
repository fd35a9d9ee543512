"""Rules of what lies in a store: it reads as a file on a disk does."""

from __future__ import annotations

import fsspec

from worker.files.remote_files import open_remote

CONTENT = bytes(range(10))


def test_what_stands_at_a_place_that_was_sought_is_read_to_the_end() -> None:
    """As tables in Parquet and archives are read: from their last bytes on."""
    with fsspec.open("memory://sought", "wb") as file:
        file.write(CONTENT)
    with open_remote("memory://sought") as file:
        file.seek(-3, 2)
        assert file.read() == CONTENT[-3:]
        file.seek(2)
        assert file.tell() == 2
        assert file.read() == CONTENT[2:]
