"""`#/trainings` and predictions drawn: what commands came to, as pictures, curves and tables."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import pytest
from PIL import Image
from playwright.sync_api import expect

from schemas.predictions import PredictResult
from tests.gateway_process import serving_gateway
from tests.integration.gateway.page.browser import PHONE, accept_all, at_desk
from tests.integration.gateway.page.ends import succeed
from tests.integration.ledger_acts import TRAIN
from worker.gateway.access.tokens import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.embedded import EmbeddedRedis

OTHER_MODEL: Final = str(uuid.UUID(int=7))
WIDTH: Final = 200
HEIGHT: Final = 100
FOUND: Final = {
    "color": "#d33115",
    "created_at": "2026-11-27T20:23:48Z",
    "created_by": "a model",
    "feature_id": "6MQ3JWZn",
    "manual_annotation": False,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the gateway may read, with a picture and a clip of three frames."""
    folder = tmp_path_factory.mktemp("pictures")
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "green", "blue")]
    frames[0].save(folder / "one.png")
    frames[0].save(folder / "clip.gif", save_all=True, append_images=frames[1:])
    return folder


@pytest.fixture(scope="module")
def page_gateway(
    redis_server: EmbeddedRedis,
    page_namespace: str,
    pictures: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayServer]:
    """A gateway that may read pictures."""
    with serving_gateway(
        redis_url=redis_server.url,
        namespace=page_namespace,
        gateway_folder=tmp_path_factory.mktemp("page") / "gateway",
        gateway_data_roots=str(pictures),
    ) as gateway:
        yield gateway


def box(name: str, confidence: float, x: float, y: float, w: float, h: float) -> dict[str, Any]:
    place = {"x": x, "y": y, "w": w, "h": h}
    return {**found(name, confidence), "bounding_box": place}


def found(name: str, confidence: float) -> dict[str, Any]:
    return {
        **FOUND,
        "name": name,
        "value": name,
        "confidence": confidence,
        "object_id": uuid.uuid4().hex[:8],
    }


def predicted(
    backstage: Backstage, frames: dict[str, Any], task: str = "object_detection", **source: str
) -> str:
    """Has a prediction succeed; returns its id."""
    result = {"frames": frames}
    # What is drawn here is what the contract says of predictions.
    PredictResult.model_validate(result)
    command_id = f"predict-{uuid.uuid4().hex[:8]}"
    data = {
        "task": task,
        "project_uuid": OTHER_MODEL,
        "project_model_uuid": OTHER_MODEL,
        "training_uuid": OTHER_MODEL,
        **source,
    }
    succeed(backstage, {"type": "predict", "id": command_id, "data": data}, result)
    return command_id


def places(shapes: Locator) -> list[dict[str, float]]:
    """Returns where rectangles lie, in pixels of the picture."""
    names = ("x", "y", "width", "height")
    return [
        {name: float(each.get_attribute(name) or "nan") for name in names} for each in shapes.all()
    ]


def test_boxes_are_drawn_over_the_picture_and_chosen_in_the_table(
    desk: Desk, backstage: Backstage, pictures: Path
) -> None:
    boxes = [box("car", 0.9, 0.25, 0.5, 0.5, 0.25), box("tree", 0.4, 0, 0, 0.1, 0.2)]
    sent = predicted(backstage, {"0": boxes}, data_path=str(pictures / "one.png"))
    page = desk.go(f"#/commands/{sent}")
    card = page.get_by_role("region", name="What was found")
    # Not before the picture is there: its shape is that of the drawing.
    card.locator("img[src^='blob:']").wait_for()
    expect(card.locator("svg[role=img]")).to_have_attribute("viewBox", f"0 0 {WIDTH} {HEIGHT}")
    outlines = card.locator(".shape rect[stroke='#d33115']")
    expect(outlines).to_have_count(2)
    # The surest is drawn last, over the others.
    assert places(outlines) == [
        {"x": 0, "y": 0, "width": 20, "height": 20},
        {"x": 50, "y": 50, "width": 100, "height": 25},
    ]
    rows = card.locator("tbody tr")
    expect(rows.first).to_contain_text("car")
    expect(rows.first).to_contain_text("90 %")
    expect(rows.first).to_contain_text("left 25, top 50, 50 wide, 25 high")
    card.get_by_role("button", name="tree").focus()
    expect(card.locator(".shape.is-chosen title")).to_have_text("tree, 40 %")
    expect(card.get_by_role("button", name="tree")).to_have_attribute("aria-pressed", "true")
    assert desk.violations() == []
    card.get_by_label("Confidence at least").fill("0.5")
    expect(rows).to_have_count(1)
    expect(outlines).to_have_count(1)
    expect(card.get_by_role("img")).to_have_accessible_name("The picture, frame 0: car")
    card.get_by_label("Confidence at least").fill("0.95")
    expect(card.get_by_text("All that was found is less sure than that.")).to_be_visible()


