"""The page itself: what there is, in the order of the document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from worker.gateway.docs_page.examples import curl, sample
from worker.gateway.docs_page.markup import Html, join, paragraphs, prose, table, tag
from worker.gateway.docs_page.schemas import (
    anchor,
    common_fields,
    field_cell,
    fields,
    name_cell,
    name_of,
    references,
    resolve,
    type_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.gateway.docs_page.markup import Content
    from worker.gateway.docs_page.schemas import Schema

STYLE: Final = "docs.css"
DOCUMENT: Final = "openapi.json"
_COMMAND: Final = "Command"
_PROBLEM: Final = "ProblemDetails"
_BEGIN: Final = (
    "The examples need two variables. `trainmaster tokens create` makes a token; while there is "
    "none, programs on the gateway's own machine leave out the header `Authorization`."
)
_VARIABLES: Final = "export GATEWAY=http://127.0.0.1:8080\nexport TOKEN=…"
_PROBLEMS: Final = (
    "An answer of 400 or more is a problem as RFC 9457 has it, `application/problem+json`."
)
_ANY: Final = "Any request may be answered these; each operation lists its further answers."
_ATTRIBUTES: Final = "What every command may say beside its type and its data."


class _Operation(NamedTuple):
    method: str
    path: str
    said: dict[str, Any]

    @property
    def id(self) -> str:
        """The anchor."""
        return f"operation-{self.said['operationId']}"

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.method.upper()} {self.path}"


class DocsPage:
    """Makes the page of a document.

    Args:
        document: OpenAPI 3.1, whole.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._info = document["info"]
        self._tags: list[dict[str, str]] = document.get("tags", [])
        self._operations = [
            _Operation(method, path, said)
            for path, methods in document["paths"].items()
            for method, said in methods.items()
        ]
        self._schemas: dict[str, Schema] = document.get("components", {}).get("schemas", {})
        mapping = self._schemas.get(_COMMAND, {}).get("discriminator", {}).get("mapping", {})
        self._commands = {kind: name_of(reference) for kind, reference in sorted(mapping.items())}
        self._always = self._answers_of_all()

    def html(self) -> str:
        """Returns the page."""
        title = f"{self._info['title']} over HTTP"
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("link", rel="stylesheet", href=STYLE),
        )
        header = tag(
            "header",
            tag("h1", title),
            tag("p", f"Version {self._info['version']}. ", prose(self._info["description"])),
            tag("p", "For programs: ", tag("a", "the OpenAPI document", href=DOCUMENT), "."),
        )
        body = tag(
            "body",
            tag("a", "Skip to the text", href="#text", class_="skip"),
            header,
            tag("nav", self._contents(), aria_label="Contents"),
            tag("main", list(self._sections()), id="text", tabindex="-1"),
        )
        return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"

    def _contents(self) -> Html:
        parts: list[Content] = [_links([("begin", "Before you begin"), ("problems", "Problems")])]
        for name, _ in self._groups():
            parts += [
                tag("p", tag("a", name.capitalize(), href=f"#{_tag_anchor(name)}")),
                _links([
                    (each.id, join([_method(each.method), " ", tag("code", each.path)]))
                    for each in self._of_tag(name)
                ]),
            ]
        parts += [
            tag("p", tag("a", "Types of commands", href="#commands")),
            _names({_command_anchor(kind): kind for kind in self._commands}),
            tag("p", tag("a", "Other objects", href="#objects")),
            _names({anchor(name): name for name in self._others()}),
        ]
        return join(parts)

    def _groups(self) -> Iterator[tuple[str, str]]:
        for each in self._tags:
            if self._of_tag(each["name"]):
                yield each["name"], each.get("description", "")

    def _of_tag(self, name: str) -> list[_Operation]:
        found = [each for each in self._operations if name in each.said.get("tags", ())]
        # In the document's order the first that fits a request serves it: not one to read in.
        return sorted(found, key=lambda each: each.path)

    def _sections(self) -> Iterator[Html]:
        yield _section("begin", "Before you begin", paragraphs(_BEGIN), _code(_VARIABLES))
        yield _section(
            "problems",
            "Problems",
            paragraphs(_PROBLEMS),
            fields("Fields of a problem", self._schemas.get(_PROBLEM, {})),
            paragraphs(_ANY),
            _answers(self._always, "any request"),
        )
        for name, said in self._groups():
            operations = [self._operation(each) for each in self._of_tag(name)]
            yield _section(_tag_anchor(name), name.capitalize(), paragraphs(said), *operations)
        if self._commands:
            yield self._command_types()
        others = [self._object(name) for name in self._others()]
        yield _section("objects", "Other objects", *others)

    def _operation(self, operation: _Operation) -> Html:
        said = operation.said
        heading = [_method(operation.method), " ", tag("code", operation.path)]
        parts: list[Content] = [
            _heading(heading, operation.id),
            paragraphs(said.get("description", said.get("summary", ""))),
            tag("p", _access(said), class_="access"),
        ]
        if said.get("parameters"):
            parts.append(tag("h4", "Parameters"))
            parts.append(_parameters(said["parameters"], operation.title))
        if "requestBody" in said:
            parts.append(tag("h4", "Body"))
            parts.append(self._body(said["requestBody"]))
        parts.append(tag("h4", "Answers"))
        own = {
            status: each
            for status, each in said["responses"].items()
            if self._always.get(status) != each
        }
        parts.append(_answers(own, operation.title))
        parts.append(tag("h4", "Example"))
        parts.append(_code(curl(operation.method, operation.path, said, self._schemas)))
        return tag("article", *parts)

    def _body(self, body: dict[str, Any]) -> Html:
        """Returns what a body may be; the fields stand here unless it is any command."""
        parts: list[Content] = [paragraphs(body.get("description", ""))]
        if not body.get("required"):
            parts.append(tag("p", "It may be left out."))
        rows = [
            (tag("code", media_type), type_of(each.get("schema", {})))
            for media_type, each in body["content"].items()
        ]
        parts.append(table("Media types", ("Media type", "What it holds"), rows))
        first = next(iter(body["content"].values())).get("schema", {})
        schema = resolve(first, self._schemas)
        if schema.get("properties"):
            parts.append(fields(f"Fields of {schema.get('title', 'the body')}", schema))
        return join(parts)

    def _answers_of_all(self) -> dict[str, Any]:
        every = [each.said["responses"] for each in self._operations]
        return {
            status: said
            for status, said in (every[0] if every else {}).items()
            if all(responses.get(status) == said for responses in every)
        }

    def _command_types(self) -> Html:
        named = [self._schemas[name] for name in self._commands.values()]
        common = common_fields(named)
        known = {"type", "data", *common["properties"]}
        parts: list[Content] = [
            paragraphs("What a command is sent as: its type, its data, and what all may say."),
            tag("h3", "Attributes", id=anchor(_COMMAND)),
            paragraphs(_ATTRIBUTES),
            fields("Attributes of every command", common),
        ]
        for kind, name in self._commands.items():
            schema = self._schemas[name]
            own = {each for each in schema["properties"] if each not in known}
            example = sample({"$ref": name}, self._schemas)
            parts += [
                tag("span", id=anchor(name)),
                _heading(tag("code", kind), _command_anchor(kind)),
                paragraphs(schema.get("description", "")),
            ]
            if own:
                parts.append(fields("Attributes of its own", schema, leave_out=known))
            for data in _alternatives(schema["properties"].get("data", {})):
                data_name = name_of(data["$ref"])
                parts += [
                    tag("span", id=anchor(data_name)),
                    fields(f"Data: {data_name}", self._schemas[data_name]),
                ]
            parts.append(_code(json.dumps(example, indent=2)))
        return _section("commands", "Types of commands", *parts)

    def _others(self) -> list[str]:
        """Returns the names of schemas that stand nowhere else."""
        told = {_COMMAND, *self._commands.values()}
        for name in self._commands.values():
            data = self._schemas[name]["properties"].get("data", {})
            told.update(references(_alternatives(data)))
        return sorted(set(self._schemas) - told)

    def _object(self, name: str) -> Html:
        schema = self._schemas[name]
        return tag(
            "article",
            _heading(tag("code", name), anchor(name)),
            paragraphs(schema.get("description", "")),
            fields(f"Fields of {name}", schema),
        )


