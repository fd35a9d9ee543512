"""What there is to learn from: projects, their ontologies, and items whose truth is known.

Read from the sandbox's `sandbox.json`, which only a stand-in can have: of the real service
nobody knows the truth of what is held out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Feature:
    """One entry of a project's ontology; `color` is #rrggbb."""

    feature_hash: str
    name: str
    type: str
    color: str


@dataclass(frozen=True, slots=True)
class Item:
    """One item; for an image group `file` is the folder of its frames.

    Attributes:
        truth: one entry per frame, as `demo.scores` takes it.
    """

    data_uuid: str
    label_uuid: str
    file: Path
    frames: int
    split: Literal["train", "heldout"]
    truth: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.file.stem

    @property
    def features(self) -> set[str]:
        """The feature hashes of all that it shows."""
        shown = {thing["featureHash"] for frame in self.truth for thing in frame["objects"]}
        return shown | {frame["classification"] for frame in self.truth} - {None}


@dataclass(frozen=True, slots=True)
class Project:
    """A project with an ontology of its own."""

    project_uuid: str
    title: str
    ontology: tuple[Feature, ...]
    items: tuple[Item, ...]

    @property
    def slug(self) -> str:
        """The title as it can stand in ids and in names of files."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def split(self, split: Literal["train", "heldout"]) -> list[Item]:
        """Returns the items of one split, in order."""
        return [item for item in self.items if item.split == split]

    def feature_named(self, names: Sequence[str]) -> Feature:
        """Returns the feature that has one of these names.

        Raises:
            KeyError: there is none.
        """
        for feature in self.ontology:
            if feature.name in names:
                return feature
        raise KeyError(f"project {self.title} has none of the features {', '.join(names)}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Where the API is, what signs requests to it, and its projects."""

    domain: str
    key_file: Path
    projects: tuple[Project, ...]


def read_dataset(sandbox_json: Path) -> Dataset:
    """Returns what a running sandbox says of itself."""
    told = orjson.loads(sandbox_json.read_bytes())
    return Dataset(
        domain=told["domain"],
        key_file=Path(told["key_file"]),
        projects=tuple(_project(project) for project in told["projects"]),
    )


def _project(told: Mapping[str, Any]) -> Project:
    return Project(
        project_uuid=told["project_uuid"],
        title=told["title"],
        ontology=tuple(Feature(**feature) for feature in told["ontology"]),
        items=tuple(
            Item(
                data_uuid=item["data_uuid"],
                label_uuid=item["label_uuid"],
                file=Path(item["file"]),
                frames=item["frames"],
                split=item["split"],
                truth=item["truth"]["frames"],
            )
            for item in told["data"]
        ),
    )
