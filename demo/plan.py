"""What the demo trains, on what, and how good it must be.

Two projects name the same things differently. The names of a model are its own; a mapping for
each project says which of its features they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from demo import scores
from schemas.enums import ModelArchitecture, PredictTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from demo.dataset import Feature, Item, Project
    from demo.scores import Scored

# Where a model is trained again, so many-th of its labels are new then.
_KEPT_BACK: Final = 3


@dataclass(frozen=True, slots=True)
class Measure:
    """How a task is scored: `floor` is the least score, 0 to 1, that passes."""

    name: str
    floor: float
    score: Callable[[Sequence[Scored], Mapping[str, str]], float]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model of the demo.

    Attributes:
        name: what it is called in ids, in the terminal and on the page.
        features: the model's features, each with the names that ontologies give it.
        conf_thresh: least confidence of what it is asked to find.
        epochs: of the one training, or of two: the second starts from the first, on new labels.
    """

    name: str
    architecture: ModelArchitecture
    task: PredictTask
    features: Mapping[str, tuple[str, ...]]
    measure: Measure
    conf_thresh: float
    epochs: tuple[int, ...]

    @property
    def tracks(self) -> bool:
        """Whether it finds objects, which can be followed from frame to frame."""
        return self.task is not PredictTask.CLASSIFICATION

    def feature(self, name: str, project: Project) -> Feature:
        """Returns what a feature of the model is called in a project."""
        return project.feature_named(self.features[name])

    def training_mapping(self, projects: Sequence[Project]) -> dict[str, dict[str, list[str]]]:
        """Returns project -> feature of its ontology -> features of the model."""
        return {
            project.project_uuid: {
                self.feature(name, project).feature_hash: [name] for name in self.features
            }
            for project in projects
        }

    def attachment_mapping(self, project: Project) -> dict[str, str]:
        """Returns feature of the model -> feature of the project's ontology."""
        return {name: self.feature(name, project).feature_hash for name in self.features}

    def labels(self, project: Project, part: int, most: int | None) -> list[str]:
        """Returns the label uuids for one training; a first and a second one share none.

        Args:
            project: whose labels; those that show nothing of the model are left out, for they
                would only take time.
            part: 0 for the first training, 1 for the second.
            most: labels for both together, None for all that there are.
        """
        known = set(self.attachment_mapping(project).values())
        items = [item for item in project.split("train") if not known.isdisjoint(item.features)]
        return [
            item.label_uuid
            for number, item in enumerate(spread(items, most))
            if len(self.epochs) == 1 or (number % _KEPT_BACK == _KEPT_BACK - 1) == (part == 1)
        ]

    def categories(self, projects: Sequence[Project]) -> dict[str, str]:
        """Returns the model's feature for every feature hash of the projects."""
        return {
            feature_hash: name
            for project in projects
            for name, feature_hash in self.attachment_mapping(project).items()
        }


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much of everything; the short form shows that it works, not how well it learns.

    Attributes:
        most_labels: of each project, None for all.
        most_items: held-out items of each project, None for all.
        most_epochs: of each training, None for as many as the plan says.
        floors: whether a score below its floor is a failure.
        takes: how long it takes, for people.
    """

    batch_size: int
    most_labels: int | None
    most_items: int | None
    most_epochs: int | None
    floors: bool
    takes: str

    def held_out(self, project: Project) -> list[Item]:
        """Returns the items to predict on."""
        return spread(project.split("heldout"), self.most_items)

    def epochs(self, planned: int) -> int:
        """Returns the epochs of a training."""
        return planned if self.most_epochs is None else min(planned, self.most_epochs)


def spread(items: list[Item], most: int | None) -> list[Item]:
    """Returns at most so many items, from all over the list: pictures and clips alike."""
    if most is None or most >= len(items):
        return items
    return [items[number * len(items) // most] for number in range(most)]


FULL: Final = DemoSize(
    batch_size=8,
    most_labels=None,
    most_items=None,
    most_epochs=None,
    floors=True,
    takes="about three minutes on two cores",
)
QUICK: Final = DemoSize(
    batch_size=8,
    most_labels=16,
    most_items=6,
    most_epochs=2,
    floors=False,
    takes="the short form, about a minute on two cores",
)

DETECTION: Final = ModelPlan(
    name="detection",
    architecture=ModelArchitecture.FASTER_RCNN,
    task=PredictTask.OBJECT_DETECTION,
    features={
        "round": ("circle", "disc"),
        "square": ("square", "box"),
        "triangular": ("triangle", "wedge"),
    },
    measure=Measure("box mAP50", 0.8, scores.box_map50),
    conf_thresh=0.3,
    epochs=(18, 8),
)
SEGMENTATION: Final = ModelPlan(
    name="segmentation",
    architecture=ModelArchitecture.MASK_RCNN,
    task=PredictTask.INSTANCE_SEGMENTATION,
    features={
        "star": ("star", "spark"),
        "moon": ("moon", "crescent"),
        "cross": ("cross", "plus"),
    },
    measure=Measure("mask mAP50", 0.6, scores.mask_map50),
    conf_thresh=0.3,
    epochs=(16,),
)
CLASSIFICATION: Final = ModelPlan(
    name="classification",
    architecture=ModelArchitecture.RESNET_18,
    task=PredictTask.CLASSIFICATION,
    features={
        "plain": ("plain", "blank"),
        "striped": ("stripes", "lined"),
        "dotted": ("dots", "spotted"),
    },
    measure=Measure("accuracy", 0.8, scores.accuracy),
    conf_thresh=0.3,
    epochs=(14,),
)
# The longest first: it trains while the others take turns beside it.
MODELS: Final = (SEGMENTATION, DETECTION, CLASSIFICATION)