def _alternatives(schema: Schema) -> list[Schema]:
    if "$ref" in schema:
        return [schema]
    choices: list[Schema] = schema.get("oneOf") or schema.get("anyOf") or []
    return [each for each in choices if "$ref" in each]


def _answers(responses: dict[str, Any], of: str) -> Html:
    rows = []
    for status, said in responses.items():
        kinds = [
            join([tag("br"), tag("code", media_type), _of(each.get("schema"))])
            for media_type, each in said.get("content", {}).items()
            if each.get("schema") != {"$ref": f"#/components/schemas/{_PROBLEM}"}
        ]
        rows.append((tag("code", status), join([prose(said["description"]), *kinds])))
    return table("Answers", ("Status", "What it says"), rows, under=of)


def _parameters(parameters: list[dict[str, Any]], of: str) -> Html:
    rows = []
    for each in parameters:
        marks = [f"in {each['in']}", *(["required"] if each.get("required") else [])]
        schema = dict(each["schema"])
        if "description" in each:
            schema["description"] = each["description"]
        rows.append((name_cell(each["name"], ", ".join(marks)), field_cell(schema)))
    return table("Parameters", ("Parameter", "Type and meaning"), rows, under=of)


def _of(schema: Schema | None) -> Html:
    return join([": ", type_of(schema)]) if schema else Html()


def _access(said: dict[str, Any]) -> Content:
    """Returns who may call an operation."""
    if not (security := said.get("security")):
        return "Needs no token."
    scopes = [tag("code", scope) for each in security for of in each.values() for scope in of]
    if not scopes:
        return "Needs a token, with any scope."
    return join(["Needs a token with the scope ", scopes, "."])


def _section(id_: str, heading: str, *content: Content) -> Html:
    return tag("section", tag("h2", heading, id=id_), *content, aria_labelledby=id_)


def _heading(text: Content, id_: str) -> Html:
    """Returns a heading that is a link to itself, for whoever wants to pass it on."""
    return tag("h3", tag("a", text, href=f"#{id_}"), id=id_)


def _links(links: list[tuple[str, Content]], **attributes: str) -> Html:
    items = [tag("li", tag("a", text, href=f"#{to}")) for to, text in links]
    return tag("ul", items, **attributes)


def _names(names: dict[str, str]) -> Html:
    return _links([(to, tag("code", name)) for to, name in names.items()], class_="names")


def _method(method: str) -> Html:
    return tag("span", method.upper(), class_=f"method {method}")


def _code(text: str) -> Html:
    # It scrolls by itself where it is wide, so the keyboard has to get there.
    return tag("pre", tag("code", text), tabindex="0")


def _tag_anchor(name: str) -> str:
    return f"tag-{name.replace(' ', '-')}"


def _command_anchor(kind: str) -> str:
    return f"command-{kind}"
