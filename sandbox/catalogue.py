"""The projects that can be trained on: made or imported once, then kept in the state folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from sandbox.errors import StateError
from sandbox.learning.errors import ImportFolderError
from sandbox.learning.folders import import_folder
from sandbox.learning.generator import generate
from sandbox.learning.ground_truth import Feature, Item, Project
from sandbox.state import write_whole
from schemas.enums import FeatureType, ItemType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.state import StateFolder


@dataclass(frozen=True, slots=True)
class Label:
    """A labelled item and the project that it lies in."""

    project: Project
    item: Item


class Catalogue:
    """All projects, found by what a request names."""

    def __init__(self, projects: Iterable[Project]) -> None:
        self.projects = {project.project_uuid: project for project in projects}
        self.items: dict[str, Item] = {}
        self.labels: dict[str, Label] = {}
        self._features: dict[str, dict[str, Feature]] = {}
        self._seen: dict[str, frozenset[str]] = {}
        for project in self.projects.values():
            self._features[project.project_uuid] = {
                feature.feature_hash: feature for feature in project.ontology
            }
            for item in project.items:
                self.items[item.data_uuid] = item
                self.labels[item.label_uuid] = Label(project, item)
                self._seen[item.label_uuid] = _feature_hashes(item)

    def feature(self, project_uuid: str, feature_hash: str) -> Feature | None:
        """Returns a feature of a project's ontology, None where there is no such one."""
        return self._features[project_uuid].get(feature_hash)

    def labelled_features(self, label_uuid: str) -> frozenset[str]:
        """Returns the feature hashes that occur in a label."""
        return self._seen[label_uuid]

    def project_item(self, project_uuid: str, data_uuid: str) -> Item | None:
        """Returns an item if it lies in the project."""
        item = self.items.get(data_uuid)
        if item is None or self.labels[item.label_uuid].project.project_uuid != project_uuid:
            return None
        return item

    def described(self) -> list[dict[str, object]]:
        """Returns the projects as `sandbox.json` tells them."""
        return [_described(project) for project in self.projects.values()]


def open_catalogue(state: StateFolder, seed: int, imported: Path | None) -> Catalogue:
    """Returns the kept projects; generates them at the first start, adds a folder once.

    Raises:
        StateError: the user's folder can't be imported.
    """
    kept = _read(state.catalogue_json)
    projects, folders = kept or (generate(state.data, seed), [])
    folder = str(imported.resolve()) if imported else None
    if folder and folder not in folders:
        projects.append(_imported(folder))
        folders.append(folder)
    elif kept:
        return Catalogue(projects)
    _write(state.catalogue_json, projects, folders)
    return Catalogue(projects)


def _imported(folder: str) -> Project:
    try:
        return import_folder(Path(folder))
    except ImportFolderError as exc:
        message = f"can't import {folder}: {exc}"
        raise StateError(message) from exc


def _read(file: Path) -> tuple[list[Project], list[str]] | None:
    if not file.exists():
        return None
    kept = orjson.loads(file.read_bytes())
    return [_project(project) for project in kept["projects"]], kept["imported_folders"]


def _write(file: Path, projects: list[Project], folders: list[str]) -> None:
    kept = {"imported_folders": folders, "projects": [asdict(project) for project in projects]}
    write_whole(file, orjson.dumps(kept, default=str))


# What `_write` wrote: a broken file ends the process at start with the place that is wrong.
def _project(kept: dict[str, Any]) -> Project:
    ontology = tuple(
        Feature(**{**feature, "type": FeatureType(feature["type"])}) for feature in kept["ontology"]
    )
    items = tuple(
        Item(**{**item, "file": Path(item["file"]), "item_type": ItemType(item["item_type"])})
        for item in kept["items"]
    )
    return Project(**{**kept, "ontology": ontology, "items": items})


def _feature_hashes(item: Item) -> frozenset[str]:
    found: set[str] = set()
    for frame in item.truth["frames"]:
        found.update(thing["featureHash"] for thing in frame["objects"])
        if frame["classification"]:
            found.add(frame["classification"])
    return frozenset(found)


def _described(project: Project) -> dict[str, object]:
    return {
        "project_uuid": project.project_uuid,
        "title": project.title,
        "ontology": [asdict(feature) for feature in project.ontology],
        "data": [
            {
                "data_uuid": item.data_uuid,
                "label_uuid": item.label_uuid,
                "file": str(item.file),
                "frames": item.frames,
                "split": item.split,
                "truth": item.truth,
            }
            for item in project.items
        ],
    }
