"""Makes a project of a user's own folder: COCO JSON with its pictures, or a folder per class.

Files stay where they are. The same folder gives the same project: uuids, hashes and the split
follow from the folder's and the files' names alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Literal, TypeAlias
from uuid import NAMESPACE_URL, uuid5

from sandbox.learning.coco import read_coco
from sandbox.learning.errors import ImportFolderError, UnreadableMediaError
from sandbox.learning.frames import PICTURE_SUFFIXES, measure, pictures_below
from sandbox.learning.ground_truth import Feature, FrameTruth, Item, ObjectTruth, Project
from schemas.enums import FeatureType, ItemType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sandbox.learning.coco import CocoThing
    from sandbox.learning.frames import Extent

Split: TypeAlias = Literal["train", "heldout"]

_HELDOUT_SHARE = 0.2
_SPLIT_NAME = re.compile(r"(?<![a-z])(train|val|valid|validation|test|heldout)(?![a-z])")
_COLORS = ("#d33115", "#16406c", "#fbae1a", "#8b5cf6", "#0f9d8a", "#e2498a", "#7b8794", "#52606d")


@dataclass(frozen=True, slots=True)
class _Labelled:
    """An item of the folder: things as COCO has them, or the class of all its frames."""

    file: Path
    extent: Extent
    told_split: Split | None
    things: tuple[CocoThing, ...] = ()
    option: str | None = None


def import_folder(folder: Path) -> Project:
    """Returns the project of a folder.

    JSON files in the folder or right below it are read as COCO; where there are none, each folder
    with pictures in it is a class, and a folder inside a class is an image group. Where all names
    of folders or JSON files tell train from val, valid, test or heldout they decide the split;
    else a fifth is held out, of each class where there are classes.

    Raises:
        ImportFolderError: names the file and the field that can't be used.
    """
    root = folder.resolve()
    json_files = sorted(
        each
        for each in (*root.glob("*.json"), *root.glob("*/*.json"))
        if not each.name.startswith(".")
    )
    labelled = _coco_items(root, json_files) if json_files else list(_class_items(root))
    if not labelled:
        raise ImportFolderError("there is neither a COCO JSON file nor a folder of pictures in it")
    return _project(root, labelled)


def _coco_items(root: Path, json_files: Sequence[Path]) -> list[_Labelled]:
    """Returns the pictures of all JSON files; what two say of one picture holds together."""
    items: dict[Path, _Labelled] = {}
    for json_file in json_files:
        for picture in read_coco(root, json_file):
            before = items.get(picture.file)
            told = _told_split(root, picture.file) or _told_split(root, json_file)
            items[picture.file] = _Labelled(
                file=picture.file,
                extent=picture.extent,
                told_split=before.told_split if before else told,
                things=(*before.things, *picture.things) if before else picture.things,
            )
    if not any(item.things for item in items.values()):
        names = ", ".join(str(each.relative_to(root)) for each in json_files)
        raise ImportFolderError(f"{names}: annotations: there is none to learn from")
    return list(items.values())


def _class_items(root: Path) -> Iterator[_Labelled]:
    for outer in _folders(root):
        # As ImageNet has it: a folder per split, and the classes below.
        is_split = _SPLIT_NAME.fullmatch(outer.name.lower()) and not pictures_below(outer)
        for folder in _folders(outer) if is_split else [outer]:
            sources = [*pictures_below(folder), *_folders(folder)]
            if not sources:
                raise ImportFolderError(f"{folder.relative_to(root)}: there is no picture in it")
            for source in sources:
                try:
                    extent = measure(source)
                except UnreadableMediaError as exc:
                    raise ImportFolderError(f"{source.relative_to(root)}: {exc}") from exc
                told = _told_split(root, folder)
                yield _Labelled(source, extent, told, option=folder.name)


def _folders(folder: Path) -> list[Path]:
    return sorted(
        each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")
    )


def _told_split(root: Path, path: Path) -> Split | None:
    """Returns what the names below the root say, the innermost first."""
    for name in reversed(path.relative_to(root).parts):
        is_picture = name == path.name and path.suffix.lower() in PICTURE_SUFFIXES
        found = None if is_picture else _SPLIT_NAME.search(name.lower())
        if found:
            return "train" if found[0] == "train" else "heldout"
    return None


def _project(root: Path, labelled: Sequence[_Labelled]) -> Project:
    ontology = _ontology(root, labelled)
    hashes = {(each.type, each.name): each.feature_hash for each in ontology}
    heldout = _heldout(root, labelled)
    return Project(
        project_uuid=_uuid(root, "project"),
        title=root.name,
        dataset_uuid=_uuid(root, "dataset"),
        dataset_title=f"{root.name} data",
        ontology=ontology,
        items=tuple(
            _item(root, each, hashes, is_heldout=each.file in heldout) for each in labelled
        ),
    )


def _ontology(root: Path, labelled: Sequence[_Labelled]) -> tuple[Feature, ...]:
    """Returns a category once as a box, and once more as a polygon where outlines are known."""
    things = [thing for item in labelled for thing in item.things]
    by_type = {
        FeatureType.BOUNDING_BOX: {thing.category for thing in things},
        FeatureType.POLYGON: {thing.category for thing in things if thing.polygon},
        FeatureType.CLASSIFICATION_OPTION: {each.option for each in labelled if each.option},
    }
    named = [(kind, name) for kind, names in by_type.items() for name in sorted(names)]
    return tuple(
        Feature(_digest(root, f"{kind} {name}")[:8], name, kind, color)
        for (kind, name), color in zip(named, cycle(_COLORS), strict=False)
    )


def _heldout(root: Path, labelled: Sequence[_Labelled]) -> set[Path]:
    if {each.told_split for each in labelled} == {"train", "heldout"}:
        return {each.file for each in labelled if each.told_split == "heldout"}
    groups: defaultdict[str | None, list[Path]] = defaultdict(list)
    for each in labelled:
        groups[each.option].append(each.file)
    heldout: set[Path] = set()
    for files in groups.values():
        files.sort(key=lambda file: _digest(root, str(file.relative_to(root))))
        # Of one item alone nothing is held out, of more at least one.
        share = max(1, round(len(files) * _HELDOUT_SHARE)) if len(files) > 1 else 0
        heldout.update(files[:share])
    return heldout


def _item(
    root: Path,
    labelled: _Labelled,
    hashes: Mapping[tuple[FeatureType, str], str],
    *,
    is_heldout: bool,
) -> Item:
    name = str(labelled.file.relative_to(root))
    frames, width, height = labelled.extent
    if labelled.file.is_dir():
        item_type = ItemType.IMAGE_GROUP
    else:
        item_type = ItemType.VIDEO if frames > 1 else ItemType.IMAGE
    option = labelled.option and hashes[FeatureType.CLASSIFICATION_OPTION, labelled.option]
    objects = [one for thing in labelled.things for one in _objects(thing, hashes)]
    for track, one in enumerate(objects):
        one["track"] = track
    frame: FrameTruth = {"objects": objects, "classification": option}
    return Item(
        data_uuid=_uuid(root, f"data {name}"),
        label_uuid=_uuid(root, f"label {name}"),
        title=name,
        file=labelled.file,
        item_type=item_type,
        frames=frames,
        width=width,
        height=height,
        split="heldout" if is_heldout else "train",
        truth={"frames": [frame] * frames},
    )


def _objects(
    thing: CocoThing, hashes: Mapping[tuple[FeatureType, str], str]
) -> Iterator[ObjectTruth]:
    yield {
        "featureHash": hashes[FeatureType.BOUNDING_BOX, thing.category],
        "track": 0,
        "boundingBox": thing.box,
    }
    if thing.polygon:
        yield {
            "featureHash": hashes[FeatureType.POLYGON, thing.category],
            "track": 0,
            "polygon": thing.polygon,
        }


def _uuid(root: Path, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{root.as_uri()} {name}"))


def _digest(root: Path, name: str) -> str:
    # The folder's own path is in it: two folders with the same class stay apart.
    return hashlib.sha256(f"{root} {name}".encode()).hexdigest()
