"""A backfill that a webhook begins: one trace of its own, and one of each item that links to it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import orjson

from tests.collector import orphans, tree
from tests.console import Console, running_worker, wait_until
from tests.faults.scenarios.backfills import ASKED, running_stub
from tests.gateway_process import running_gateway
from tests.webhook_examples import GITHUB_SECRET, pushed, signed_by_github

if TYPE_CHECKING:
    from pathlib import Path

    from tests.collector import Collector, Seen

TRACE, SENDER = "e" * 32, "f" * 16
ITEMS = 4
BACKFILL_ID = "github/nightly/commit-1"
SHOWN = ("trainmaster.command.type", "http.response.status_code", "trainmaster.outcome")


def test_a_delivery_s_trace_holds_its_backfill_and_items_link_to_that(
    redis_url: str, namespace: str, collector: Collector, tmp_path: Path
) -> None:
    with running_stub(tmp_path, 0.005) as api:
        console = _console(redis_url, namespace, api, collector, tmp_path)
        with (
            running_worker(console, tmp_path / "worker.log"),
            running_gateway(console, tmp_path / "gateway.log") as gateway,
        ):
            _deliver(gateway.url)
            wait_until(lambda: bool(collector.named(BACKFILL_ID, "settle")), "the backfill's end")
            wait_until(lambda: len(_items(collector)) == ITEMS, "the items' spans")
    spans = collector.of(BACKFILL_ID)
    print(f"\n{tree(spans, SHOWN)}")  # noqa: T201 - docs/tracing.md shows it

    assert {each.trace_id for each in spans} == {TRACE}
    assert orphans(collector.spans, {SENDER}) == []
    (run,) = [each for each in spans if each.name.startswith("process ")]
    assert run.parent_id == SENDER
    assert run.attributes["trainmaster.command.type"] == "backfill"
    assert run.attributes["trainmaster.outcome"] == "succeeded"
    for item in _items(collector):
        of_it = [each for each in collector.spans if each.trace_id == item.trace_id]
        print(tree(of_it, SHOWN))  # noqa: T201 - docs/tracing.md shows it
        assert item.trace_id != TRACE
        assert item.links == [(TRACE, SENDER)]
        assert item.attributes["trainmaster.backfill"] == BACKFILL_ID
        (predicted,) = [each for each in of_it if each.name.startswith("POST ")]
        assert predicted.name.endswith("/object-detection/predict")


def _console(
    redis_url: str, namespace: str, api: str, collector: Collector, folder: Path
) -> Console:
    manifest = folder / "manifest.jsonl"
    rows = [{"data_uuid": str(UUID(int=number + 1))} for number in range(ITEMS)]
    manifest.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    file = folder / "integrations.toml"
    data = {"task": "object_detection", **ASKED, "source": str(manifest)}
    fields = "\n".join(f"{name} = \"'{value}'\"" for name, value in data.items())
    file.write_text(
        '[sources.github]\nscheme = "github"\nsecrets = [{ env = "GITHUB_SECRET" }]\n'
        '[[sources.github.rules]]\nname = "nightly"\non = "push"\nkey = "body.after"\n'
        '[sources.github.rules.command]\ntype = "backfill"\npriority = "bulk"\n'
        f"[sources.github.rules.command.data]\n{fields}\n",
        "utf-8",
    )
    return Console(
        redis_url,
        namespace,
        ENCORD_DOMAIN=api,
        TRAINMASTER_BEARER_TOKEN="a-token-of-the-tests",
        TRAINMASTER_DATA_ROOTS=str(folder),
        TRAINMASTER_RESULT_STORE=str(folder / "results"),
        TRAINMASTER_INTEGRATIONS_FILE=str(file),
        TRAINMASTER_GATEWAY_FOLDER=str(folder / "gateway"),
        GITHUB_SECRET=GITHUB_SECRET,
        **collector.environment(),
    )


def _deliver(url: str) -> None:
    body = pushed("commit-1", "acme/street-data", "manifest.jsonl")
    headers = {
        **signed_by_github(body, "delivery-1"),
        "traceparent": f"00-{TRACE}-{SENDER}-01",
    }
    answer = httpx.post(f"{url}/v1/webhooks/github", content=body, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text


def _items(collector: Collector) -> list[Seen]:
    """Returns the first spans of items whose end is told."""
    settled = {
        each.trace_id
        for each in collector.spans
        if each.name.startswith("settle ") and each.name.endswith(":due:bulk")
    }
    return [
        each
        for each in collector.spans
        if each.name.startswith("create ") and each.trace_id in settled
    ]
