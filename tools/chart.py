"""What the Helm chart has from elsewhere: `python -m tools.chart --write`.

The alerts and the dashboard are those of `deploy/prometheus` and `deploy/grafana`; which settings
there are, and what each may be, the settings tell. All else of the chart is written by hand.

Without `--write` nothing is changed, and the exit code is 1 where a file is stale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from worker.gateway_settings import GatewaySettings
from worker.settings import LedgerSettings, Settings, environment_names

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "deploy" / "helm" / "trainmaster"
SCHEMA: Final = CHART / "values.schema.json"
STALE: Final = 1

# What templates set themselves, from values of their own. Secrets are files, and no values.
_OF_THE_TEMPLATES: Final = frozenset({
    "redis_url",
    "health_file",
    "encord_domain",
    "encord_ssh_key_file",
    "encord_ssh_key",
    "encord_ssh_key_passphrase",
    "bearer_token",
    "data_roots",
    "result_store",
    "http",
    "integrations_file",
    "gateway_host",
    "gateway_port",
    "gateway_tls_cert_file",
    "gateway_tls_key_file",
    "gateway_folder",
    "gateway_data_roots",
})
_COPIES: Final = {
    CHART / "files" / "alerts.yaml": ROOT / "deploy" / "prometheus" / "alerts.yaml",
    CHART / "files" / "dashboard.json": ROOT / "deploy" / "grafana" / "trainmaster.json",
}
# A gateway serves one namespace, and probes ask one process: partitions are releases of their own.
_ONE_NAMESPACE: Final = {
    "pattern": "^[A-Za-z0-9._-]{1,64}$",
    "description": "First part of every key. Install one release for each partition.",
}
_KEPT: Final = ("type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "minLength")


def settings_schema(
    settings_class: type[LedgerSettings], without: type[LedgerSettings] | None = None
) -> dict[str, Any]:
    """Returns the JSON schema of values that are settings, by their variables.

    Args:
        settings_class: whose settings.
        without: whose are left out.
    """
    left_out = _OF_THE_TEMPLATES | (set() if without is None else without.model_fields.keys())
    names = environment_names(settings_class)
    found = settings_class.model_json_schema(by_alias=False)["properties"]
    found["namespace"] |= _ONE_NAMESPACE
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            names[field]: _value_schema(found[field]) for field in names if field not in left_out
        },
    }


def _value_schema(field: dict[str, Any]) -> dict[str, Any]:
    told = next((each for each in field.get("anyOf", []) if each["type"] != "null"), field)
    schema = {name: told[name] for name in _KEPT if name in told}
    if schema["type"] == "array":
        # A variable holds several in one text.
        schema = {"type": "string"}
    return {**schema, "description": field["description"]}


def rendered() -> dict[Path, str]:
    """Returns the text of each file that is made."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    schema["definitions"] |= {
        "settings": settings_schema(LedgerSettings),
        "workerSettings": settings_schema(Settings, without=LedgerSettings),
        "gatewaySettings": settings_schema(GatewaySettings, without=LedgerSettings),
    }
    return {
        SCHEMA: json.dumps(schema, indent=2) + "\n",
        **{copy: source.read_text("utf-8") for copy, source in _COPIES.items()},
    }


@click.command()
@click.option("--write", is_flag=True, help="Write the files that are stale.")
def main(*, write: bool) -> None:
    """Bring the chart up to what the rest of the project says."""
    stale = {
        path: text
        for path, text in rendered().items()
        if not path.exists() or path.read_text("utf-8") != text
    }
    for path, text in stale.items():
        click.echo(f"{path.relative_to(ROOT)}: {'written' if write else 'stale'}")
        if write:
            path.write_text(text, "utf-8")
    if stale and not write:
        raise SystemExit(STALE)


if __name__ == "__main__":
    main()
