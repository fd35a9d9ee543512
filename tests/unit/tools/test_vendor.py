"""What the page has from npm: as it is locked, and told with its licences."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from tools.vendor import ROOT, differences, main, notices, read_lock

if TYPE_CHECKING:
    import pytest


def test_what_is_checked_in_is_what_is_locked() -> None:
    assert differences(read_lock()) == []
    assert main([]) == 0


def test_a_file_that_is_not_as_locked_is_named() -> None:
    lock = deepcopy(read_lock())
    file = lock["packages"][0]["files"][0]
    file["sha256"] = "0" * 64
    (told,) = differences(lock)
    assert told.startswith(f"{file['to']} is not that of {lock['packages'][0]['name']}")


def test_a_notice_that_tells_another_version_is_named() -> None:
    lock = deepcopy(read_lock())
    lock["packages"][0]["version"] = "0.0.0"
    assert ["--write" in each for each in differences(lock)] == [True]


def test_each_package_is_told_with_its_licence_beside_it() -> None:
    lock = read_lock()
    for package in lock["packages"]:
        told = notices(lock)[package["notice"]]
        assert f"{package['name']} {package['version']}, {package['license']}" in told
        assert package["integrity"].startswith("sha512-")
        (text,) = [file["to"] for file in package["files"] if file["from"] == "LICENSE"]
        assert (ROOT / text).stat().st_size > 500


def test_other_options_are_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--other"]) == 2
    assert "--newest" in capsys.readouterr().err