def test_a_clip_is_gone_through_frame_by_frame_by_keyboard(
    desk: Desk, backstage: Backstage, pictures: Path
) -> None:
    corners = [{"x": 0.1, "y": 0.1}, {"x": 0.6, "y": 0.2}, {"x": 0.3, "y": 0.9}]
    frames = {
        "0": [],
        "1": [{**found("kite", 0.8), "polygon": corners}],
        "2": [
            {**found("kite", 0.7), "polygon": corners},
            {**found("bird", 0.6), "polygon": corners},
        ],
    }
    source = str(pictures / "clip.gif")
    sent = predicted(backstage, frames, "instance_segmentation", data_path=source)
    page = desk.go(f"#/commands/{sent}")
    card = page.get_by_role("region", name="What was found")
    expect(card.get_by_text("Nothing was found.")).to_be_visible()
    first = card.locator("img[src^='blob:']").get_attribute("src")
    card.get_by_role("group", name="The picture").focus()
    page.keyboard.press("ArrowRight")
    expect(card.locator(".shape polygon").last).to_have_attribute("points", "20,10 120,20 60,90")
    expect(card.locator(f"img[src='{first}']")).to_have_count(0)
    card.locator("img[src^='blob:']").wait_for()
    page.keyboard.press("End")
    expect(card.locator("tbody tr")).to_have_count(2)
    expect(card.get_by_text("(3 of 3)")).to_be_visible()
    expect(card.get_by_role("button", name="Next frame")).to_be_disabled()
    assert desk.violations() == []
    card.get_by_role("button", name="Frame before").click()
    expect(card.get_by_role("status")).to_have_text("Frame 1: 1 of 1 thing shown")


def test_without_a_picture_it_is_drawn_on_an_empty_canvas_and_said_why(
    desk: Desk, backstage: Backstage
) -> None:
    asked = desk.requests("/v1/commands/")

    def pictures() -> list[str]:
        return [each.url for each in asked if "/picture" in each.url]

    sent = predicted(backstage, {"0": [box("car", 0.9, 0, 0, 1, 1)]}, data_uuid=OTHER_MODEL)
    page = desk.go(f"#/commands/{sent}")
    card = page.get_by_role("region", name="What was found")
    expect(card).to_contain_text("the item lies at Encord")
    assert places(card.locator(".shape rect[stroke='#d33115']")) == [
        {"x": 0, "y": 0, "width": 1200, "height": 900}
    ]
    assert asked
    assert pictures() == []
    answer = {
        "classification_uuid": str(uuid.uuid4()),
        "confidence": 0.54,
        "created_at": FOUND["created_at"],
        "created_by": "a model",
        "feature_id_child": "a",
        "feature_id_parent": "b",
        "manual_annotation": False,
        "name": "weather",
        "value": "rainy",
    }
    outside = predicted(backstage, {"0": answer, "1": None}, "classification", data_path="/no.png")
    desk.refused = {"/picture"}
    page = desk.go(f"#/commands/{outside}")
    expect(card).to_contain_text("There is no picture: ")
    expect(card.locator(".canvas text")).to_have_text("rainy 54 %")
    card.get_by_role("button", name="Next frame").click()
    expect(card.get_by_text("Nothing was found.")).to_be_visible()
    # What can't be read for one frame is not asked for again for the next one.
    assert len(pictures()) == 1


def trained(backstage: Backstage, command_id: str, losses: dict[str, Any], **data: Any) -> None:
    iteration = {
        "training_uuid": str(uuid.uuid4()),
        "loss_log": losses,
        "epochs": len(losses),
        "batch_size": 8,
        "created_at": FOUND["created_at"],
        "duration": 61,
    }
    command = {**TRAIN, "id": command_id, "data": {**TRAIN["data"], **data}}
    result = {"training_uuid": iteration["training_uuid"], "iteration": iteration}
    succeed(backstage, command, result)


