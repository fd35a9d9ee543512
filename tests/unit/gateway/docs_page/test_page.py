"""The page `/docs`: whole, well formed, escaped, and without a thing that runs or is loaded."""

from __future__ import annotations

import json
import re
import shlex
from html import escape
from html.parser import HTMLParser
from typing import Any, Final

import jsonschema
import orjson
import pytest

from schemas.parsing import parse_command
from worker.gateway.app import create_app
from worker.gateway.docs_page import DocsPage
from worker.gateway.docs_page.examples import body_example, curl, sample
from worker.gateway.json_bodies import DOCUMENTED
from worker.gateway_settings import GatewaySettings

DOCUMENT: Final[dict[str, Any]] = create_app(
    GatewaySettings(redis_url="redis://127.0.0.1:1", namespace="docs")
).openapi()
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]
COMMANDS: Final[dict[str, str]] = SCHEMAS["Command"]["discriminator"]["mapping"]
OPERATIONS: Final = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
VOID: Final = {"br", "hr", "link", "meta"}


class Page(HTMLParser):
    """Reads a page as a browser would, and refuses what a browser would only guess at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.texts: list[str] = []
        self.examples: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), tag
        if tag == "p":
            assert "p" not in self.open
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "pre":
            self.examples.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "pre" in self.open:
            self.examples[-1] += data

    def attributes(self, name: str) -> list[str]:
        return [
            value
            for _, said in self.elements
            for key, value in said.items()
            if key == name and value
        ]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [said for name, said in self.elements if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    """The page of the gateway's own document."""
    return DocsPage(DOCUMENT).html()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    """It, read."""
    return Page(html)


def test_every_operation_stands_in_the_page_with_an_example(page: Page) -> None:
    ids = set(page.attributes("id"))
    links = set(page.attributes("href"))
    for operation_id, (method, path, operation) in OPERATIONS.items():
        assert f"operation-{operation_id}" in ids
        assert f"#operation-{operation_id}" in links
        assert curl(method, path, operation, SCHEMAS) in page.examples
    text = " ".join("".join(page.texts).split())
    for _, _, operation in OPERATIONS.values():
        for paragraph in operation["description"].split("\n\n"):
            assert " ".join(paragraph.replace("`", "").split()) in text


def test_every_scope_every_parameter_and_every_status_is_told(html: str) -> None:
    for operation_id, (_, _, operation) in OPERATIONS.items():
        article = re.search(rf'id="operation-{operation_id}".*?</article>', html, re.DOTALL)
        assert article, operation_id
        if operation.get("security"):
            scopes = operation["security"][0]["HTTPBearer"]
            needed = f"the scope <code>{scopes[0]}</code>" if scopes else "Needs a token, with any"
            assert needed in article[0]
            assert len(scopes) <= 1
        else:
            assert "Needs no token." in article[0]
        for parameter in operation.get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in article[0]
        body = operation.get("requestBody", {})
        for media_type in body.get("content", ()):
            assert f"<code>{media_type}</code>" in article[0]
        may_be_left_out = bool(body) and not body.get("required")
        assert ("It may be left out." in article[0]) is may_be_left_out
        for status in operation["responses"]:
            told = f"<code>{status}</code>"
            assert (
                told in article[0]
                or told in html[: html.index("tag-commands", html.index("<main"))]
            )


def test_every_type_of_command_and_every_schema_has_its_place(page: Page) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {f"command-{kind}" for kind in COMMANDS} <= set(ids)
    assert {f"schema-{name}" for name in SCHEMAS} <= set(ids)
    for schema in SCHEMAS.values():
        for field in schema.get("properties", ()):
            assert field in page.texts


def test_every_default_is_told_beside_its_field(html: str) -> None:
    sections = dict(re.findall(r'id="schema-([^"]+)"(.*?)(?=id="schema-|$)', html, re.DOTALL))
    told = [
        (sections[name], json.dumps(field["default"]))
        for name, schema in SCHEMAS.items()
        # What all commands have stands there once.
        if 'id="command-' not in sections[name]
        for field in schema.get("properties", {}).values()
        if field.get("default") is not None
    ]
    # Those that Python takes for nothing are told as well.
    assert {"false", "0"} <= {default for _, default in told}
    for section, default in told:
        assert f"; default <code>{escape(default, quote=False)}</code>" in section


def test_every_link_within_the_page_leads_somewhere(page: Page) -> None:
    ids = set(page.attributes("id"))
    inner = [each for each in page.attributes("href") if each.startswith("#")]
    assert {each.removeprefix("#") for each in inner} <= ids
    assert set(page.attributes("aria-labelledby")) <= ids


