"""The README's promises and snippets: each is run as it stands there, on a real system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from redis import Redis

from tests.console import TIMEOUT_SECONDS, Console, running_worker, wait_until
from tests.gateway_process import GatewayProcess, running_gateway
from tests.pages import README, anchors, install, snippet
from tests.sandbox_process import SandboxProcess, running_sandbox
from worker.cli.main import COMMANDS, PLUGIN_HELP
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "docs" / "contract.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# What the snippets name: they are meant for a worker with default settings.
KEYS = Keys("trainmaster")


@dataclass(frozen=True)
class System:
    """A sandbox and a worker as the README starts them, and the Redis between them."""

    console: Console
    sandbox: SandboxProcess
    redis: Redis

    def run(self, command: list[str], folder: Path, **environment: str) -> str:
        """Runs a snippet; returns what it printed."""
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **self.console.environment, **environment},
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def states(self, command_id: str) -> list[str]:
        """Returns the types of all events of a command."""
        entries: Any = self.redis.xrange(KEYS.events)
        events = [orjson.loads(fields[b"event"]) for _, fields in entries]
        return [event["type"] for event in events if event["subject"] == command_id]

    def models_created(self) -> int:
        """Returns how many models the sandbox has made so far."""
        return len(self.sandbox.truth()["created"]["models"])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("readme")
    with EmbeddedRedis(folder / "redis") as server, running_sandbox(folder / "state") as sandbox:
        console = Console(
            # Old versions of redis-cli take a password only after a user.
            server.url.replace("//:", "//default:"),
            KEYS.namespace,
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
        )
        with (
            running_worker(console, folder / "worker.log"),
            Redis.from_url(server.url) as redis,
        ):
            yield System(console, sandbox, redis)


def check_once(system: System, command_id: str, before: int) -> None:
    """However often the snippet was run, its model was made once and it ended once."""
    assert system.states(command_id) == ["create_model.accepted", "create_model.succeeded"]
    assert system.models_created() == before + 1


def test_the_snippet_for_python_runs_and_run_again_does_nothing_more(
    system: System, tmp_path: Path
) -> None:
    before = system.models_created()
    (tmp_path / "first.py").write_text(snippet(README, "python", "trainmaster_client"))
    first, again = (system.run([sys.executable, "first.py"], tmp_path) for _ in range(2))
    assert first.split()[0] == "succeeded"
    assert again == first
    check_once(system, "model-from-python", before)


@pytest.mark.skipif(not shutil.which("redis-cli"), reason="redis-cli is not on PATH")
def test_the_snippet_for_redis_cli_runs_and_run_again_does_nothing_more(
    system: System, tmp_path: Path
) -> None:
    before = system.models_created()
    for _ in range(2):
        printed = system.run(["sh", "-c", snippet(README, "sh", "XADD")], tmp_path)
        _, event = printed.splitlines()
        assert orjson.loads(event)["type"] == "create_model.succeeded"
    check_once(system, "model-from-cli", before)


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package that the README installs."""
    folder = tmp_path_factory.mktemp("node")
    (package,) = re.findall(r"`npm install (redis@\d+)`", README)
    install(folder, package)
    return folder


def test_the_snippet_for_node_runs_and_run_again_does_nothing_more(
    system: System, node_folder: Path
) -> None:
    before = system.models_created()
    (node_folder / "first.mjs").write_text(snippet(README, "js", "createClient"))
    for _ in range(2):
        printed = system.run(["node", "first.mjs"], node_folder)
        assert "create_model.succeeded" in printed
    check_once(system, "model-from-node", before)


