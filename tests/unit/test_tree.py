"""Rules of the tests' own tree: it mirrors the code, and no test module leans on another."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

TESTS: Final = Path(__file__).parents[1]
ROOT: Final = TESTS.parent
# Where the packages are that a folder of tests may be named after: the first that has it.
SOURCES: Final = (ROOT / "worker", ROOT)
NAMES: Final = {"client": ROOT / "client" / "trainmaster_client"}
RINGS: Final = ("unit", "integration")


def package_of(folder: Path) -> Path | None:
    """Returns the package that a folder below a ring is named after; None if there is none."""
    if folder.parts[0] in NAMES:
        found = [NAMES[folder.parts[0]].joinpath(*folder.parts[1:])]
    else:
        found = [source / folder for source in SOURCES]
    return next((each for each in found if (each / "__init__.py").exists()), None)


def imported(file: Path) -> Iterable[str]:
    """Yields every module that a file imports, and every name that may be one."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{each.name}" for each in node.names)


@pytest.mark.parametrize("ring", RINGS)
def test_each_folder_of_tests_is_named_after_a_package(ring: str) -> None:
    folders = {file.parent.relative_to(TESTS / ring) for file in (TESTS / ring).rglob("*.py")}
    folders.discard(Path())
    assert len(folders) > 5, "there are folders to look at"
    assert [str(each) for each in sorted(folders) if package_of(each) is None] == []


def test_no_module_imports_a_test_module() -> None:
    files = {file: file.relative_to(ROOT).as_posix() for file in TESTS.rglob("*.py")}
    tests = {
        name.removesuffix(".py").replace("/", ".")
        for file, name in files.items()
        if file.name.startswith("test_")
    }
    assert len(tests) > 100, "there are tests to look at"
    assert [
        f"{files[file]} imports {name}"
        for file in files
        for name in imported(file)
        if name in tests
    ] == []


def test_a_folder_of_the_tests_that_names_no_package_is_seen() -> None:
    assert package_of(Path("queue/ledger")) == ROOT / "worker" / "queue" / "ledger"
    assert package_of(Path("client")) == ROOT / "client" / "trainmaster_client"
    assert package_of(Path("sandbox/learning")) == ROOT / "sandbox" / "learning"
    assert package_of(Path("queue/scripts")) is None
    assert package_of(Path("contract")) is None
