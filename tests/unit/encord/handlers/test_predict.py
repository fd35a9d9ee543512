"""Rules of `data_path`: only plain files below the roots, whatever a path pretends to be."""

from __future__ import annotations

import base64
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from schemas.events import ErrorCode
from worker.encord.handlers import predict
from worker.encord.handlers.predict import read_base64
from worker.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b"outside"
OUTSIDE = "the file lies outside the folders of TRAINMASTER_DATA_ROOTS"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "root" / "image").write_bytes(b"image")
    return tmp_path / "root"


def refusal(path: Path, *roots: Path) -> str:
    with pytest.raises(InputError) as told:
        read_base64(path, roots)
    assert told.value.code is ErrorCode.INVALID_INPUT
    assert [problem.path for problem in told.value.problems] == ["data.data_path"]
    return told.value.message


def test_a_file_below_a_root_is_read_whole(root: Path) -> None:
    assert base64.b64decode(read_base64(root / "image", (root,))) == b"image"
    assert base64.b64decode(read_base64(root / "inner" / ".." / "image", (root,))) == b"image"


def test_a_link_that_stays_below_a_root_is_followed(root: Path) -> None:
    (root / "inner" / "link").symlink_to(root / "image")
    assert base64.b64decode(read_base64(root / "inner" / "link", (root,))) == b"image"


def test_without_roots_nothing_is_read(root: Path) -> None:
    assert "TRAINMASTER_DATA_ROOTS is not set" in refusal(root / "image")


def _link(link: Path, target: Path) -> Path:
    link.symlink_to(target)
    return link


def _sibling(root: Path) -> Path:
    sibling = root.with_name(f"{root.name}-secrets")
    sibling.write_bytes(SECRET)
    return sibling


WAYS_OUT: dict[str, Callable[[Path], Path]] = {
    "an absolute path": lambda root: root.parent / "outside" / "secret",
    "dots": lambda root: root / ".." / "outside" / "secret",
    "dots behind a folder": lambda root: root / "inner" / ".." / ".." / "outside" / "secret",
    "a link to a file": lambda root: _link(root / "link", root.parent / "outside" / "secret"),
    "a link to a folder": lambda root: _link(root / "folder", root.parent / "outside") / "secret",
    "a chain of links": lambda root: _link(
        root / "second", _link(root / "first", root.parent / "outside" / "secret")
    ),
    "a sibling with the root's name in front": _sibling,
    "the process' own files": lambda root: root / "../../../../../../../../proc/self/environ",
    "a file that is not there": lambda root: root.parent / "outside" / "nothing",
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_way_leads_out_of_the_roots_or_tells_what_is_there(root: Path, way: str) -> None:
    """What is there and what is not get the same answer."""
    assert refusal(WAYS_OUT[way](root), root) == OUTSIDE


def test_what_is_no_plain_file_is_refused_and_blocks_nobody(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)  # the name of a socket has 107 characters at most
    os.mkfifo(root / "pipe")
    assert refusal(root / "pipe", root) == "not a plain file"
    assert refusal(root / "inner", root) == "not a plain file"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert "can't be opened" in refusal(root / "socket", root)


def test_a_device_file_is_refused() -> None:
    """Even where its folder is a root."""
    assert refusal(Path("/dev/zero"), Path("/dev")) == "not a plain file"


@pytest.mark.parametrize("name", ["nothing", "image/x", "a" * 300, "nul\0byte"])
def test_what_can_not_be_opened_is_refused_with_the_reason(root: Path, name: str) -> None:
    assert "can't be opened" in refusal(root / name, root)


def test_a_loop_of_links_is_refused(root: Path) -> None:
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")
    assert refusal(root / "a", root)


def test_a_file_that_is_too_large_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "MAX_IMAGE_BYTES", 4)
    assert "larger than 4 bytes" in refusal(root / "image", root)


def test_a_folder_swapped_for_a_link_during_the_check_gains_nothing(root: Path) -> None:
    """A thousand reads while another thread swaps: not one tells what lies outside."""
    inside, outside = root / "inner", root.parent / "outside"
    (inside / "secret").write_bytes(b"inside")
    spare, trap = root / "spare", root / "trap"
    trap.symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            inside.rename(spare)
            trap.rename(inside)
            inside.rename(trap)
            spare.rename(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: set[bytes] = set()
    refused = 0
    try:
        for _ in range(1000):
            try:
                seen.add(base64.b64decode(read_base64(inside / "secret", (root,))))
            except InputError:
                refused += 1
    finally:
        stop.set()
        swapper.join()
    assert seen <= {b"inside"}
    assert refused > 0, "the race was never met"
