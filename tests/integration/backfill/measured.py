"""A backfill of generated pictures by path, scored, and interactive commands beside it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tests.console import running_worker, wait_until
from tests.integration.backfill.probing import Prober, percentile
from tests.integration.backfill.studio import PICTURES_A_SEED, TASK, Studio, open_studio
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from pathlib import Path

ID = "measured"
FIRST_SEED = 201
WARMING_UP = 20


@dataclass(frozen=True)
class Interactive:
    """Times of interactive commands from being sent to their end's event, in seconds."""

    commands: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, prober: Prober) -> Interactive:
        """Returns the figures of a prober."""
        times = prober.seconds
        assert prober.failed == 0
        p50, p99, longest = (round(percentile(times, each), 4) for each in (50, 99, 100))
        return cls(len(times), p50, p99, longest)

    def words(self) -> str:
        """Returns the figures in words."""
        p50, p99, longest = (round(1000 * each) for each in (self.p50, self.p99, self.longest))
        return f"{self.commands} commands, p50 {p50} ms, p99 {p99} ms, longest {longest} ms"


@dataclass(frozen=True)
class Measured:
    """What a backfill of pictures came to.

    Attributes:
        doubled: results of an item that has another one.
        score: mean average precision of its boxes against the truth, 0 to 1.
        seconds: from its beginning to its end.
    """

    pictures: int
    succeeded: int
    doubled: int
    score: float
    seconds: float
    alone: Interactive
    beside: Interactive

    def table(self) -> list[tuple[str, str]]:
        """Returns names and figures."""
        rows = [(name, f"{value}") for name, value in asdict(self).items() if name not in _TIMES]
        rows += [
            ("interactive alone", self.alone.words()),
            ("interactive beside the backfill", self.beside.words()),
        ]
        return rows


_TIMES = frozenset({"alone", "beside"})


def measure(
    redis_url: str,
    folder: Path,
    output: Path,
    pictures: int,
    *,
    epochs: int,
    alone_seconds: float,
    **settings: str,
) -> Measured:
    """Runs the backfill and the commands beside it.

    Args:
        redis_url: of an empty ledger.
        folder: for pictures, sandbox and logs.
        output: for the results, and `drawn` for the pictures.
        pictures: how many, a multiple of `PICTURES_A_SEED` is drawn.
        epochs: of the detector's training.
        alone_seconds: for how long commands are sent with no backfill beside them.
        settings: of the worker.
    """
    seeds = range(FIRST_SEED, FIRST_SEED + -(-pictures // PICTURES_A_SEED))
    with open_studio(redis_url, folder, seeds, epochs=epochs, **settings) as studio:
        return measure_in(studio, output, pictures, alone_seconds)


def measure_in(studio: Studio, output: Path, pictures: int, alone_seconds: float) -> Measured:
    """Does so in a studio that is there."""
    with running_worker(studio.console, studio.folder / "measured.log"):
        with _prober(studio) as first:
            # The sandbox compiles its net for the first of them.
            wait_until(lambda: len(first.seconds) >= WARMING_UP, "the sandbox is warm")
        with _prober(studio) as alone:
            time.sleep(alone_seconds)
        return _run(studio, output, pictures, Interactive.of(alone))


def _prober(studio: Studio) -> Prober:
    held_out = studio.sandbox.items("heldout")[0]["data_uuid"]
    data: dict[str, Any] = {**studio.asked, "task": TASK, "data_uuid": held_out}
    return Prober(studio.redis_url, "studio", "predict", data)


def _run(studio: Studio, output: Path, pictures: int, alone: Interactive) -> Measured:
    source = studio.manifest("measured.jsonl", most=pictures)
    arguments = [
        *("backfill", "run", str(source), "--id", ID, "--map", "data_path=file"),
        *("--output", str(output), "--render", str(output / "drawn")),
        *studio.options(),
    ]
    process = studio.console.start(*arguments)
    try:
        wait_until(lambda: studio.has_ended(ID, 1), "the first item has ended")
        with _prober(studio) as beside:
            while studio.status(ID)["state"] == "running":
                time.sleep(0.5)
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, out + err
    told = studio.status(ID)
    records = list(read_records(Output(str(output))))
    numbers = {record["item"] for record in records}
    assert numbers == set(range(pictures))
    return Measured(
        pictures,
        told["succeeded"],
        len(records) - len(numbers),
        round(studio.score(records), 4),
        told["result"]["seconds"],
        alone,
        Interactive.of(beside),
    )
