"""The Helm chart: Helm's own engine renders it, Kubernetes' schemas take it, its commands run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import yaml

from tests.console import Console
from tests.gateway_process import running_gateway
from tests.helm import (
    CHART,
    NAMESPACE,
    PYTHON,
    RELEASE,
    ROOT,
    VERSIONS,
    Manifest,
    Rendered,
    problems_of,
    render,
)
from worker.environment import secret_files
from worker.gateway_settings import GatewaySettings
from worker.settings import environment_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="Helm's engine is not here; `python3 dev.py chart` fetches it"
)

CASES: Final = {
    file.name.removesuffix("-values.yaml"): yaml.safe_load(file.read_text("utf-8")) or {}
    for file in sorted((CHART / "ci").glob("*-values.yaml"))
}
# They belong to the operators of KEDA and Prometheus.
CUSTOM: Final = {
    "ScaledObject": "keda.sh/v1alpha1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
}
TOKEN: Final = f"tm_0123456789ab_{'A' * 43}"


@pytest.fixture(scope="module")
def all_rendered() -> dict[str, Rendered]:
    """Each set of values, rendered once."""
    return render(CASES)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, all_rendered: dict[str, Rendered]) -> Rendered:
    """One of the sets of values that the chart is shipped with."""
    return all_rendered[request.param]


def pods(rendered: Rendered) -> Iterator[tuple[str, Manifest]]:
    """Yields the component and the template of each pod."""
    for each in rendered.manifests:
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def environment(container: Manifest) -> dict[str, str]:
    """Returns the variables that have a value in the manifest."""
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def test_the_sets_of_values_are_those_that_people_want() -> None:
    assert CASES.keys() == {"minimal", "full", "zero", "prometheus", "no-gateway"}


def test_helm_lints_and_renders_each_set_of_values_without_a_word(case: Rendered) -> None:
    assert (case.lint, case.error) == ([], "")
    assert case.notes.startswith("trainmaster 0.1.0 in the namespace vision.\n")
    assert max(map(len, case.notes.splitlines())) <= 80
    names = [(each["kind"], each["metadata"]["name"]) for each in case.manifests]
    assert len(set(names)) == len(names)
    assert {each["metadata"]["namespace"] for each in case.manifests} == {NAMESPACE}


def test_the_notes_ask_doctor_where_results_can_be_written(case: Rendered) -> None:
    """A gateway's pod has the result store to read, or not at all."""
    (name,) = re.findall(r"exec deploy/(\S+) -- \\\n +trainmaster doctor", case.notes)
    (container,) = case.of("Deployment", name)["spec"]["template"]["spec"]["containers"]
    store = environment(container)["TRAINMASTER_RESULT_STORE"]
    assert "://" in store or {"name": "results", "mountPath": store} in container["volumeMounts"]
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    asked = re.findall(r"exec deploy/trainmaster-(\w+) -- trainmaster doctor", page)
    assert set(asked) == {"worker"}


def test_kubernetes_own_schemas_take_each_manifest(case: Rendered) -> None:
    assert case.problems == []
    assert set(case.unknown) <= CUSTOM.keys()
    for manifest in case.manifests:
        if manifest["kind"] in CUSTOM:
            assert manifest["apiVersion"] == CUSTOM[manifest["kind"]]
    assert len(case.manifests) > len(case.unknown)


def test_the_schemas_see_a_mistake(all_rendered: dict[str, Rendered]) -> None:
    manifest = json.loads(json.dumps(all_rendered["minimal"].of("Deployment", "-worker")))
    manifest["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    problems = problems_of(manifest)
    assert len(problems) == len(VERSIONS)
    assert all("readynessProbe" in each for each in problems)


def test_pods_fit_the_restricted_level(case: Rendered) -> None:
    """As Kubernetes words it.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    """
    for _, template in pods(case):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "projected", "secret", "configMap", "persistentVolumeClaim"}
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounted  # noqa: S108 - the container's


