"""A backfill measured: `python -m tests.integration.backfill [OPTION ...] --output DIR`.

Draws pictures, trains a detector in the sandbox, and predicts on all pictures by their paths.
Prints its score against the truth, its rate, and what interactive commands wait before it and
beside it; leaves results, report and pictures in DIR, to be looked at.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.integration.backfill.measured import measure
from worker.embedded import EmbeddedRedis


def main() -> int:
    """Measures what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.backfill", description=__doc__
    )
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=25, help="of the detector's training")
    parser.add_argument(
        "--places", type=int, default=8, help="the worker's TRAINMASTER_CONCURRENCY"
    )
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name) / "redis") as redis:
        found = measure(
            redis.url,
            Path(name) / "studio",
            options.output.absolute(),
            options.pictures,
            epochs=options.epochs,
            alone_seconds=20,
            TRAINMASTER_CONCURRENCY=str(options.places),
        )
    for title, figure in found.table():
        sys.stdout.write(f"{title:32} {figure}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
