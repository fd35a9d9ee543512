"""What became of a load of chaos beyond the ends of its commands: answers, creations, items."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from tests.faults.audit import state
from tests.faults.scenarios.chaos_load import item_uuid
from tests.faults.scenarios.trainings import owners_of_trainings
from tests.faults.workload import doubled_titles
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.faults.audit import Audit
    from tests.faults.scenarios.chaos_load import Load


def count_anothers(audit: Audit, load: Load) -> int:
    """Returns how many reads ended with the answer to another one."""
    return sum(
        end["data"]["result"]["model_group"]["model_uuid"] != model_uuid
        for command_id, model_uuid in load.asked.items()
        for end in audit.ends(command_id)
        if state(end) == "succeeded"
    )


def count_creations(audit: Audit, load: Load, made: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Returns how much was created twice, and a line for each training that nobody owns.

    A line tells of the commands that may have created it too, with all their events: without them
    nobody finds out why.
    """
    owners = owners_of_trainings(audit, load.same)
    per_kind = Counter((one["model_uuid"], one["epochs"]) for one in made["trainings"])
    wanted = Counter(load.same.values())
    doubled = sum(max(0, count - wanted[kind]) for kind, count in per_kind.items())
    doubled += sum(len(ids) - 1 for ids in owners.values())
    models = [one for one in made["models"] if one["title"].startswith("c")]
    doubled += doubled_titles(models, "c")
    orphans = [
        _orphan(audit, load, one) for one in made["trainings"] if one["training_uuid"] not in owners
    ]
    return doubled, orphans


def _orphan(audit: Audit, load: Load, training: Mapping[str, Any]) -> str:
    kind = training["model_uuid"], training["epochs"]
    told = [
        f"{command_id} "
        + " ".join(
            f"{event['time'][11:23]}={state(event)}:{event['data'].get('training_uuid', '')}"
            for event in audit.events[command_id]
        )
        for command_id, same in load.same.items()
        if same == kind
    ]
    uuid, created_at = training["training_uuid"], training["created_at"]
    return f"nobody's training {uuid} of {created_at}: {'; '.join(told)}"


def count_items(load: Load) -> tuple[Counter[str], list[str]]:
    """Counts the results of all backfills' items; returns a line for each that is wrong, too."""
    counts: Counter[str] = Counter(items=sum(load.backfills.values()))
    odd = []
    for backfill_id, items in load.backfills.items():
        at = load.fleet.folder / "results" / "backfills" / f"backfill-{backfill_id}"
        found: Counter[int] = Counter()
        for record in read_records(Output(str(at))):
            found[record["item"]] += 1
            uuid = item_uuid(int(backfill_id[2:]), record["item"])
            told = orjson.dumps(record.get("frames"))
            if record["state"] != "succeeded" or uuid.encode() not in told:
                counts["wrong"] += 1
                odd.append(f"item of {uuid}: {record}"[:400])
        counts["lost"] += items - len(found)
        counts["doubled"] += found.total() - len(found)
    return counts, odd
