"""What a real worker does, as it is watched: commands, trainings, backfills, deliveries."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect

from tests.gateway_process import serving_gateway
from tests.integration.creations import train_data
from tests.integration.webhooks.posting import FOR_EACH, HEAD, SECRET, signed, submitted
from tests.sandbox_process import SIMULATED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.console import Served
    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.page.browser import Desk

LOST: Final[dict[str, Any]] = {"effect": "commit_then_fail", "status": 502, "count": 1}
# A training is in no list while it runs.
HIDDEN: Final[dict[str, Any]] = {**SIMULATED, "seconds": 600}
FOUND: Final = {
    "boundingBox": {"x": 0.25, "y": 0.5, "w": 0.5, "h": 0.25},
    "color": "#d33115",
    "confidence": 0.9,
    "createdAt": "2026-11-27T20:23:48Z",
    "createdBy": "a model",
    "featureId": "6MQ3JWZn",
    "manualAnnotation": False,
    "name": "car",
    "objectId": "a",
    "value": "car",
}
ITEMS: Final = 6
QUICK: Final = 2


@pytest.fixture(scope="module")
def page_namespace() -> str:
    """That of the run's worker."""
    return "served"


@pytest.fixture(scope="module")
def page_gateway(
    system: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayServer]:
    """A gateway that keeps manifests where the worker reads them, and takes deliveries."""
    folder = tmp_path_factory.mktemp("page")
    file = folder / "integrations.toml"
    file.write_text(HEAD + FOR_EACH)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ENCORD_WEBHOOK_SECRET", SECRET)
        with serving_gateway(
            redis_url=system.console.environment["TRAINMASTER_REDIS_URL"],
            namespace=system.console.namespace,
            gateway_folder=folder / "gateway",
            gateway_uploads=str(system.data),
            gateway_data_roots=str(system.data),
            gateway_docs_url="https://docs.example/tm/",
            integrations_file=file,
        ) as gateway:
            yield gateway


def send(gateway: GatewayServer, command_type: str, data: dict[str, Any], **attributes: Any) -> str:
    """Sends a command under an id of its own."""
    command_id = f"{command_type}-{uuid.uuid4().hex[:8]}"
    command = {"type": command_type, "data": data, "id": command_id, **attributes}
    gateway.http.post("/v1/commands", json=command).raise_for_status()
    return command_id