def test_secrets_are_files_from_secrets_that_are_there_already(case: Rendered) -> None:
    assert not [each for each in case.manifests if each["kind"] == "Secret"]
    secret = {*secret_files().values(), *secret_files(GatewaySettings).values(), "ENCORD_SSH_KEY"}
    for component, template in pods(case):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for container in containers(template):
            assert not secret & {each["name"] for each in container["env"]}
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert mounts.keys() <= volumes.keys()
            files = {
                f"{mounts['secrets']['mountPath']}/{item['path']}"
                for source in volumes["secrets"]["projected"]["sources"]
                for item in source["secret"]["items"]
            }
            named = {value for value in environment(container).values() if value in files}
            unnamed = files - named
            assert unnamed <= {"/run/trainmaster/secrets/redis-ca.pem"}, "its URL names that"
            assert volumes["secrets"]["projected"]["defaultMode"] == 0o440
        if component == "gateway":
            assert "tokens" not in {
                mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]
            }, "a gateway knows digests alone"


def test_variables_are_settings_with_values_that_they_may_have(case: Rendered) -> None:
    """Kubernetes' own variables for Services would make one of them, so they are switched off."""
    names = {
        *environment_names().values(),
        *environment_names(GatewaySettings).values(),
        *secret_files(),
    }
    for _, template in pods(case):
        assert template["spec"]["enableServiceLinks"] is False
        for container in containers(template):
            told = environment(container)
            assert {name for name in told if name.startswith(("TRAINMASTER_", "ENCORD_"))} <= names
            assert len({each["name"] for each in container["env"]}) == len(container["env"])
            assert not [value for value in told.values() if re.search(r"\de\+\d", value)]


def test_numbers_are_written_as_people_write_them(all_rendered: dict[str, Rendered]) -> None:
    (container,) = all_rendered["full"].of("Deployment", "-worker")["spec"]["template"]["spec"][
        "containers"
    ]
    told = environment(container)
    assert told["TRAINMASTER_DATAREF_LIMIT_BYTES"] == "33554432"
    assert told["TRAINMASTER_REQUESTS_PER_SECOND"] == "12.5"
    assert told["TRAINMASTER_DATA_ROOTS"] == "/data/pictures:/data/backfills"


def test_a_gateway_may_be_another_user_of_redis(all_rendered: dict[str, Rendered]) -> None:
    for name, keys in (
        ("full", {"worker": "trainmaster-url", "gateway": "trainmaster-gateway-url"}),
        ("minimal", {"worker": "url", "gateway": "url"}),
    ):
        found = {
            component: item["key"]
            for component, each in pods(all_rendered[name])
            for volume in each["spec"]["volumes"]
            if volume["name"] == "secrets"
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
            if item["path"] == "redis-url"
        }
        assert found == keys


def test_a_gateway_reads_the_workers_results_where_they_share_a_place(
    all_rendered: dict[str, Rendered],
) -> None:
    for name, is_shared in (("full", True), ("minimal", False)):
        of = dict(pods(all_rendered[name]))
        stores = {
            environment(each["spec"]["containers"][0])["TRAINMASTER_RESULT_STORE"]
            for each in of.values()
        }
        (store,) = stores
        mounts = {
            component: {
                mount["mountPath"]: mount.get("readOnly", False)
                for mount in each["spec"]["containers"][0]["volumeMounts"]
            }
            for component, each in of.items()
        }
        assert mounts["worker"][store] is False
        assert mounts["gateway"].get(store) is (True if is_shared else None)


def test_selectors_find_the_pods_that_they_are_for_and_no_others(case: Rendered) -> None:
    labels = {component: template["metadata"]["labels"] for component, template in pods(case)}
    found = 0
    for manifest in case.manifests:
        match manifest["kind"]:
            case "Deployment" | "PodDisruptionBudget" | "PodMonitor" | "ServiceMonitor":
                selector = manifest["spec"]["selector"]["matchLabels"]
            case "NetworkPolicy":
                selector = manifest["spec"]["podSelector"]["matchLabels"]
            case "Service":
                selector = manifest["spec"]["selector"]
            case _:
                continue
        chosen = {name for name, each in labels.items() if selector.items() <= each.items()}
        assert chosen == {manifest["metadata"]["name"].rpartition("-")[2]}
        found += 1
    assert found >= len(labels)