EPOCHS: Final = """
loss_log => import('./page/lib/losses.js').then(({ LossChart }) =>
  LossChart({ title: "Losses", trainings: [{ name: "one", iteration: { loss_log } }] }).props.x)
"""


def test_the_losses_of_a_model_are_compared_and_trainings_are_seen_as_they_come(
    desk: Desk, backstage: Backstage
) -> None:
    trained(backstage, "first", {"1": 2.0, "2": 1.5, "3": 1.25})
    trained(backstage, "second", {"1": 1.75, "2": 0.5})
    trained(backstage, "of-another", {"1": 9.0}, model_uuid=OTHER_MODEL)
    page = desk.go("#/trainings")
    rows = page.get_by_role("table", name="Trainings, newest first").locator("tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_label("Model").select_option(TRAIN["data"]["model_uuid"])
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("second")
    expect(rows.first).to_contain_text("0.500")
    losses = page.get_by_role("region", name="Losses")
    expect(losses.locator(".plot canvas")).to_have_count(1)
    expect(losses.locator(".legend li")).to_have_text(["second", "first"])
    losses.get_by_text("As a table").click()
    figures = losses.get_by_role("table").locator("tbody tr")
    expect(figures).to_have_text(["11.752.00", "20.5001.50", "3–1.25"])
    assert desk.violations() == []
    accept_all(backstage, "third", **TRAIN)
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("accepted")
    rows.filter(has_text="first").get_by_role("link", name="first").click()
    card = page.get_by_role("region", name="Its losses")
    expect(card).to_contain_text("1.25")
    expect(card).to_contain_text("1 min 1 s")
    card.get_by_role("link", name="Compare with the model's other trainings").click()
    expect(losses.locator(".legend li")).to_have_count(2)
    assert page.evaluate(EPOCHS, {"10": 1.0, "9": 2.0, "100": 3.0}) == [9, 10, 100]


def test_a_token_sees_the_views_of_its_types_and_a_phone_shows_them_whole(
    browser: Browser, page_gateway: GatewayServer, backstage: Backstage, pictures: Path
) -> None:
    boxes = [box("car", 0.9, 0.25, 0.5, 0.5, 0.25)]
    sent = predicted(backstage, {"0": boxes}, data_path=str(pictures / "one.png"))
    with at_desk(browser, page_gateway, viewport=PHONE, color_scheme="dark") as desk:
        desk.sign_in(backstage.token(Scope.READ, types=["predict", "train"], name="limited"))
        for address in (f"#/commands/{sent}", "#/trainings"):
            page = desk.go(address)
            expect(page.locator("tbody tr:visible").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
            assert desk.violations() == []
        names = page.get_by_role("navigation", name="Views").get_by_role("link").all_inner_texts()
        assert "Trainings" in names
        assert not {"Backfills", "Webhooks", "Sinks", "Who did what"} & set(names)


READ: Final = """
([frames, log]) => Promise.all([
  import('./page/lib/predictions.js'), import('./page/lib/losses.js'),
])
.then(([{ framesOf, cornerOf }, { lastLoss, curvesOf }]) => {
  const told = (each) => [each.name, cornerOf(each)];
  return [
    framesOf(frames).map(({ number, found }) => [number, found.map(told)]),
    lastLoss({ loss_log: log }),
    [...curvesOf(log)].map(([name, curve]) => [name, [...curve]]),
  ];
})
"""


def test_frames_and_losses_are_read_in_the_order_of_their_numbers(desk: Desk) -> None:
    # A test before it may have made a token.
    desk.refused.add("/v1/me")
    outline = {
        "name": "tree",
        "confidence": 0.3,
        "polygon": [{"x": 0.5, "y": 0.1}, {"x": 0.2, "y": 0.9}],
    }
    sure = {**box("car", 0.9, 0.25, 0.5, 0.5, 0.25)}
    frames = {"10": [outline, sure], "9": None, "x": [sure]}
    log = {"10": {"box": 0.5, "odd": "?"}, "9": {"box": 0.75}, "x": {"box": 9}}
    assert desk.go().evaluate(READ, [frames, log]) == [
        [[9, []], [10, [["car", {"x": 0.25, "y": 0.5}], ["tree", {"x": 0.2, "y": 0.1}]]]],
        0.5,
        [["box", [[9, 0.75], [10, 0.5]]]],
    ]
