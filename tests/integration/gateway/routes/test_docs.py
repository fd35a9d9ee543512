"""`/docs` over HTTP: for a browser that is told to trust nothing, and for people with a shell."""

from __future__ import annotations

import html
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

from worker.gateway.access.tokens import Scope

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway

PAGES: Final = {
    "/docs": "text/html; charset=utf-8",
    "/docs.css": "text/css; charset=utf-8",
    "/openapi.json": "application/json",
}
# Streams without an end, which curl is told to leave.
ENDLESS: Final = "--no-buffer"


def test_the_page_its_style_and_the_document_are_served_to_whoever_asks(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    # From now on everything else asks for a token.
    make_token(Scope.READ)
    assert gateway.http.get("/v1/holds").status_code == 401
    for path, media_type in PAGES.items():
        answer = gateway.http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type), path
        policy = answer.headers["content-security-policy"]
        assert policy == "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        head = gateway.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == answer.headers["content-length"]
        tag = {"If-None-Match": answer.headers["etag"]}
        again = gateway.http.get(path, headers=tag)
        assert (again.status_code, again.content) == (304, b"")
        assert gateway.http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
        refused = gateway.http.post(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert 'href="docs.css"' in gateway.http.get("/docs").text


def test_the_page_is_made_once_and_not_at_the_start(gateway: GatewayServer) -> None:
    assert gateway.app.openapi_schema is None
    first = gateway.http.get("/docs")
    kept = gateway.app.state.docs
    assert gateway.http.get("/docs").content == first.content
    assert gateway.app.state.docs is kept


def test_each_example_of_the_page_is_answered_as_the_page_says(
    serve_gateway: ServeGateway, make_token: MakeToken, tmp_path: Path
) -> None:
    (tmp_path / "manifest.csv").write_text("data_path\nimage.png\n")
    with serve_gateway(gateway_uploads=str(tmp_path / "uploads")) as gateway:
        token = make_token(*Scope)
        document: dict[str, Any] = gateway.http.get("/openapi.json").json()
        page = gateway.http.get("/docs").text
        environment = {"PATH": "/usr/bin:/bin", "GATEWAY": gateway.url, "TOKEN": token}
        for methods in document["paths"].values():
            for operation in methods.values():
                name = operation["operationId"]
                part = page[page.index(f'id="operation-{name}"') :]
                found = re.search(r"<pre[^>]*><code>(curl .*?)</code></pre>", part, re.DOTALL)
                assert found, name
                command = html.unescape(found[1])
                status = answer_to(command, environment, tmp_path)
                assert status in operation["responses"], (command, status)
                # There is none of what examples name; beside that nothing is wrong with them.
                assert status < "300" or status in {"404", "409"}, (command, status)


def answer_to(command: str, environment: dict[str, str], folder: Path) -> str:
    """Has a shell run a command of the page; returns the status of the answer."""
    limit = " --max-time 2" if ENDLESS in command else " --max-time 60"
    ended = subprocess.run(
        ["/bin/sh", "-c", f"{command} --noproxy '*' -s -o /dev/null -w '%{{http_code}}'{limit}"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0 or ENDLESS in command, ended.stderr
    return ended.stdout
