"""The Grafana dashboard, made from the list below: `python -m tools.dashboard --write`.

Without `--write` nothing is changed, and the exit code is 1 where the file is stale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

FILE: Final = Path(__file__).parents[1] / "deploy" / "grafana" / "trainmaster.json"
STALE: Final = 1
_WIDTH: Final = 8
_HEIGHT: Final = 8
_COLUMNS: Final = 24 // _WIDTH
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        queries: each with its legend.
        unit: as Grafana calls it.
        kind: `timeseries` or `stat`.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    description: str = ""


def _rate(metric: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}[$__rate_interval]))"


def _quantile(metric: str, share: float, *by: str) -> str:
    labels = ", ".join((*by, "le"))
    return (
        f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))"
    )


PANELS: Final = (
    Panel(
        "Due now",
        (
            ("max by (lane) (trainmaster_due_now)", "{{lane}}"),
            ("max(trainmaster_worker_demand)", "demand"),
        ),
        description="Commands that could run now; the demand is what an autoscaler needs.",
    ),
    Panel("Open", (("max by (lane) (trainmaster_open)", "{{lane}}"),)),
    Panel(
        "Oldest due", (("max by (lane) (trainmaster_oldest_due_seconds)", "{{lane}}"),), unit="s"
    ),
    Panel(
        "Commands ended",
        ((_rate("trainmaster_commands_ended_total", "outcome"), "{{outcome}}"),),
        unit="ops",
    ),
    Panel(
        "Commands accepted",
        (
            ("sum(rate(trainmaster_commands_accepted_total[$__rate_interval]))", "accepted"),
            ("sum(rate(trainmaster_commands_rejected_total[$__rate_interval]))", "rejected"),
        ),
        unit="ops",
    ),
    Panel(
        "Accept to success, p50 and p99",
        (
            (
                _quantile("trainmaster_command_duration_seconds", 0.5, "command_type"),
                "{{command_type}} p50",
            ),
            (
                _quantile("trainmaster_command_duration_seconds", 0.99, "command_type"),
                "{{command_type}} p99",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Where the time goes, p99",
        (
            (_quantile("trainmaster_command_waiting_seconds", 0.99, "lane"), "waits, {{lane}}"),
            (_quantile("trainmaster_api_turn_waiting_seconds", 0.99), "waits for the rate limit"),
            (_quantile("trainmaster_api_request_duration_seconds", 0.99), "the API"),
            (_quantile("trainmaster_settling_seconds", 0.99), "settling"),
        ),
        unit="s",
    ),
    Panel(
        "Requests to the API",
        (
            (
                _rate("trainmaster_api_requests_total", "operation", "status"),
                "{{operation}} {{status}}",
            ),
        ),
        unit="reqps",
    ),
    Panel(
        "Runs",
        ((_rate("trainmaster_runs_total", "outcome"), "{{outcome}}"),),
        unit="ops",
    ),
    Panel(
        "What keeps workers from claiming",
        (
            ("max by (lane) (trainmaster_lane_paused)", "{{lane}} paused"),
            ("max(trainmaster_hold_seconds)", "hold, s"),
            ("sum(trainmaster_breaker_open)", "breakers open"),
        ),
    ),
    Panel(
        "Dead letters",
        ((_rate("trainmaster_dead_letters_total", "code"), "{{code}}"),),
        unit="ops",
    ),
    Panel("Dead letters that wait", (("max(trainmaster_dead_letters_kept)", "dead letters"),)),
    Panel(
        "Slots in use",
        (("trainmaster_slots_used / trainmaster_slots", "{{instance}}"),),
        unit="percentunit",
    ),
    Panel(
        "Loop lag, p99",
        ((_quantile("trainmaster_loop_lag_seconds", 0.99, "instance"), "{{instance}}"),),
        unit="s",
    ),
    Panel(
        "Leases lost and Redis' outages",
        (
            ("sum(increase(trainmaster_leases_lost_total[$__rate_interval]))", "leases lost"),
            ("sum(increase(trainmaster_redis_outages_total[$__rate_interval]))", "outages"),
        ),
    ),
    Panel(
        "Trainings that have not ended",
        (("max by (state) (trainmaster_trainings_open)", "{{state}}"),),
        description="By their last event: `started` ones wait for the API.",
    ),
    Panel(
        "Polls late, p50 and p99",
        (
            (_quantile("trainmaster_poll_lateness_seconds", 0.5), "p50"),
            (_quantile("trainmaster_poll_lateness_seconds", 0.99), "p99"),
        ),
        unit="s",
    ),
    Panel("In doubt", (("max(trainmaster_in_doubt)", "commands"),)),
    Panel(
        "Backfills",
        (("max by (backfill, state) (trainmaster_backfill_items)", "{{backfill}} {{state}}"),),
    ),
    Panel(
        "Sinks behind",
        (("max by (sink) (trainmaster_sink_behind_seconds)", "{{sink}}"),),
        unit="s",
    ),
    Panel(
        "Webhook deliveries",
        (
            (
                # Every gateway tells the same.
                (
                    "max by (source, outcome) "
                    "(rate(trainmaster_webhook_deliveries_total[$__rate_interval]))"
                ),
                "{{source}} {{outcome}}",
            ),
        ),
        unit="ops",
    ),
)


def dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana imports it."""
    return {
        "title": "trainmaster",
        "uid": "trainmaster",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": _DATASOURCE,
        "gridPos": {
            "x": number % _COLUMNS * _WIDTH,
            "y": number // _COLUMNS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def rendered() -> str:
    """Returns the file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


@click.command()
@click.option("--write", is_flag=True, help="Write the file where it is stale.")
def main(*, write: bool) -> None:
    """Bring the dashboard up to what the code says."""
    text = rendered()
    if FILE.exists() and FILE.read_text("utf-8") == text:
        return
    click.echo(f"{FILE.name}: {'written' if write else 'stale'}")
    if not write:
        raise SystemExit(STALE)
    FILE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