def test_a_training_is_watched_from_its_start_to_its_end(desk: Desk, served: Served) -> None:
    served.sandbox.faults({**SIMULATED, "seconds": 2})
    model = served.sandbox.create_model()
    sent = send(desk.gateway, "train", train_data(served.sandbox, model), correlationid="watched")
    desk.refused = {sent}  # Until a worker has read it there are no events of it.
    page = desk.go(f"#/commands/{sent}")
    steps = page.locator(".timeline .state")
    expect(steps).to_have_text(["accepted", "started", "succeeded"])
    expect(page.get_by_role("region", name="Its result")).to_contain_text("training_uuid")
    expect(page.get_by_role("region", name="Its data")).to_contain_text(model)
    expect(page.get_by_role("link", name="watched")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel…")).to_have_count(0)
    expect(page.get_by_text("the training runs at the API")).to_be_visible()
    assert desk.violations() == []


def test_a_backfill_is_watched_from_its_start_to_its_report(desk: Desk, served: Served) -> None:
    sandbox = served.sandbox
    predict = {"operation": "predict_object_detection", "effect": "status"}
    # What a detector would find, which would have to be trained first.
    answer = {**predict, "status": 200, "body": {"result": {"0": [FOUND]}}}
    later = {**predict, "status": 429, "headers": {"retry-after": "1"}}
    sandbox.faults({**answer, "count": QUICK}, later)
    name = f"night-{uuid.uuid4().hex[:8]}"
    pictures = [each for each in sandbox.items() if each["file"].endswith(".png")][:ITEMS]
    for each in pictures:
        (served.data / f"{each['data_uuid']}.png").write_bytes(Path(each["file"]).read_bytes())
    rows = [f"{served.data}/{each['data_uuid']}.png" for each in pictures]
    page = desk.go("#/backfills")
    asked = {
        "id": name,
        "task": "object_detection",
        "project_uuid": sandbox.project()["project_uuid"],
        **{each: str(uuid.uuid4()) for each in ("project_model_uuid", "training_uuid")},
    }
    manifest = "\n".join(["data_path", *rows])
    desk.gateway.http.post(
        "/v1/backfills", params=asked, content=manifest, headers={"content-type": "text/csv"}
    ).raise_for_status()
    row = page.get_by_role("row").filter(has_text=name)
    # Nobody loads the page anew.
    expect(row).to_contain_text("running")
    row.get_by_role("link", name=name).click()
    state = page.locator(".view-acts .state")
    expect(page.get_by_text(f"{QUICK} of {ITEMS}")).to_be_visible()
    expect(state).to_have_text("running")
    sandbox.faults(answer)
    expect(state).to_have_text("succeeded")
    expect(page.get_by_text(f"{ITEMS} of {ITEMS}")).to_be_visible()
    page.get_by_role("button", name="Show the report").click()
    expect(page.locator(".report").get_by_text(name).first).to_be_visible()
    page.get_by_role("combobox", name="Part").select_option(index=1)
    found = page.get_by_role("region", name="What was found, item by item")
    found.locator("img[src^='blob:']").wait_for()
    expect(found.get_by_role("row", name="car 90 %")).to_be_visible()
    assert desk.violations() == []
    # Its command tells the same, and leads here; what it was sent with is forgotten by now.
    desk.refused = {f"{name}/message"}
    page.get_by_role("link", name="its command").click()
    expect(page.locator(".timeline .state").last).to_have_text("succeeded")
    page.get_by_role("link", name="Its progress, failures, report and files").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_delivery_is_watched_until_its_command_has_ended(desk: Desk, served: Served) -> None:
    model = served.sandbox.create_model()
    uid = f"task-{uuid.uuid4().hex[:8]}"
    page = desk.go("#/webhooks")
    post = signed(submitted(uid, data=[model]))
    head = {name.decode(): value.decode() for name, value in post.headers}
    del head["authorization"]
    answer = desk.gateway.http.post("/v1/webhooks/encord", content=post.body, headers=head)
    answer.raise_for_status()
    page.get_by_role("link", name=uid, exact=True).click()
    rules = page.get_by_role("table", name="What each rule made of it").locator("tbody tr")
    expect(rules).to_contain_text("submitted")
    desk.refused = {"/v1/commands/"}  # Until the worker has read it.
    rules.get_by_role("link").click()
    expect(page.locator(".timeline .state")).to_have_text(["accepted", "succeeded"])
    expect(page.get_by_role("region", name="Its result")).to_contain_text(model)
    page.go_back()
    desk.gateway.http.post("/v1/webhooks/encord", content=post.body, headers=head)
    expect(rules).to_have_count(1)
    # One that is forged makes nothing, and says so to who sent it.
    head["X-Encord-Signature"] = "0" * 64
    forged = desk.gateway.http.post("/v1/webhooks/encord", content=post.body, headers=head)
    assert forged.status_code == 401


def test_why_one_failed_is_told_and_it_is_sent_again_changed(desk: Desk, served: Served) -> None:
    wrong, right = str(uuid.uuid4()), served.sandbox.create_model()
    sent = send(desk.gateway, "get_model", {"model_uuid": wrong})
    page = desk.go("#/commands?state=failed&type=get_model")
    # One click to the reason, two to send it again.
    page.get_by_role("link", name=sent).click()
    why = page.get_by_role("region", name="Why it ended, and what to do")
    expect(why).to_contain_text("not_found")
    expect(why).to_contain_text("HTTP 404")
    expect(why).to_contain_text("Look whether the ids in its data exist at Encord")
    more = why.get_by_role("link", name="Dead letters")
    expect(more).to_have_attribute("href", "https://docs.example/tm/operations.md#dead-letters")
    page.get_by_role("button", name="Send again…").click()
    dialog = page.get_by_role("dialog", name="Send again")
    data = dialog.get_by_label("Its data, as JSON")
    expect(data).to_have_value(f'{{\n  "model_uuid": "{wrong}"\n}}')
    assert desk.violations() == []
    data.fill("{")
    expect(dialog.get_by_role("alert")).to_contain_text("This is no JSON")
    expect(dialog.get_by_role("button", name="Send again")).to_be_disabled()
    desk.refused = {f"/v1/commands/{sent}/replay"}
    data.fill('{"model_uuid": 7}')
    dialog.get_by_role("button", name="Send again").click()
    expect(dialog.get_by_role("alert")).to_contain_text("data.model_uuid")
    data.fill(f'{{"model_uuid": "{right}"}}')
    desk.refused = {"/v1/commands/"}  # The new one, until a worker has read it.
    dialog.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("link", name=sent)).to_be_visible()
    expect(page.locator(".timeline .state").last).to_have_text("succeeded")


