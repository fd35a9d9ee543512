"""The Helm chart's values: what a cluster would refuse is named before anything is applied."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

from tests.helm import PYTHON, ROOT, Rendered, render

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="Helm's engine is not here; `python3 dev.py chart` fetches it"
)

BROKEN: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "a text for a number": ({"worker": {"replicas": "two"}}, "/worker/replicas"),
    "a setting that is none": (
        {"worker": {"settings": {"TRAINMASTER_CONCURENCY": 10}}},
        "TRAINMASTER_CONCURENCY",
    ),
    "a setting out of its range": (
        {"worker": {"settings": {"TRAINMASTER_CONCURRENCY": 99999}}},
        "/worker/settings/TRAINMASTER_CONCURRENCY",
    ),
    "several namespaces": (
        {"settings": {"TRAINMASTER_NAMESPACE": "eu,us"}},
        "/settings/TRAINMASTER_NAMESPACE",
    ),
    "a gateway's setting for workers": (
        {"worker": {"settings": {"TRAINMASTER_GATEWAY_BACKLOG": 1}}},
        "TRAINMASTER_GATEWAY_BACKLOG",
    ),
    "a secret among the settings": (
        {"settings": {"TRAINMASTER_REDIS_URL": "redis://:secret@redis"}},
        "TRAINMASTER_REDIS_URL",
    ),
    "a secret among further variables": (
        {"worker": {"extraEnv": [{"name": "ENCORD_SSH_KEY", "value": "secret"}]}},
        "worker.extraEnv: ENCORD_SSH_KEY is a secret, and secrets are mounted as files",
    ),
    "a value that is none": ({"wrker": {}}, "wrker"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "/image/digest"),
    "a scope that is none": (
        {
            "gateway": {
                "tokens": [{"name": "a", "scopes": ["admin"], "secretName": "b", "secretKey": "c"}]
            }
        },
        "/gateway/tokens/0/scopes/0",
    ),
    "a label of the chart's own": (
        {"worker": {"podLabels": {"app.kubernetes.io/component": "gateway"}}},
        "invalid propertyName 'app.kubernetes.io/component'",
    ),
    "a tag in the repository": (
        {"image": {"repository": "registry.example.com:5000/trainmaster:1.0"}},
        "/image/repository",
    ),
    "two tokens of one name": (
        {
            "gateway": {
                "tokens": [
                    {"name": "a", "scopes": ["read"], "secretName": "b", "secretKey": key}
                    for key in ("c", "d")
                ]
            }
        },
        'gateway.tokens: two have the name "a"',
    ),
    "a token of projects that may read": (
        {
            "gateway": {
                "tokens": [
                    {
                        "name": "ci",
                        "scopes": ["submit", "read"],
                        "projects": ["c4a7e6f0-93d1-4b7f-a1c5-0e8d2b3f4a03"],
                        "secretName": "a",
                        "secretKey": "b",
                    }
                ]
            }
        },
        "/gateway/tokens/0/scopes/1",
    ),
    "a volume of the chart's own": (
        {"worker": {"dataRoots": [{"name": "tmp", "claimName": "a", "mountPath": "/data"}]}},
        'worker: the chart has a volume "tmp" of its own',
    ),
    "two claims at one place": (
        {
            "worker": {
                "dataRoots": [
                    {"name": name, "claimName": name, "mountPath": "/data"} for name in ("a", "b")
                ]
            }
        },
        'two have the mountPath "/data"',
    ),
    "no key for the API": (
        {"encord": {"sshKeyKey": ""}},
        "encord: name sshKeyKey or bearerTokenKey",
    ),
    "two result stores": (
        {"worker": {"resultStore": {"url": "s3://a/b", "existingClaim": "c"}}},
        "worker.resultStore: give url or existingClaim, not both",
    ),
    "zero workers and no gateway": (
        {
            "autoscaling": {
                "enabled": True,
                "source": "prometheus",
                "prometheus": {"serverAddress": "http://p:9090"},
            },
            "gateway": {"enabled": False},
        },
        "autoscaling.minReplicas: 0 needs gateway.enabled",
    ),
    "a gateway to ask that is none": (
        {"autoscaling": {"enabled": True, "minReplicas": 1}, "gateway": {"enabled": False}},
        "autoscaling.source: gateway needs gateway.enabled",
    ),
    "a Prometheus nowhere": (
        {"autoscaling": {"enabled": True, "source": "prometheus"}},
        "autoscaling.prometheus.serverAddress: say where Prometheus is",
    ),
    "an authority of a gateway without TLS": (
        {"autoscaling": {"enabled": True, "tls": {"secretName": "a"}}},
        "autoscaling.tls.secretName: the gateway speaks HTTP: set gateway.tls.secretName too",
    ),
    "an authority of a Prometheus without TLS": (
        {
            "autoscaling": {
                "enabled": True,
                "source": "prometheus",
                "prometheus": {"serverAddress": "http://p:9090"},
                "tls": {"secretName": "a"},
            }
        },
        "autoscaling.tls.secretName: autoscaling.prometheus.serverAddress must begin with https",
    ),
    "more at least than at most": (
        {"autoscaling": {"enabled": True, "minReplicas": 11}},
        "autoscaling.minReplicas must be at most autoscaling.maxReplicas",
    ),
    "a token that nobody makes": (
        {"autoscaling": {"enabled": True, "token": "nobody"}},
        'autoscaling.token: gateway.tokens has no token "nobody"',
    ),
    "a token that may not read everything": (
        {
            "monitoring": {"monitors": {"enabled": True, "token": "ci"}},
            "gateway": {
                "tokens": [
                    {"name": "ci", "scopes": ["submit"], "secretName": "a", "secretKey": "b"}
                ]
            },
        },
        'monitoring.monitors.token: the token "ci" must have the scope read',
    ),
    "an ingress for nobody": (
        {"gateway": {"enabled": False, "ingress": {"enabled": True}}},
        "gateway.ingress.enabled needs gateway.enabled",
    ),
    "an ingress without a host": (
        {"gateway": {"ingress": {"enabled": True}}},
        "gateway.ingress.hosts: name a host",
    ),
    "root for the pod": ({"podSecurityContext": {"runAsUser": 0}}, "/podSecurityContext/runAsUser"),
    "root for the containers": (
        {"containerSecurityContext": {"runAsUser": 0}},
        "/containerSecurityContext/runAsUser",
    ),
    "a user that may be root": (
        {"podSecurityContext": {"runAsNonRoot": None}},
        "/podSecurityContext': missing property 'runAsNonRoot'",
    ),
    "no seccomp": (
        {"podSecurityContext": {"seccompProfile": {"type": "Unconfined"}}},
        "/podSecurityContext/seccompProfile/type",
    ),
    "a container with all rights": (
        {"containerSecurityContext": {"privileged": True}},
        "/containerSecurityContext/privileged",
    ),
    "rights that may grow": (
        {"containerSecurityContext": {"allowPrivilegeEscalation": True}},
        "/containerSecurityContext/allowPrivilegeEscalation",
    ),
    "a right that the restricted level forbids": (
        {"containerSecurityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
        "/containerSecurityContext/capabilities/add/0",
    ),
    "rights that are kept": (
        {"containerSecurityContext": {"capabilities": {"drop": ["NET_RAW"]}}},
        "containerSecurityContext.capabilities.drop: add ALL",
    ),
    "a folder of the node": (
        {"worker": {"extraVolumes": [{"name": "a", "hostPath": {"path": "/"}}]}},
        "/worker/extraVolumes/0': additional properties 'hostPath'",
    ),
    "resources that are no quantity": (
        {"worker": {"resources": {"requests": {"cpu": "lots"}}}},
        'worker.resources.requests.cpu: "lots" is no quantity: write one like 250m',
    ),
    "less than no resources": (
        {"worker": {"resources": {"requests": {"cpu": -1}}}},
        "/worker/resources/requests/cpu",
    ),
    "a resource that is none": (
        {"gateway": {"resources": {"limits": {"mem": "512Mi"}}}},
        "gateway.resources.limits.mem: Kubernetes has no such resource",
    ),
    "half a byte of memory": (
        {"gateway": {"resources": {"limits": {"memory": "512m"}}}},
        "gateway.resources.limits.memory: 512m is a part of a byte: write one like 512Mi",
    ),
    "a request over the default limit": (
        {"worker": {"resources": {"requests": {"memory": "1Gi"}}}},
        "worker.resources.requests.memory: 1Gi is over the limit, 512Mi: lower it",
    ),
    "a request over the limit in another unit": (
        {"gateway": {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1999m"}}}},
        "gateway.resources.requests.cpu: 2 is over the limit, 1999m: lower it",
    ),
    "a variable twice": (
        {"worker": {"extraEnv": [{"name": "A", "value": value} for value in ("b", "c")]}},
        'worker.extraEnv: two have the name "A": remove one',
    ),
    "a variable of the chart's own": (
        {"gateway": {"extraEnv": [{"name": "TRAINMASTER_GATEWAY_PORT", "value": "1"}]}},
        "gateway.extraEnv: the chart sets TRAINMASTER_GATEWAY_PORT by another value",
    ),
    "a setting that is a variable too": (
        {
            "settings": {"TRAINMASTER_LOG_LEVEL": "WARNING"},
            "worker": {"extraEnv": [{"name": "TRAINMASTER_LOG_LEVEL", "value": "DEBUG"}]},
        },
        "worker.extraEnv: the chart sets TRAINMASTER_LOG_LEVEL by another value",
    ),
    "a number as a variable": (
        {"worker": {"extraEnv": [{"name": "A", "value": 1}]}},
        "/worker/extraEnv/0/value",
    ),
    "a mount of no volume": (
        {"worker": {"extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]}},
        'worker.extraVolumeMounts: there is no volume "a": add it to worker.extraVolumes',
    ),
    "a mount where the chart has one": (
        {
            "worker": {
                "extraVolumes": [{"name": "a", "emptyDir": {}}],
                "extraVolumeMounts": [{"name": "a", "mountPath": "/tmp"}],  # noqa: S108
            }
        },
        'two have the mountPath "/tmp": remove one',
    ),
    "pods that nothing may replace": (
        {"worker": {"strategy": {"rollingUpdate": {"maxSurge": "0%"}}}},
        "worker.strategy.rollingUpdate: maxUnavailable and maxSurge are both 0",
    ),
    "a size that is none": (
        {"worker": {"resultStore": {"sizeLimit": "2ki"}}},
        "/worker/resultStore/sizeLimit",
    ),
    "a name that no object may have": ({"fullnameOverride": "My_Fleet"}, "/fullnameOverride"),
    "a label that is none": ({"commonLabels": {"team": "machine learning"}}, "/commonLabels/team"),
}
TAKEN: Final[dict[str, dict[str, Any]]] = {
    "users that OpenShift chooses": {
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    },
    "the one right that the restricted level leaves": {
        "containerSecurityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}}
    },
    "one amount in two units": {
        "gateway": {
            "resources": {
                "requests": {"cpu": "1500m", "memory": "0.5Gi", "example.com/disks": 1},
                "limits": {"cpu": 1.5, "memory": 536870912, "example.com/disks": "1"},
            }
        }
    },
    "no limits": {"worker": {"resources": {"limits": None}}},
    "sizes of any unit": {"worker": {"resultStore": {"sizeLimit": "524288Ki"}}},
    "pods that all stop before others start": {"worker": {"strategy": {"type": "Recreate"}}},
}


EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    f"example {number} of the page": yaml.safe_load(text)
    for number, text in enumerate(
        re.findall(
            r"```yaml\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text("utf-8"), re.DOTALL
        )
    )
}


@pytest.fixture(scope="module")
def all_rendered() -> dict[str, Rendered]:
    """Each set of values, rendered once."""
    return render(TAKEN | EXAMPLES | {name: values for name, (values, _) in BROKEN.items()})


@pytest.mark.parametrize("name", BROKEN)
def test_a_value_that_does_not_fit_is_named(all_rendered: dict[str, Rendered], name: str) -> None:
    told = all_rendered[name]
    assert BROKEN[name][1] in told.error
    # What templates refuse, and not the schema, `helm lint` lets pass.
    assert bool(told.lint) is ("execution error" not in told.error)
    assert "secret@" not in told.error


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("name", [*TAKEN, *EXAMPLES])
def test_a_value_that_fits_is_taken(all_rendered: dict[str, Rendered], name: str) -> None:
    told = all_rendered[name]
    assert (told.error, told.lint, told.problems) == ("", [], [])


def test_pods_that_all_stop_first_have_no_rolling_update(
    all_rendered: dict[str, Rendered],
) -> None:
    """Kubernetes refuses both at once, and the defaults bring one."""
    told = all_rendered["pods that all stop before others start"]
    assert told.of("Deployment", "-worker")["spec"]["strategy"] == {"type": "Recreate"}
