"""A trained detector, pictures whose truth is known, and the console script that asks for them."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from demo.scores import Scored, box_map50
from sandbox.learning.generator import generate
from tests.console import Console
from tests.sandbox_process import SandboxProcess, copy_state, running_sandbox
from tests.shared_folder import one_at_a_time, shared_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TASK = "object_detection"
# The generator draws so many single pictures of training for a seed.
PICTURES_A_SEED = 120


@dataclass(frozen=True)
class Studio:
    """What backfills of generated pictures need.

    Attributes:
        asked: project, attachment and training of the detector.
        truth: what each picture shows, by path.
        categories: feature hash to name, of the model's ontology and of the pictures'.
    """

    console: Console
    sandbox: SandboxProcess
    folder: Path
    asked: dict[str, str]
    truth: dict[str, list[dict[str, Any]]]
    categories: dict[str, str]

    @property
    def redis_url(self) -> str:
        """Where the ledger is."""
        return self.console.environment["TRAINMASTER_REDIS_URL"]

    def options(self) -> list[str]:
        """Options of `backfill run` that name the model."""
        return [
            *("--project", self.asked["project_uuid"]),
            *("--attachment", self.asked["project_model_uuid"]),
            *("--training", self.asked["training_uuid"]),
            *("--task", TASK),
            *("--conf-thresh", "0.05"),
        ]

    def command_data(self, source: Path, **more: Any) -> dict[str, Any]:
        """Returns the data of the command `backfill` on a manifest of paths."""
        columns = {"data_path": "file"}
        common = {**self.asked, "task": TASK, "conf_thresh": 0.05, "columns": columns}
        return {**common, "source": str(source), **more}

    def manifest(self, name: str, *more: bytes, most: int | None = None) -> Path:
        """Writes a manifest of the pictures, by paths beside it, and of further lines."""
        path = self.folder / name
        lines = [
            orjson.dumps({"file": str(Path(each).relative_to(self.folder))})
            for each in list(self.truth)[:most]
        ]
        path.write_bytes(b"\n".join([*lines, *more]) + b"\n")
        return path

    def score(self, records: Iterable[dict[str, Any]]) -> float:
        """Returns the mean average precision of records against the truth, 0 to 1."""
        scored = [Scored(self.truth[each["data_path"]], each["frames"]) for each in records]
        return box_map50(scored, self.categories)

    def states(self, backfill_id: str) -> Counter[str]:
        """Returns how often each event of a backfill was published."""
        events = self.console.run("events", "--type", "backfill", "--json").lines
        return Counter(
            event["type"].partition(".")[2] for event in events if event["subject"] == backfill_id
        )

    def status(self, backfill_id: str) -> dict[str, Any]:
        """Returns how a backfill stands."""
        (told,) = self.console.run("backfill", "status", backfill_id, "--json").lines
        return told

    def has_ended(self, backfill_id: str, least: int) -> bool:
        """Tells whether so many items of a backfill have succeeded."""
        said = self.console.run("backfill", "status", backfill_id, "--json")
        return said.code == 0 and said.lines[0]["succeeded"] >= least


def _draw(
    folder: Path, seeds: Iterable[int]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Draws pictures; returns what each shows, by path, and names by feature hash."""
    truth: dict[str, list[dict[str, Any]]] = {}
    categories: dict[str, str] = {}
    for seed in seeds:
        shapes = generate(folder / str(seed), seed)[0]
        categories |= {each.feature_hash: each.name for each in shapes.ontology}
        for item in shapes.items:
            if item.split == "train" and item.frames == 1:
                truth[str(item.file)] = orjson.loads(orjson.dumps(item.truth))["frames"]
    return truth, categories


def _lay_trained(state: Path, epochs: int) -> dict[str, str]:
    """Lays a state folder with a trained detector, which the first process of a run trains.

    Returns:
        Its model and its training.
    """
    kept = shared_folder() / f"detector-of-{epochs}-epochs"
    told = kept / "told.json"
    with one_at_a_time(kept.name):
        if not told.exists():
            kept.mkdir(exist_ok=True)
            with running_sandbox(kept / "state") as sandbox:
                model = sandbox.create_model()
                labels = [item["label_uuid"] for item in sandbox.items()]
                training = sandbox.create_training(model, epochs=epochs, labelsUuids=labels)
                assert sandbox.ended(model, training)["status"] == "done"
            told.write_bytes(orjson.dumps({"model": model, "training": training}))
    copy_state(kept / "state", state)
    found: dict[str, str] = orjson.loads(told.read_bytes())
    return found


@contextmanager
def open_studio(
    redis_url: str, folder: Path, seeds: Iterable[int], *, epochs: int = 10, **settings: str
) -> Iterator[Studio]:
    """Draws pictures, and runs a sandbox beside them with a detector trained on its own ones.

    Args:
        redis_url: of the ledger.
        folder: for all that comes of it; the worker may read below it.
        seeds: of the pictures, `PICTURES_A_SEED` for each.
        epochs: of the training.
        settings: of the worker.
    """
    truth, categories = _draw(folder / "pictures", seeds)
    trained = _lay_trained(folder / "sandbox", epochs)
    with running_sandbox(folder / "sandbox") as sandbox:
        boxes = sandbox.features("fasterRcnn")
        console = Console(
            redis_url,
            "studio",
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
            TRAINMASTER_DATA_ROOTS=str(folder),
            TRAINMASTER_RESULT_STORE=str(folder / "store"),
            TRAINMASTER_LOG_FORMAT="json",
            **settings,
        )
        asked = {
            "project_uuid": sandbox.project()["project_uuid"],
            "project_model_uuid": sandbox.attach(trained["model"]),
            "training_uuid": trained["training"],
        }
        known = {key: name for key, name in categories.items() if name in boxes}
        known |= {feature_hash: name for name, feature_hash in boxes.items()}
        yield Studio(console, sandbox, folder, asked, truth, known)
