"""What KEDA asks by the chart where certificates are of a private authority."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.console import Console
from tests.gateway_process import running_gateway
from tests.helm import PYTHON, Rendered, render
from tests.security.tls import Authority

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="Helm's engine is not here; `python3 dev.py chart` fetches it"
)

PRIVATE: Final = {"secretName": "private"}
PROMETHEUS: Final = {"serverAddress": "https://prometheus.example.com"}
CASES: Final[dict[str, dict[str, Any]]] = {
    "gateway": {
        "autoscaling": {"enabled": True, "tls": PRIVATE},
        "gateway": {"tls": {"secretName": "gateway-tls"}},
    },
    "prometheus": {
        "autoscaling": {
            "enabled": True,
            "source": "prometheus",
            "prometheus": PROMETHEUS,
            "tls": PRIVATE,
        }
    },
    "prometheus with a token": {
        "autoscaling": {
            "enabled": True,
            "source": "prometheus",
            "prometheus": {**PROMETHEUS, "tokenSecretName": "thanos"},
            "tls": {**PRIVATE, "caKey": "service-ca.crt"},
        }
    },
    "prometheus of a public CA": {
        "autoscaling": {"enabled": True, "source": "prometheus", "prometheus": PROMETHEUS}
    },
}
TOKEN: Final = f"tm_0123456789ab_{'A' * 43}"


@pytest.fixture(scope="module")
def all_rendered() -> dict[str, Rendered]:
    """Each set of values, rendered once."""
    return render(CASES)


def asked(rendered: Rendered) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Returns what a trigger says, and of each parameter the Secret and its key."""
    assert rendered.error == ""
    (trigger,) = rendered.of("ScaledObject")["spec"]["triggers"]
    authentication = rendered.of("TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    return trigger["metadata"], {
        each["parameter"]: (each["name"], each["key"])
        for each in authentication["spec"]["secretTargetRef"]
    }


def test_keda_reads_the_demand_from_a_gateway_of_a_private_authority(
    all_rendered: dict[str, Rendered], redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """As KEDA's scaler does: with the parameters' certificates, for the URL's own host.

    It takes `ca` only where `authModes` has `tls`, which wants `cert` and `key` too.
    Source: https://github.com/kedacore/keda/blob/v2.18.0/pkg/scalers/metrics_api_scaler.go
    """
    trigger, parameters = asked(all_rendered["gateway"])
    assert trigger["authModes"] == "tls,bearer"
    assert "authMode" not in trigger
    url = urlsplit(trigger["url"])
    assert url.hostname is not None
    authority = Authority.create(tmp_path / "ca.crt", "of the cluster")
    certificate, key = authority.issue(tmp_path / "gateway", url.hostname)
    secrets = {
        ("private", "ca.crt"): authority.file,
        ("private", "tls.crt"): certificate,
        ("private", "tls.key"): key,
        ("trainmaster-gateway", "reader"): tmp_path / "reader",
    }
    (tmp_path / "reader").write_text(TOKEN)
    files = {name: secrets[secret] for name, secret in parameters.items()}
    console = Console(redis_url, namespace)
    made = console.run(
        "tokens", "create", "reader", "--scope=read", f"--secret-file={tmp_path / 'reader'}"
    )
    assert made.code == 0, made.err
    served = Console(
        redis_url,
        namespace,
        TRAINMASTER_GATEWAY_TLS_CERT_FILE=str(certificate),
        TRAINMASTER_GATEWAY_TLS_KEY_FILE=str(key),
    )
    context = ssl.create_default_context(cafile=str(files["ca"]))
    context.load_cert_chain(files["cert"], files["key"])
    with (
        running_gateway(served, tmp_path / "gateway.log") as gateway,
        httpx.Client(verify=context, trust_env=False) as keda,
    ):
        answer = keda.get(
            f"https://127.0.0.1:{urlsplit(gateway.url).port}{url.path}",
            headers={"authorization": f"Bearer {files['token'].read_text()}"},
            extensions={"sni_hostname": url.hostname},
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()[trigger["valueLocation"]] == 0


def test_keda_takes_an_authority_of_prometheus_with_a_client_certificate_or_a_token(
    all_rendered: dict[str, Rendered],
) -> None:
    """It reads `ca` only where `authModes` has something; `tls` wants `cert` and `key` too.

    Source: https://github.com/kedacore/keda/blob/v2.18.0/pkg/scalers/prometheus_scaler.go
    """
    trigger, parameters = asked(all_rendered["prometheus"])
    assert trigger["authModes"] == "tls"
    assert parameters == {
        "ca": ("private", "ca.crt"),
        "cert": ("private", "tls.crt"),
        "key": ("private", "tls.key"),
    }
    trigger, parameters = asked(all_rendered["prometheus with a token"])
    assert trigger["authModes"] == "bearer"
    assert parameters == {
        "bearerToken": ("thanos", "token"),
        "ca": ("private", "service-ca.crt"),
    }


def test_a_prometheus_of_a_public_authority_needs_no_secret(
    all_rendered: dict[str, Rendered],
) -> None:
    rendered = all_rendered["prometheus of a public CA"]
    (trigger,) = rendered.of("ScaledObject")["spec"]["triggers"]
    assert "authenticationRef" not in trigger
    assert "TriggerAuthentication" not in {each["kind"] for each in rendered.manifests}