def test_workers_have_time_to_stop_and_a_node_with_the_only_one_can_be_drained(
    case: Rendered,
) -> None:
    deployment = case.of("Deployment", "-worker")
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 150
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = case.of("PodDisruptionBudget", "-worker")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    for each in spread:
        assert each["labelSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]


def test_keda_owns_the_number_of_workers_where_it_is_on(case: Rendered) -> None:
    """An upgrade that set the number would stop workers in the middle of the day."""
    is_scaled = any(each["kind"] == "ScaledObject" for each in case.manifests)
    deployment = case.of("Deployment", "-worker")
    assert ("replicas" in deployment["spec"]) is not is_scaled
    if is_scaled:
        target = case.of("ScaledObject")["spec"]["scaleTargetRef"]["name"]
        assert target == deployment["metadata"]["name"]


def test_prometheus_is_asked_for_a_metric_of_this_release(
    all_rendered: dict[str, Rendered],
) -> None:
    (trigger,) = all_rendered["prometheus"].of("ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["query"] == (
        'max(trainmaster_worker_demand{namespace="vision",pod=~"tm-trainmaster-(worker|gateway)-.+"})'
    )
    assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_rules_and_dashboard_are_those_of_the_project(all_rendered: dict[str, Rendered]) -> None:
    full = all_rendered["full"]
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            url = rule["annotations"]["runbook_url"]
            rule["annotations"]["runbook_url"] = (
                f"https://git.example.com/trainmaster/blob/main/{url}"
            )
    assert full.of("PrometheusRule")["spec"] == rules
    dashboard = (ROOT / "deploy" / "grafana" / "trainmaster.json").read_text("utf-8")
    assert full.of("ConfigMap", "-dashboard")["data"]["trainmaster.json"] == dashboard
    # The rules know workers by this name of their job.
    monitor = full.of("PodMonitor")["spec"]
    labels = dict(pods(full))["worker"]["metadata"]["labels"]
    assert labels[monitor["jobLabel"]] == "trainmaster"


def test_the_gateway_of_the_chart_starts_with_its_tokens_and_tells_keda_the_demand(
    all_rendered: dict[str, Rendered], redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """The pods' commands and variables on a real Redis, and what the ScaledObject asks for."""
    chart = all_rendered["zero"]
    template = dict(pods(chart))["gateway"]["spec"]
    (container,) = template["containers"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "redis-url").write_text(redis_url)
    (secrets / "reader").write_text(TOKEN)
    (secrets / "operator").write_text(TOKEN.replace("0", "f"))
    told = environment(container) | {
        "TRAINMASTER_REDIS_URL_FILE": str(secrets / "redis-url"),
        "TRAINMASTER_NAMESPACE": namespace,
        "TRAINMASTER_GATEWAY_FOLDER": str(tmp_path / "state"),
        "HOME": str(tmp_path),
    }
    console = Console("", namespace, **told)
    for init in template["initContainers"]:
        args = [each.replace("/run/trainmaster/tokens", str(secrets)) for each in init["args"]]
        assert console.run(*args).code == 0
    program, *options = container["args"]
    assert program == "gateway"
    scaled = chart.of("ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    (secret,) = chart.of("TriggerAuthentication")["spec"]["secretTargetRef"]
    assert (
        trigger["authenticationRef"]["name"]
        == chart.of("TriggerAuthentication")["metadata"]["name"]
    )
    assert (secret["name"], secret["key"]) == ("trainmaster-gateway", "reader")
    service, path = re.fullmatch(r"http://([^/]+)(/.*)", trigger["metadata"]["url"]).groups()  # type: ignore[union-attr]
    assert service == f"{RELEASE}-trainmaster-gateway.{NAMESPACE}.svc:80"
    assert chart.of("Service")["metadata"]["name"] == service.partition(".")[0]
    assert scaled["minReplicaCount"] == 0
    with running_gateway(console, tmp_path / "gateway.log", *options) as gateway:
        port = gateway.url.rpartition(":")[2]

        def demand() -> int:
            answer = httpx.get(
                f"http://127.0.0.1:{port}{path}", headers={"authorization": f"Bearer {TOKEN}"}
            )
            assert answer.status_code == 200, answer.text
            found: int = answer.json()[trigger["metadata"]["valueLocation"]]
            return found

        assert demand() == 0
        sent = console.run("submit", "list_models")
        assert sent.code == 0, sent.err
        assert demand() == 1
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]["path"]
            assert httpx.get(f"http://127.0.0.1:{port}{asked}").status_code == 200
