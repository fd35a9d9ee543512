"""Backfills of what lies behind a URL: a folder of pictures, and the manifest of a GitHub push."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING

import httpx
import orjson

from tests.console import TIMEOUT_SECONDS, Console, running_worker, wait_until
from tests.gateway_process import running_gateway
from tests.web_server import Bodies, serving
from tests.webhook_examples import GITHUB_SECRET, push_example, pushed, signed_by_github
from trainmaster_client import Client
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.backfill.studio import Studio

LEAST_SCORE = 0.3
REPOSITORY = "acme/street-data"
COMMIT = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"


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


def test_a_push_to_github_becomes_one_backfill_of_the_manifest_at_its_commit(
    studio: Studio, tmp_path: Path
) -> None:
    """By the file that the page about webhooks shows."""
    items = [item["data_uuid"] for item in studio.sandbox.items()[:2]]
    manifest = "\n".join(["data_uuid", *items, ""]).encode()
    files = Bodies({f"{REPOSITORY}/{COMMIT}/manifest.csv": manifest})
    secret = tmp_path / "github_webhook"
    secret.write_text(f"{GITHUB_SECRET}\n", "utf-8")
    body = pushed(COMMIT, REPOSITORY, "pictures/1.jpg", "manifest.csv")
    # A branch that is made at the same commit is another delivery.
    other = pushed(COMMIT, REPOSITORY, "manifest.csv")
    sent = [("d-1", body), ("d-2", body), ("d-3", other)]
    with files.serve() as server:
        file = tmp_path / "integrations.toml"
        file.write_text(push_example(studio.asked, secret, f"{server}/length"), "utf-8")
        settings = studio.console.environment | {
            "TRAINMASTER_NAMESPACE": "pushed",
            "TRAINMASTER_INTEGRATIONS_FILE": str(file),
            "TRAINMASTER_GATEWAY_FOLDER": str(tmp_path / "gateway"),
            "TRAINMASTER_SOURCE_URLS": f"{server}/length/{REPOSITORY}/",
        }
        console = Console(studio.redis_url, "pushed", **settings)
        with (
            running_worker(console, tmp_path / "worker.log"),
            running_gateway(console, tmp_path / "gateway.log") as gateway,
            httpx.Client(base_url=gateway.url, timeout=TIMEOUT_SECONDS, trust_env=False) as http,
        ):
            answers = [
                http.post(
                    "/v1/webhooks/github", headers=signed_by_github(text, delivery), content=text
                )
                for delivery, text in sent
            ]
            ask = ("events", "--type", "backfill", "--json")
            ends = {"backfill.succeeded", "backfill.failed"}
            wait_until(
                lambda: any(each["type"] in ends for each in console.run(*ask).lines),
                "the end of the backfill",
            )
            events = console.run(*ask).lines
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.json()["repeat"] for answer in answers] == [False, True, False]
    assert [each["type"] for each in events].count("backfill.accepted") == 1
    result = events[-1]["data"]["result"]
    assert result["items"] == result["succeeded"] == len(items), events
    assert {each["correlationid"] for each in events} == {COMMIT}