def test_nothing_runs_and_nothing_comes_from_elsewhere(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "style", "iframe", "img", "form", "base", "object"})
    names = {name for _, said in page.elements for name in said}
    assert not [name for name in names if name.startswith("on")]
    assert names.isdisjoint({"style", "src", "srcset", "action"})
    outer = {each for each in page.attributes("href") if not each.startswith("#")}
    assert outer == {"docs.css", "openapi.json"}


def test_it_can_be_heard_and_used_without_a_mouse(page: Page) -> None:
    assert page.named("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "h1", "title"):
        assert len(page.named(landmark)) == 1, landmark
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert page.headings[0] == 1
    assert all(later <= earlier + 1 for earlier, later in steps)
    assert len(page.named("caption")) == len(page.named("table")) > 50
    assert {said.get("scope") for said in page.named("th")} == {"col", "row"}
    assert {said.get("tabindex") for said in page.named("pre")} == {"0"}


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=a>', "&lt;b&gt;"]
)
def test_text_of_the_document_is_text_wherever_it_stands(hostile: str) -> None:
    field = {
        "type": hostile,
        "description": f"{hostile}`{hostile}`",
        "default": hostile,
        "pattern": hostile,
    }
    listed = {"enum": [hostile]}
    told = {
        "tags": [hostile],
        "operationId": hostile,
        "description": hostile,
        "security": [{"HTTPBearer": [hostile]}],
        "parameters": [{"name": hostile, "in": hostile, "required": True, "schema": listed}],
        "requestBody": {
            "description": hostile,
            "content": {hostile: {"schema": {"$ref": f"#/components/schemas/{hostile}"}}},
        },
        "responses": {hostile: {"description": hostile, "content": {hostile: {"schema": field}}}},
    }
    document = {
        "info": {"title": hostile, "version": hostile, "description": hostile},
        "tags": [{"name": hostile, "description": hostile}],
        "paths": {f"/{hostile}": {"post": told}},
        "components": {
            "schemas": {
                hostile: {
                    "title": hostile,
                    "description": hostile,
                    "required": [hostile],
                    "properties": {hostile: field},
                }
            }
        },
    }
    page = Page(DocsPage(document).html())
    plain = Page(
        DocsPage(
            orjson.loads(orjson.dumps(document).replace(orjson.dumps(hostile)[1:-1], b"x"))
        ).html()
    )
    elements = [[(tag, list(said)) for tag, said in each.elements] for each in (page, plain)]
    assert elements[0] == elements[1]
    assert hostile in page.texts


def test_an_answer_that_an_operation_gives_in_its_own_words_is_told_of_that_one_alone() -> None:
    def operation(name: str, missing: str) -> dict[str, Any]:
        responses = {"401": {"description": "who is it"}, "404": {"description": missing}}
        return {"tags": ["t"], "operationId": name, "description": name, "responses": responses}

    html = DocsPage({
        "info": {"title": "t", "version": "1", "description": "d"},
        "tags": [{"name": "t"}],
        "paths": {
            "/a": {"get": operation("a", "no such command")},
            "/b": {"get": operation("b", "no such sink")},
        },
    }).html()
    before, *articles = html.split("<article>")
    assert ("who is it" in before, "no such" in before) == (True, False)
    told = [re.findall("who is it|no such [a-z]+", each) for each in articles]
    assert told == [["no such command"], ["no such sink"]]


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_example_of_each_type_is_a_command(kind: str) -> None:
    made = sample({"$ref": COMMANDS[kind]}, SCHEMAS)
    assert made["type"] == kind
    assert parse_command(orjson.dumps(made)).command.type == kind


def test_each_example_of_a_body_fits_its_schema() -> None:
    bodies = 0
    for _, _, operation in OPERATIONS.values():
        if content := operation.get("requestBody", {}).get("content"):
            made = body_example(content, SCHEMAS)
            if made is not None:
                schema = next(iter(content.values()))["schema"]
                jsonschema.validate(made, {**schema, "components": DOCUMENT["components"]})
                bodies += 1
    assert bodies >= len(DOCUMENTED)


def test_an_example_is_one_command_of_a_shell() -> None:
    for method, path, operation in OPERATIONS.values():
        words = shlex.split(curl(method, path, operation, SCHEMAS))
        assert words[0] == "curl"
        assert not [word for word in words if "{" in word and word.startswith("$GATEWAY")]
