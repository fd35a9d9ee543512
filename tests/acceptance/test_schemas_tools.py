"""The published documents in the hands of those who read them: generators, Ajv, AsyncAPI's parser.

The rules that these tools trip over are checked without them in `tests/unit/schemas`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from schemas.documents import commands_schema, documents, events_schema
from tests.pages import install, snippet

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "contract.md").read_text("utf-8")
EVENTS = (DOCS / "events.md").read_text("utf-8")
SCRIPTS = Path(sys.executable).parent
TOOL_SECONDS = 300

NAMES = {
    "commands": {"Command", *commands_schema()["$defs"]},
    "events": {"Event", *events_schema()["$defs"]},
}

AJV = """
const Ajv = require("ajv/dist/2020").default;
const addFormats = require("ajv-formats").default;
const said = [];
const say = (text) => said.push(text);
const strict = { strict: true, strictTypes: true, strictTuples: true, strictRequired: true };
const ajv = new Ajv({ ...strict, logger: { log: say, warn: say, error: say } });
addFormats(ajv);
const validate = ajv.compile(require("./contract/commands.schema.json"));
ajv.compile(require("./contract/events.schema.json"));
const train = { type: "train", dataref: "/a.json" };
console.log(JSON.stringify([said, validate(train), validate({ type: "train" })]));
"""

# What a consumer of events does with the generated classes.
FAILED = """
failed = {
    "specversion": "1.0",
    "id": "1-1/failed",
    "source": "/trainmaster",
    "type": "train.failed",
    "subject": "one",
    "time": "2026-01-31T12:00:00.000Z",
    "datacontenttype": "application/json",
    "data": {"error": {"code": "training_failed", "message": "no luck"}, "attempts": 1},
}
print(handle(Event("1-1", failed)))
"""

ASYNCAPI = """
const { Parser } = require("@asyncapi/parser");
const text = require("fs").readFileSync("contract/asyncapi.json", "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => {
  const said = diagnostics.map((each) => `${each.path.join(".")}: ${each.message}`);
  console.log(JSON.stringify([document?.version(), document?.messages().length, said]));
});
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the documents and with the tools for them that Node.js runs."""
    folder = tmp_path_factory.mktemp("node")
    install(
        folder,
        "json-schema-to-typescript@16",
        "typescript@5",
        "ajv@8",
        "ajv-formats@3",
        "@asyncapi/parser@3",
    )
    run(["trainmaster", "schemas", "--output", "contract"], folder)
    return folder


def run(command: list[str], folder: Path) -> str:
    """Runs a command in a folder; returns what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        timeout=TOOL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


def bare(code: str) -> str:
    """Returns code without what one formatter and the next write in their own ways."""
    return re.sub(r"[\s,]", "", code).replace('"', "'")


@pytest.mark.long
def test_typescript_gets_one_type_of_each_name(node: Path) -> None:
    """By the commands of the page; what it shows comes out, and what it does with it compiles."""
    run(["sh", "-ec", snippet(PAGE, "sh", "json-schema-to-typescript")], node)
    for document, names in NAMES.items():
        text = (node / f"{document}.ts").read_text("utf-8")
        found = re.findall(r"^export (?:type|interface) (\w+)", text, re.MULTILINE)
        assert sorted(found) == sorted(names)
    assert bare(snippet(PAGE, "ts", "export interface")) in bare((node / "events.ts").read_text())
    (node / "told.ts").write_text(snippet(PAGE, "ts", "import type"), "utf-8")
    run(["npx", "tsc", "--noEmit", "--strict", "told.ts"], node)


@pytest.mark.long
def test_ajv_has_nothing_to_say_in_strict_mode(node: Path) -> None:
    (node / "check.js").write_text(AJV)
    assert orjson.loads(run(["node", "check.js"], node)) == [[], True, False]


@pytest.mark.long
def test_asyncapis_own_parser_finds_nothing_wrong(node: Path) -> None:
    (node / "parse.js").write_text(ASYNCAPI)
    messages = len(documents()["asyncapi.json"]["components"]["messages"])
    assert orjson.loads(run(["node", "parse.js"], node)) == ["3.1.0", messages, []]


@pytest.mark.skipif(
    not shutil.which("datamodel-codegen"), reason="datamodel-codegen is not on PATH"
)
def test_python_gets_one_class_of_each_name(tmp_path: Path) -> None:
    """By the commands of the page; what it shows comes out, and what it does with it runs."""
    run(["sh", "-ec", snippet(PAGE, "sh", "datamodel-codegen")], tmp_path)
    for document, names in NAMES.items():
        text = (tmp_path / f"{document}.py").read_text("utf-8")
        found = re.findall(r"^class (\w+)", text, re.MULTILINE)
        assert sorted(found) == sorted(names)
    assert bare(snippet(PAGE, "python", "class Tr")) in bare((tmp_path / "events.py").read_text())
    (tmp_path / "told.py").write_text(snippet(PAGE, "python", "import Event"), "utf-8")
    run([sys.executable, "told.py"], tmp_path)
    (tmp_path / "consumer.py").write_text(snippet(EVENTS, "python", "AnyEvent") + FAILED, "utf-8")
    assert run([sys.executable, "consumer.py"], tmp_path) == "failed: training_failed\n"
