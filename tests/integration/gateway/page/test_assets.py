"""The page's files over HTTP: whole, to anybody, and under a policy that lets nothing else run."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from worker.gateway.access.tokens import Scope
from worker.gateway.page import INDEX, load_assets

if TYPE_CHECKING:
    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken

ROOT: Final = Path(__file__).parents[4]
STATIC: Final = "worker/gateway/page/static"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def text_of(name: str) -> str:
    return load_assets()[name].body.decode()


def test_the_page_is_served_to_whoever_asks_and_asked_for_anew_each_time(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    # From now on everything else asks for a token.
    make_token(Scope.READ)
    assert gateway.http.get("/v1/me").status_code == 401
    types = {"/": "text/html", "/page/app.js": "text/javascript", "/page/style.css": "text/css"}
    for path, media_type in types.items():
        answer = gateway.http.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        head = gateway.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == answer.headers["content-length"]
        tag = {"If-None-Match": answer.headers["etag"]}
        again = gateway.http.get(path, headers=tag)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == POLICY
        refused = gateway.http.post(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_what_is_no_file_of_the_page_is_not_found(gateway: GatewayServer) -> None:
    for path in ("/page/", "/page/nothing.js", "/page/../assets.py", "/page/%2e%2e/assets.py"):
        answer = gateway.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


def test_every_file_is_used_and_every_file_that_is_used_is_there() -> None:
    assets = set(load_assets())
    used = {INDEX, "vendor/THIRD-PARTY.txt"}
    for name in assets:
        folder = PurePosixPath(name).parent
        if name == INDEX:
            used |= set(re.findall(r'(?:href|src)="page/([^"]+)"', text_of(name)))
        elif name.endswith(".js") and not name.startswith("vendor/"):
            said = re.findall(r'(?:from |import\(|new URL\()"(\.[^"]+)"', text_of(name))
            used |= {joined(folder, each) for each in said}
        elif name.startswith("vendor/") and name.endswith(".js"):
            used |= {joined(folder, each) for each in re.findall(r'from"(\.[^"]+)"', text_of(name))}
    licences = {name for name in assets if name.endswith(".LICENSE.txt")}
    assert used == assets - licences


def joined(folder: PurePosixPath, relative: str) -> str:
    parts = list(folder.parts)
    for part in PurePosixPath(relative).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def test_nothing_is_written_into_the_page_that_its_policy_forbids() -> None:
    index = text_of(INDEX)
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", index) == []
    for name in load_assets():
        if name.endswith(".js") and not name.startswith("vendor/"):
            text = text_of(name)
            forbidden = (
                r"innerHTML|dangerouslySetInnerHTML|\beval\(|new Function|https?://(?!html\.spec)"
            )
            assert re.findall(forbidden, text) == [], name
            assert len(text.splitlines()) <= 400, f"{name} is long: split it"


def test_the_wheel_holds_the_page_and_the_licences_of_others(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith(STATIC)}
    assert held == {f"{STATIC}/{name}" for name in load_assets()}