@pytest.fixture(scope="module")
def gateway(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway as the README starts it."""
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(system.console, folder / "gateway.log") as running:
        yield running


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_snippet_for_curl_runs_and_run_again_does_nothing_more(
    system: System, gateway: GatewayProcess, tmp_path: Path
) -> None:
    before = system.models_created()
    lines = snippet(README, "sh", "curl").replace("http://127.0.0.1:8080", gateway.url)
    for duplicate in (False, True):
        printed = system.run(["sh", "-c", lines.replace("\n\ncurl", "; echo; curl")], tmp_path)
        accepted, ended = map(orjson.loads, printed.splitlines())
        assert (accepted["status"], accepted["duplicate"]) == (202, duplicate)
        assert (ended["state"], ended["result"]["model_group"]["title"]) == ("succeeded", "Shapes")
    check_once(system, "model-from-curl", before)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_every_call_of_the_gateways_page_is_answered_as_it_says(
    system: System, gateway: GatewayProcess, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "gateway.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    calls = [block for block in blocks if "curl" in block]
    script = "\n".join(calls).replace("curl --silent", "curl --fail-with-body --silent")
    assert script.count("curl --fail") > 12
    printed = system.run(["sh", "-ec", script], tmp_path, GATEWAY=gateway.url)
    told = snippet(page, "json", "duplicate").strip()
    assert printed.startswith(told)
    assert '"state":"succeeded"' in printed
    assert "event: list_models.succeeded" in printed


def test_the_gateways_page_has_every_code_of_a_problem() -> None:
    page = (ROOT / "docs" / "gateway.md").read_text("utf-8")
    code = re.compile(r'(?:ProblemError|_refuse|problem_body)\(\s*\d{3},\s*"([a-z_]+)"')
    files = (ROOT / "worker" / "gateway").rglob("*.py")
    codes = {found for file in files for found in code.findall(file.read_text("utf-8"))}
    assert len(codes) > 20
    assert {each for each in codes if f"`{each}`" not in page} == set()


SENDS_CLOUD_EVENTS = """
import { CloudEvent, HTTP, Mode, emitterFor, httpTransport } from "cloudevents";

const url = process.argv[2] + "/v1/commands";
const event = (id) => new CloudEvent({
  type: "list_models", source: "/node", id, correlationid: "node", data: { query: "é" },
});
const send = async (headers, body) => {
  const answer = await fetch(url, { method: "POST", headers, body });
  console.log(answer.status);
};
for (const mode of ["structured", "binary"]) {
  const { headers, body } = HTTP[mode](event("node é/" + mode));
  await send(headers, body);
}
const batch = ["a", "b"].map((id) => HTTP.structured(event("node/" + id)).body);
await send({ "content-type": "application/cloudevents-batch+json" }, "[" + batch + "]");
await emitterFor(httpTransport(url), { mode: Mode.BINARY })(event("node/emitted"));
"""


def test_the_cloudevents_sdk_for_javascript_sends_in_each_mode(
    system: System, gateway: GatewayProcess, tmp_path: Path
) -> None:
    install(tmp_path, "cloudevents@10")
    (tmp_path / "send.mjs").write_text(SENDS_CLOUD_EVENTS)
    assert system.run(["node", "send.mjs", gateway.url], tmp_path).split() == ["202"] * 3
    ids = ("node é/structured", "node é/binary", "node/a", "node/b", "node/emitted")
    for command_id in ids:
        told = httpx.get(
            f"{gateway.url}/v1/commands/{quote(command_id, safe='')}",
            params={"wait": 60},
            timeout=90,
            trust_env=False,
        ).json()
        assert (told["id"], told["state"]) == (command_id, "succeeded")


def test_the_snippet_for_the_command_line_runs(system: System, tmp_path: Path) -> None:
    (line,) = snippet(README, "sh", "dev.py submit --wait").splitlines()
    script = Path(sys.executable).parent / "trainmaster"
    printed = system.run(["sh", "-c", line.replace("python3 dev.py", str(script), 1)], tmp_path)
    assert orjson.loads(printed)["model_group"]["title"] == "Shapes"


def test_the_doctor_finds_nothing_wrong_with_the_systems_first_steps(system: System) -> None:
    said = system.console.run("doctor")
    assert said.code == 0, said.out


def test_the_snippet_for_another_celery_app_reaches_the_worker(
    system: System, tmp_path: Path
) -> None:
    (tmp_path / "sender.py").write_text(snippet(CONTRACT, "python", "send_task"))
    system.run([sys.executable, "sender.py"], tmp_path)
    wait_until(lambda: len(system.states("from-celery")) == 2, "the end of the command")
    assert system.states("from-celery") == ["list_models.accepted", "list_models.succeeded"]


def test_the_same_id_with_other_data_is_rejected_as_a_conflict(system: System) -> None:
    for query, end in (("one", "list_models.succeeded"), ("two", "list_models.rejected")):
        command = {"type": "list_models", "id": "twice", "data": {"query": query}}
        system.redis.xadd(KEYS.commands, {"command": orjson.dumps(command)})
        wait_until(lambda end=end: end in system.states("twice"), end)  # type: ignore[misc]
    assert system.states("twice") == [
        "list_models.accepted",
        "list_models.succeeded",
        "list_models.rejected",
    ]


def test_what_failed_lies_in_the_dead_letters_with_its_original_text(system: System) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    text = orjson.dumps({"type": "get_model", "id": "no-such", "data": {"model_uuid": nobody}})
    system.redis.rpush(KEYS.inbox, text)
    wait_until(lambda: "get_model.failed" in system.states("no-such"), "the failure")
    letter = orjson.loads(system.console.run("dead-letters", "show", "no-such", "--json").out)
    assert letter["text"] == text.decode()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_or_heading_that_is_there(page: Path) -> None:
    for link in links(page):
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if heading:
            assert heading in anchors(target), link


def links(page: Path) -> list[str]:
    """The links of a page that lead to another page of ours."""
    found: list[str] = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    return [link for link in found if not link.startswith("https://")]


def test_links_and_commands_are_found_in_the_pages() -> None:
    """What checks them would else run over nothing."""
    readme = links(ROOT / "README.md")
    assert {f"docs/{name}.md" for name in ("contract", "operations", "cli")} <= set(readme)
    assert sum(len(links(page)) for page in PAGES) > 2 * len(readme)
    assert {"demo", "submit", "worker"} <= set(named_commands(ROOT / "README.md"))
    assert {"list", "events", "describe"} <= set(named_commands(ROOT / "docs" / "cli.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_code_block_exists(page: Path) -> None:
    known = {*COMMANDS, *PLUGIN_HELP, "test", "faults", "bench"}
    known |= {"mutate", "check", "format", "lock", "sbom", "setup"}
    for name in named_commands(page):
        assert name in known, name


def named_commands(page: Path) -> list[str]:
    """The commands that the code blocks of a page call."""
    return [
        name
        for block in re.findall(
            r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        )
        for name in re.findall(
            r"^(?:.*[;|] )?(?:trainmaster|python3 dev\.py) ([a-z-]+)", block, re.MULTILINE
        )
    ]


def test_the_licence_that_the_readme_names_is_the_one_in_the_file() -> None:
    assert "[Apache-2.0](LICENSE)" in README
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")
