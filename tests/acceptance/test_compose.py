"""What `deploy/compose.yaml` starts, without Docker: its rules, files and secrets at work."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.console import SCRIPT, wait_until
from worker.embedded import find_servers
from worker.environment import secret_files
from worker.gateway_settings import GatewaySettings
from worker.settings import environment_names

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
TEXT = FILE.read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
PAGES = ("README.md", "docs/deploy.md")
PROMTOOL = shutil.which("promtool") or ""
RUN_SECONDS = 60


def test_the_file_is_what_the_specification_of_compose_allows() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_as_few_rights_as_it_can_do_with(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 512
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "open to this machine alone"
    assert service["init"] is True, "or a stop in its first moments waits for the whole grace"
    assert "privileged" not in service
    assert service.get("network_mode") is None


def test_each_profile_has_two_workers_and_only_one_has_the_stand_in() -> None:
    workers = {name: service for name, service in SERVICES.items() if "worker" in name}
    assert {tuple(each["profiles"]) for each in workers.values()} == {("encord",), ("sandbox",)}
    for worker in workers.values():
        assert worker["deploy"]["replicas"] == 2
        assert worker["networks"]["default"]["aliases"] == ["workers"]
        assert worker["stop_grace_period"] == "150s"
    assert SERVICES["sandbox"]["profiles"] == ["sandbox"]
    assert "sandbox" not in SERVICES["worker"]["depends_on"]
    assert not {"redis", "gateway", "prometheus", "grafana"} & {
        name for name, service in SERVICES.items() if "profiles" in service
    }


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_sets_only_what_is_a_setting(name: str) -> None:
    known = {*environment_names().values(), *environment_names(GatewaySettings).values()}
    known |= {*secret_files(), *secret_files(GatewaySettings)}
    environment = SERVICES[name].get("environment", {})
    assert set(environment) <= known
    for variable, value in environment.items():
        if str(value).startswith("/run/secrets/"):
            assert variable.endswith("_FILE")
            assert value.removeprefix("/run/secrets/") in SERVICES[name]["secrets"]
    assert not {"TRAINMASTER_REDIS_URL", "ENCORD_SSH_KEY", "TRAINMASTER_BEARER_TOKEN"} & {
        *environment
    }, "secrets are files"


def test_what_a_service_names_is_declared_and_what_is_declared_is_used() -> None:
    volumes, networks, secrets = set(), set(), set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            assert target.startswith("/")
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), source
            else:
                volumes.add(source)
        networks |= set(service.get("networks", ["default"]))
        secrets |= set(service.get("secrets", []))
        assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert volumes == set(COMPOSE["volumes"])
    assert networks - {"default"} == set(COMPOSE["networks"])
    assert secrets == set(COMPOSE["secrets"])
    for name in OURS:
        build = SERVICES[name]["build"]
        assert (DEPLOY / build["context"] / "Dockerfile").is_file()
        assert f" AS {build['target']}\n" in (ROOT / "Dockerfile").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_tells_the_commands_as_the_file_does(page: str) -> None:
    told = re.findall(r"^#   (.*)$", TEXT.partition("name:")[0], re.MULTILINE)
    assert told[0] == "deploy/secrets.sh"
    assert "--profile sandbox" in told[1]
    for command in told:
        assert f"\n{command}\n" in (ROOT / page).read_text("utf-8"), command


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """A copy of the folder, in which secrets may be made."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets", "helm"))
    return tmp_path / "deploy"


def make_secrets(deploy: Path) -> str:
    made = subprocess.run(
        [deploy / "secrets.sh"], capture_output=True, text=True, timeout=RUN_SECONDS, check=True
    )
    return made.stdout


