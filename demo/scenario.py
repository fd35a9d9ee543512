"""The scenario of one model: created, trained, attached, asked, scored; and perhaps trained again.

It is attached to both projects and asked about what it never saw.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from demo.errors import CommandFailedError
from demo.scores import Scored
from schemas.attachments import Attach
from schemas.enums import IterationPolicy
from schemas.models import CreateModel
from schemas.predictions import Predict
from schemas.trainings import Train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from demo.client import DemoClient
    from demo.dataset import Item, Project
    from demo.plan import DemoSize, ModelPlan

# Far more than a training takes: it only keeps the demo from waiting for ever.
TRAINING_TIMEOUT_SECONDS: Final = 600
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Trained:
    """One training and what it is worth.

    Attributes:
        number: 1 for the first of its model.
        losses: the mean loss by epoch.
        seconds: how long the training ran.
        predicted: `frames` of the predictions, by data uuid.
        score: 0 to 1, on what was held out.
    """

    plan: ModelPlan
    number: int
    labels: int
    losses: Mapping[int, float]
    seconds: int
    predicted: Mapping[str, Mapping[str, Any]]
    frames: int
    score: float

    @property
    def name(self) -> str:
        """What it is called in the terminal and on the page."""
        return self.plan.name if self.number == 1 else f"{self.plan.name} again"

    @property
    def passed(self) -> bool:
        """Whether the score is above the floor."""
        return self.score > self.plan.measure.floor


@dataclass(slots=True)
class Scenario:
    """One model on its way; `trained` grows, `failure` is what stopped it.

    Attributes:
        turn: when it may train: trainings run in the order in which they were asked for.
        under_way: when the next one may.
        losses: returns the loss of each epoch so far of a training that runs, by its uuid.
    """

    plan: ModelPlan
    demo_size: DemoSize
    projects: tuple[Project, ...]
    demo_client: DemoClient
    say: Callable[[str, str, str], None]
    turn: asyncio.Event
    under_way: asyncio.Event
    losses: Callable[[str], Mapping[str, float]]
    trained: list[Trained] = field(default_factory=list)
    failure: CommandFailedError | None = None

    async def run(self) -> None:
        """Goes all the way, or to the first command that fails."""
        try:
            await self._run()
        except CommandFailedError as error:
            self.failure = error
            self._say("failed")
        finally:
            self.under_way.set()

    async def _run(self) -> None:
        self._say("creating the model")
        model_uuid = await self._create()
        await self.turn.wait()
        attachments: dict[str, str] = {}
        training_uuid = None
        for part, epochs in enumerate(self.plan.epochs):
            step = "training" if part == 0 else "training again, on new labels"
            self._say(step)
            labels = [
                label
                for project in self.projects
                for label in self.plan.labels(project, part, self.demo_size.most_labels)
            ]
            showing = asyncio.create_task(
                self._show_epochs(step, part, self.demo_size.epochs(epochs))
            )
            try:
                result = await self._train(model_uuid, part, epochs, labels, training_uuid)
            finally:
                showing.cancel()
            training_uuid = result["training_uuid"]
            if not attachments:
                self._say("attaching to both projects")
                attachments = await self._attach(model_uuid)
            predicted = await self._predict(part, attachments, training_uuid)
            self.trained.append(self._scored(part, len(labels), result["iteration"], predicted))
        self._say("done")

    async def _create(self) -> str:
        result = await self._command(
            CreateModel.command_type,
            "",
            {
                "features": list(self.plan.features),
                "model": self.plan.architecture,
                "title": f"demo {self.plan.name}",
                "description": "Made by trainmaster demo.",
            },
        )
        return str(result["model_group"]["model_uuid"])

    async def _show_epochs(self, step: str, part: int, epochs: int) -> None:
        """Says how far a training is, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            uuid = self.demo_client.trainings.get(self._train_id(part))
            done = len(await asyncio.to_thread(self.losses, uuid)) if uuid else 0
            self._say(step, f"epoch {done} of {epochs}" if uuid else "")

    def _train_id(self, part: int) -> str:
        return f"{self.plan.name}-{Train.command_type}-{part + 1}"

    async def _train(
        self, model_uuid: str, part: int, epochs: int, labels: list[str], earlier: str | None
    ) -> Any:
        data = {
            "model_uuid": model_uuid,
            "batch_size": self.demo_size.batch_size,
            "epochs": self.demo_size.epochs(epochs),
            "features_mapping": self.plan.training_mapping(self.projects),
            "labels_uuids": labels,
            "timeout_seconds": TRAINING_TIMEOUT_SECONDS,
        }
        if earlier is not None:
            data["pretrained_training_uuid"] = earlier
        return await self.demo_client.carry_out(
            Train.command_type, self._train_id(part), data, started=self.under_way
        )

    async def _attach(self, model_uuid: str) -> dict[str, str]:
        """Returns the attachment by project uuid."""
        results = await asyncio.gather(
            *(
                self._command(
                    Attach.command_type,
                    f"-{project.slug}",
                    {
                        "project_uuid": project.project_uuid,
                        "model_uuid": model_uuid,
                        "features_mapping": self.plan.attachment_mapping(project),
                        "iteration_policy": IterationPolicy.USE_ALL,
                    },
                )
                for project in self.projects
            )
        )
        return {
            result["project_model"]["project_uuid"]: result["project_model"]["project_model_uuid"]
            for result in results
        }

    async def _predict(
        self, part: int, attachments: Mapping[str, str], training_uuid: str
    ) -> dict[str, Mapping[str, Any]]:
        """Asks for all held-out items at once; the worker does as many as it has places for."""
        asked = [
            (project, item, number)
            for project in self.projects
            for number, item in enumerate(self.demo_size.held_out(project))
        ]
        done = 0

        async def ask(project: Project, item: Item, number: int) -> Mapping[str, Any]:
            nonlocal done
            data = {
                "project_uuid": project.project_uuid,
                "project_model_uuid": attachments[project.project_uuid],
                "training_uuid": training_uuid,
                **self._question(item, number),
            }
            name = f"-{part + 1}-{project.slug}-{item.name}"
            result = await self._command(Predict.command_type, name, data)
            done += 1
            self._say("predicting", f"{done} of {len(asked)}")
            frames: Mapping[str, Any] = result["frames"]
            return frames

        self._say("predicting", f"0 of {len(asked)}")
        # All are let end before the first failure counts: one bad item is no reason to stop.
        found = await asyncio.gather(*(ask(*each) for each in asked), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return {
            item.data_uuid: frames
            for (_, item, _), frames in zip(asked, found, strict=True)
            if not isinstance(frames, BaseException)
        }

    def _question(self, item: Item, number: int) -> dict[str, Any]:
        """Returns what is asked of an item, the `number`-th of its project."""
        question = {"task": self.plan.task, "conf_thresh": self.plan.conf_thresh}
        if item.frames > 1 and self.plan.tracks:
            question["allocation_enabled"] = True
        return {**question, **_source(item, number)}

    def _scored(
        self, part: int, labels: int, iteration: Mapping[str, Any], predicted: Mapping[str, Any]
    ) -> Trained:
        items = [item for project in self.projects for item in self.demo_size.held_out(project)]
        scored = [Scored(item.truth, predicted[item.data_uuid]) for item in items]
        return Trained(
            plan=self.plan,
            number=part + 1,
            labels=labels,
            losses={int(epoch): float(loss) for epoch, loss in iteration["loss_log"].items()},
            seconds=iteration["duration"],
            predicted=predicted,
            frames=sum(item.frames for item in items),
            score=self.plan.measure.score(scored, self.plan.categories(self.projects)),
        )

    async def _command(self, command: str, suffix: str, data: Mapping[str, Any]) -> Any:
        command_id = f"{self.plan.name}-{command}{suffix}"
        return await self.demo_client.carry_out(command, command_id, data)

    def _say(self, step: str, done: str = "") -> None:
        self.say(self.plan.name, step, done)


def _source(item: Item, number: int) -> dict[str, str]:
    """Returns one of the three ways to name the data: all of them get used.

    An image group is many files, so only its uuid names it.
    """
    if item.file.is_dir() or number % 2:
        return {"data_uuid": item.data_uuid}
    if number == 0:
        return {"data_base64": base64.b64encode(item.file.read_bytes()).decode()}
    return {"data_path": str(item.file)}