def test_one_that_waits_is_cancelled(desk: Desk, served: Served) -> None:
    served.sandbox.faults(HIDDEN)
    model = served.sandbox.create_model()
    sent = send(desk.gateway, "train", train_data(served.sandbox, model))
    desk.refused = {sent}
    page = desk.go(f"#/commands/{sent}")
    expect(page.locator(".timeline .state").nth(1)).to_have_text("started")
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the command").click()
    expect(page.locator(".timeline .state").last).to_have_text("cancelled")
    expect(page.locator(".notice")).to_contain_text("Cancelled. At the API goes on: training_uuid")


def test_a_doubt_is_settled_by_who_looked(desk: Desk, served: Served) -> None:
    served.sandbox.faults(HIDDEN, {**LOST, "operation": "create_training_job"})
    before = {each["training_uuid"] for each in served.sandbox.truth()["created"]["trainings"]}
    model = served.sandbox.create_model()
    sent = send(desk.gateway, "train", train_data(served.sandbox, model))
    desk.refused = {sent}
    page = desk.go(f"#/commands/{sent}")
    page.get_by_role("button", name="Settle the doubt").click()
    (created,) = {
        each["training_uuid"] for each in served.sandbox.truth()["created"]["trainings"]
    } - before
    dialog = page.get_by_role("dialog", name="Settle the doubt")
    dialog.get_by_label("It was created").check()
    dialog.get_by_label("Its uuid at Encord").fill(created)
    assert desk.violations() == []
    dialog.get_by_role("button", name="Settle").click()
    expect(page.locator(".timeline .state")).to_have_text([
        "accepted",
        "in doubt",
        "resolved",
        "started",
        "polling",
    ])
    expect(page.locator(".timeline")).to_contain_text(created)
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the command").click()
    expect(page.locator(".timeline .state").last).to_have_text("cancelled")


def test_an_id_that_nothing_has_is_said_to_be_unknown(desk: Desk) -> None:
    desk.refused = {"/v1/commands/nobody"}
    page = desk.go("#/commands/nobody%2Fat%20all")
    expect(page.get_by_role("heading", level=1)).to_have_text("nobody/at all")
    expect(page.get_by_text("No command has this id")).to_be_visible()


@pytest.mark.usefixtures("served")
def test_the_workers_tell_of_themselves(desk: Desk) -> None:
    page = desk.go("#/now")
    row = page.get_by_role("table", name="Workers").locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("working")
    expect(row).to_contain_text("Python 3.")


SPANS: Final = """
told => import('./page/lib/timeline.js').then(({ steps, spans }) => {
  const at = (seconds) => new Date(seconds * 1000).toISOString();
  const events = told.map(([state, seconds, data], number) => {
    const retry_at = data?.retry && at(data.retry);
    const event = { id: String(number), type: `train.${state}`, time: at(seconds) };
    return { ...event, data: { ...data, retry_at } };
  });
  const all = steps(events);
  const between = spans(all, 100_000).map(({ kind, seconds }) => [kind, seconds]);
  return [all.map(({ times }) => times), between];
})
"""


def test_a_timeline_tells_what_each_attempt_waited_and_ran(desk: Desk) -> None:
    told: list[Any] = [
        *(("accepted", 0), ("retrying", 2, {"attempt": 1, "retry": 5})),
        *(("retrying", 9, {"attempt": 2, "retry": 30}), ("in_doubt", 20), ("started", 30)),
        *(("progressed", 40), ("progressed", 45), ("progressed", 50)),
    ]
    begun = [["run", 2], ["wait", 3], ["run", 4], ["wait", 11], ["doubt", 10], ["train", 20]]
    # The second retry came before its time: somebody has released a hold.
    page = desk.go()
    assert page.evaluate(SPANS, told) == [[1, 1, 1, 1, 1, 3], [*begun, ["run", 50]]]
    told.append(("succeeded", 60))
    assert page.evaluate(SPANS, told) == [[1, 1, 1, 1, 1, 3, 1], [*begun, ["run", 10]]]