def test_secrets_are_made_once_and_shown_to_nobody(deploy: Path) -> None:
    printed = make_secrets(deploy)
    folder = deploy / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = {file.name: file.read_text() for file in folder.iterdir()}
    files = {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
    assert files - {"encord-key"} <= set(made)
    acl = made["redis-users.acl"]
    assert "user default off" in acl.splitlines()
    for name, text in made.items():
        # Containers read them under other uids.
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o644
        if name.endswith("-url"):
            password = text.split(":")[2].partition("@")[0]
            assert len(password) == 48
            assert password not in acl
            assert password not in printed
    assert "already" in make_secrets(deploy)
    assert {file.name: file.read_text() for file in folder.iterdir()} == made


@contextmanager
def valkey(deploy: Path, port: int) -> Iterator[None]:
    """A server with the file of compose.yaml, but for its places."""
    text = (deploy / "valkey.conf").read_text("utf-8")
    text = text.replace("dir /data", f"dir {deploy}").replace("/run/secrets", f"{deploy}/secrets")
    (deploy / "here.conf").write_text(f"{text}\nbind 127.0.0.1\nport {port}\n")
    command = [find_servers()[0], deploy / "here.conf"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()


def test_the_servers_file_and_the_users_let_each_do_its_part_and_no_other(
    deploy: Path, unused_tcp_port: int
) -> None:
    make_secrets(deploy)

    def ask(user: str, *command: str) -> Any:
        """Returns what the server answers to a user; those of no file say anything as password."""
        file = deploy / "secrets" / f"{user}-redis-url"
        password = file.read_text().split(":")[2].partition("@")[0] if file.exists() else "x"
        with Redis(
            port=unused_tcp_port, username=user, password=password, decode_responses=True
        ) as client:
            return client.execute_command(*command)

    def answers() -> bool:
        try:
            return bool(ask("health", "PING"))
        except RedisConnectionError:
            return False

    with valkey(deploy, unused_tcp_port):
        wait_until(answers, "a server")
        with pytest.raises(AuthenticationError):
            ask("default", "PING")
        for user, command in (
            ("health", ("GET", "{trainmaster}:probe")),
            *((user, ("FLUSHALL",)) for user in ("worker", "gateway", "operator")),
        ):
            with pytest.raises(NoPermissionError):
                ask(user, *command)
        for user in ("worker", "gateway", "operator"):
            assert ask(user, "SET", "{trainmaster}:probe", "1")
        for directive, value in (
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("maxmemory-policy", "noeviction"),
        ):
            assert ask("operator", "CONFIG", "GET", directive) == {directive: value}
        shows_a_token_to_prometheus(deploy, unused_tcp_port)


def shows_a_token_to_prometheus(deploy: Path, port: int) -> None:
    """The service `token`, run twice: one token, which the gateway's Redis knows."""
    (script,) = SERVICES["token"]["command"]
    folder = deploy / "token"
    folder.mkdir()
    script = script.replace("/var/lib/trainmaster", str(folder)).replace("$$", "$")
    url = (deploy / "secrets" / "operator-redis-url").read_text().replace("redis:6379", "")
    environment = {
        "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}",
        "TRAINMASTER_REDIS_URL": url.strip().replace("@", f"@127.0.0.1:{port}"),
    }
    secrets = []
    for _ in range(2):
        subprocess.run(
            [*SERVICES["token"]["entrypoint"], script],
            env=environment,
            check=True,
            timeout=RUN_SECONDS,
        )
        secrets.append((folder / "prometheus").read_text().strip())
    assert secrets[0] == secrets[1]
    assert secrets[0].startswith("tm_")
    listed = subprocess.run(
        [SCRIPT, "tokens", "list", "--json"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=RUN_SECONDS,
    )
    (token,) = map(json.loads, listed.stdout.splitlines())
    assert (token["name"], token["scopes"]) == ("prometheus", ["read"])


def test_prometheus_is_given_what_its_file_names() -> None:
    file = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    mounted = {
        volume.split(":")[1]
        for volume in SERVICES["prometheus"]["volumes"]
        if volume.startswith(".")
    }
    assert mounted == {
        "/etc/prometheus/prometheus.yml",
        *(f"/etc/prometheus/{name}" for name in file["rule_files"]),
    }
    jobs = {each["job_name"]: each for each in file["scrape_configs"]}
    (workers,) = jobs["trainmaster"]["dns_sd_configs"]
    assert workers["names"] == SERVICES["worker"]["networks"]["default"]["aliases"]
    assert SERVICES["worker"]["environment"]["TRAINMASTER_HTTP"] == f"0.0.0.0:{workers['port']}"
    gateway = jobs["trainmaster-gateway"]
    assert gateway["static_configs"] == [{"targets": ["gateway:8080"]}]
    assert "token:/etc/prometheus/token:ro" in SERVICES["prometheus"]["volumes"]
    assert gateway["authorization"]["credentials_file"] == "token/prometheus"


@pytest.mark.skipif(not PROMTOOL, reason="Prometheus' promtool is not here")
def test_prometheus_own_tool_takes_its_file(deploy: Path) -> None:
    folder = deploy / "prometheus"
    (folder / "token").mkdir()
    (folder / "token" / "prometheus").write_text("tm_x\n")
    told = subprocess.run(
        [PROMTOOL, "check", "config", folder / "prometheus.yaml"],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "provider.yaml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert (
        f"./grafana/trainmaster.json:{folder}/trainmaster.json:ro"
        in (SERVICES["grafana"]["volumes"])
    )
