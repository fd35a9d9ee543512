"""Backfills of pictures behind a URL: the reader lists the folder, the workers read its files."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING

import orjson

from tests.console import Console, running_worker, wait_until
from tests.web_server import serving
from trainmaster_client import Client
from worker.backfill.output import Output
from worker.backfill.parts import read_records

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.backfill.studio import Studio

LEAST_SCORE = 0.3


class Shelf(SimpleHTTPRequestHandler):
    """Serves a folder, lists of its names included."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass


def test_a_remote_folder_is_predicted_on_like_a_local_one(studio: Studio, tmp_path: Path) -> None:
    """Its truth is that of the local files; a folder that no worker may read fails each item."""
    pictures = studio.folder / "pictures" / "101" / "shapes" / "train"
    local = {path: truth for path, truth in studio.truth.items() if path.startswith(str(pictures))}
    out, drawn = tmp_path / "out", tmp_path / "drawn"
    with serving(partial(Shelf, directory=str(pictures))) as server:
        url = f"{server}/"
        settings = studio.console.environment | {"TRAINMASTER_SOURCE_URLS": url}
        settings |= {"TRAINMASTER_NAMESPACE": "remote"}
        console = Console(studio.redis_url, "remote", **settings)
        with running_worker(console, tmp_path / "worker.log"):
            said = console.run(
                *("backfill", "run", url, "--id", "remote", "--output", str(out)),
                *studio.options(),
                *("--render", str(drawn)),
            )
            assert said.code == 0, said.err
            other = f"{url.replace('127.0.0.1', 'localhost')}"
            refused = console.run(
                *("backfill", "run", other, "--id", "refused", "--output", str(tmp_path / "no")),
                *studio.options(),
                "--json",
            )
            data = studio.command_data(tmp_path) | {"source": other, "columns": None}
            with Client(studio.redis_url, namespace="remote") as producer:
                producer.submit("backfill", data, id="queued")
            ask = ("events", "--id", "queued", "--type", "failed", "--json")
            wait_until(lambda: bool(console.run(*ask).lines), "the end of the queued one")
            (failed,) = console.run(*ask).lines
    records = list(read_records(Output(str(out))))
    by_path = [
        {**record, "data_path": record["data_path"].replace(url, f"{pictures}/")}
        for record in records
        if record["data_path"].replace(url, f"{pictures}/") in local
    ]
    assert len(by_path) == len(local)
    assert studio.score(by_path) > LEAST_SCORE
    assert len(list(drawn.iterdir())) >= len(records)
    assert refused.code == 1
    (told,) = refused.lines
    assert told["failures"] == {"invalid_input": len(records)}
    failure = orjson.loads((tmp_path / "no" / "failures.jsonl").read_bytes().splitlines()[0])
    assert "TRAINMASTER_SOURCE_URLS" in failure["error"]["message"]
    (problem,) = failed["data"]["error"]["problems"]
    assert problem["path"] == "data.source"
    assert "TRAINMASTER_SOURCE_URLS" in problem["message"]
