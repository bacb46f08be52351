"""The network in the page: what it answers is what PyTorch answers, digits are drawn, inverted, filled in and led into one
another as in Python, and nothing is fetched before a reader asks for it, nor from other sites."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

sys.path.append(str(Path(__file__).parents[1] / "docs"))
sys.path.extend(str(Path(__file__).parents[2] / folder) for folder in ("docs", "docs/live"))

import build_edition
import live
from lab import PATIENCE, served
from noise import noise

from diffnotes import load_pretrained
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.samplers import ddim_invert, ddim_sample, predict
from diffnotes.process.solvers import dpm_solver_sample, dpm_solver_step

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("edition")]  # in one process
YOURS, DRAW = "notebooks/08_ddim.html", "index.html"
HEAVY = ("model.onnx", "ort-wasm-simd-threaded.wasm")
# a wish to the worker, and the frames that it answers with
WISH = """async wish => {
    const worker = new Worker(new URL('_static/live/worker.js', document.baseURI), {type: 'module'}), frames = [];
    for (const name of ['x_t', 'x_0', 'a', 'b', 'image', 'mask']) if (wish[name]) wish[name] = Float32Array.from(wish[name]);
    await new Promise((over, failed) => {
        worker.onmessage = ({data}) => {
            if (data.frame) frames.push(Object.fromEntries(
                Object.entries(data.frame).map(([name, value]) => [name, value.length === undefined || typeof value === 'string'
                    ? value : Array.from(value)])));
            if (data.error) failed(new Error(data.error));
            if (data.done) over();
        };
        worker.onerror = event => failed(new Error(event.message));
        worker.postMessage({id: 1, ...wish});
    });
    worker.terminate();
    return frames;
}"""


# Of what the worker sends, the page hears the 31 frames up to the noise and the first one down; the rest only after letGo().
HELD = """
    const Real = Worker, kept = [];
    let room = 32;
    globalThis.letGo = () => { room = Infinity; kept.splice(0).forEach(go => go()); };
    globalThis.Worker = class extends Real {
        set onmessage(hear) {
            super.onmessage = event => {
                if (kept.length || (event.data.frame && room-- <= 0)) kept.push(() => hear(event)); else hear(event);
            };
        }
    };
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built site, in a folder of a server that has nothing but files. Without the runtime these tests are
    skipped, but on CI the site cannot be built then."""
    reason = live.missing()
    if reason and os.environ.get("CI") != "true":
        pytest.skip(f"{reason}: npm ci --prefix docs/live")
    html, _ = build_edition.edition(tmp_path_factory)
    root = tmp_path_factory.mktemp("server")
    (root / "book").symlink_to(html, target_is_directory=True)
    with served(root) as address:
        yield f"{address}book/"


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Opens a page; what it asks for is listed as it goes."""
    pages = []

    def open_one(name: str, script: str = "") -> tuple[Page, list[str]]:
        page = browser.new_page(viewport={"width": 1366, "height": 900})
        pages.append(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(site + name, timeout=PATIENCE)
        page.locator("[data-live] button").first.wait_for(timeout=PATIENCE)
        return page, asked

    yield open_one
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def network() -> tuple[Any, Any]:
    return load_pretrained("mnist-small")


def frames(page: Page, **wish: Any) -> list[dict[str, Any]]:
    return page.evaluate(WISH, wish)


def images(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 28, 28)


def test_the_noise_is_the_same_on_both_sides(visit):
    page, _ = visit(DRAW)
    script = "import(new URL('_static/live/noise.js', document.baseURI)).then(({noise}) => Array.from(noise(12, 3)))"
    drawn = np.array(page.evaluate(script), dtype=np.float32).reshape(3, 784)
    assert np.abs(drawn - noise(12, 3)).max() < 1e-6
    many = noise(5, 64)
    assert abs(many.mean()) < 4 / np.sqrt(many.size) and abs(many.var() - 1) < 4 * np.sqrt(2 / many.size)
    assert np.abs(np.corrcoef(many) - np.eye(64)).max() < 0.16  # 4.5 standard errors, of 2,016 pairs


def test_the_network_answers_as_pytorch_does(visit, network):
    page, _ = visit(DRAW)
    x, y = noise(3, 4), [0, 7, 10, 3]
    (answer,) = frames(page, kind="compare", x_t=x.ravel().tolist(), t=400, y=y)
    expected = network[0](torch.from_numpy(x).view(-1, 1, 28, 28), torch.full((4,), 400), torch.tensor(y))
    assert (images(answer["v"]) - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("solver", "sampler"), [("dpm++", dpm_solver_sample), ("ddim", ddim_sample)])
def test_the_digits_are_those_that_python_draws(visit, network, solver: str, sampler: Callable):
    page, _ = visit(DRAW)
    labels = [2, 0, 6]
    drawn = frames(page, kind="draw", seed=4, labels=labels, solver=solver, steps=6, scale=2)
    model, schedule = network
    x_T = torch.from_numpy(noise(4, 3)).view(-1, 1, 28, 28)
    expected = list(sampler(ClassifierFreeGuidance(model, 2.0), schedule, x_T, steps=6, y=torch.tensor(labels)))
    assert [frame["t"] for frame in drawn] == [frame.t for frame in expected]
    assert (images(drawn[-1]["x_t"]) - expected[-1].x_t).abs().max() < 1e-3
    assert (images(drawn[3]["x0_hat"]) - expected[3].x0_hat).abs().max() < 1e-3


def test_the_fresh_noise_of_ddpm_is_that_of_python(visit, network):
    page, _ = visit(DRAW)
    seed, y = 2, torch.tensor([2, 0, 6])
    drawn = frames(page, kind="draw", seed=seed, labels=y.tolist(), solver="ddpm", steps=6, scale=1)
    model, schedule = network
    x, times = torch.from_numpy(noise(seed, 3)).view(-1, 1, 28, 28), [frame["t"] for frame in drawn]
    for k, (t, s) in enumerate(pairwise(times)):
        x0_hat, _ = predict(model, schedule, x, t, y)
        fresh = torch.from_numpy(noise(1000 * (seed + 1) + k, 3)).view_as(x)
        x = dpm_solver_step(schedule, x0_hat, x, t, s, fresh, eta=1)
        assert (images(drawn[k + 1]["x_t"]) - x).abs().max() < 1e-3


def test_the_inversion_is_that_of_python(visit, network):
    page, _ = visit(DRAW)
    model, schedule = network
    x_0 = list(dpm_solver_sample(model, schedule, images(noise(9, 1).ravel()), steps=8, y=torch.tensor([5])))[-1].x_t
    there = frames(page, kind="back", image=x_0.ravel().tolist(), label=10, steps=20, scale=1)
    expected = list(ddim_invert(model, schedule, x_0, steps=20))[-1].x_t
    up = [frame for frame in there if frame["row"] == "up"]
    assert up[-1]["t"] == 1000 and (images(up[-1]["x_t"]) - expected).abs().max() < 1e-2
    assert (images(there[-1]["x_t"]) - x_0).abs().mean() < 0.1  # and down again, near where it came from


@pytest.fixture(scope="module")
def slerp() -> Callable[..., torch.Tensor]:
    """(8.15) as chapter 8 has it."""
    chapter = nbformat.read(Path(__file__).parents[2] / "notebooks" / "08_ddim.ipynb", as_version=4)
    (code,) = (cell.source for cell in chapter.cells if cell.cell_type == "code" and "def slerp(" in cell.source)
    space: dict[str, Any] = {"torch": torch}
    exec(code.partition("\n\n\n")[0], space)
    return space["slerp"]


def test_the_path_between_two_noises_is_that_of_the_chapter(visit, slerp):
    page, _ = visit(DRAW)
    a, b = noise(6, 2)
    b = 0.6 * b + 0.3 * a  # of another length, and at another angle
    points = [0, 0.125, 0.5, 0.9, 1]
    script = """([a, b, points]) => import(new URL('_static/live/sampler.js', document.baseURI)).then(({slerp}) =>
        points.map(u => Array.from(slerp(Float32Array.from(a), Float32Array.from(b), u))))"""
    found = page.evaluate(script, [a.tolist(), b.tolist(), points])
    expected = [slerp(torch.from_numpy(a), torch.from_numpy(b), torch.tensor(u)) for u in points]
    assert (torch.tensor(found) - torch.stack(expected)).abs().max() < 1e-5
    assert (torch.tensor(found[0]) - torch.from_numpy(a)).abs().max() < 1e-6
    (same,) = page.evaluate(script, [a.tolist(), a.tolist(), [0.3]])  # no angle between them
    assert (torch.tensor(same) - torch.from_numpy(a)).abs().max() < 1e-6


def test_what_lies_between_two_digits_is_what_python_draws(visit, network, slerp):
    page, _ = visit(DRAW)
    model, schedule = network
    both = list(dpm_solver_sample(model, schedule, images(noise(9, 2).ravel()), steps=8, y=torch.tensor([5, 6])))[
        -1
    ].x_t
    up = frames(page, kind="upward", x_0=both.ravel().tolist(), steps=20)
    expected = list(ddim_invert(model, schedule, both, steps=20))[-1].x_t
    ends = images(up[-1]["x_t"])
    assert [frame["t"] for frame in up] == sorted(frame["t"] for frame in up) and up[-1]["t"] == 1000
    assert (ends - expected).abs().max() < 1e-2
    points = [0, 0.25, 0.5, 1]
    drawn = frames(page, kind="between", a=ends[0].ravel().tolist(), b=ends[1].ravel().tolist(), us=points, steps=20)
    path = torch.stack([slerp(*ends, torch.tensor(u)) for u in points])
    assert (images(drawn[0]["x_t"]) - path).abs().max() < 1e-5
    below = list(ddim_sample(model, schedule, path, steps=20))[-1].x_t
    assert (images(drawn[-1]["x_t"]) - below).abs().max() < 1e-3
    assert (images(drawn[-1]["x_t"])[[0, -1]] - both).abs().mean() < 0.1  # at its ends, near the digits it came from


def test_what_was_not_erased_stays(visit):
    page, _ = visit(DRAW)
    image, mask = np.full(784, -1.0), np.ones(784)
    mask.reshape(28, 28)[:, 14:] = 0
    filled = frames(page, kind="fill", image=image.tolist(), mask=mask.tolist(), label=7, steps=10, scale=2, seed=1)
    result = np.array(filled[-1]["x_t"])
    assert np.abs(result - image)[mask == 1].max() < 1e-6
    assert result[mask == 0].max() > 0.5  # something was drawn there


def test_a_reader_draws_digits_and_looks_at_the_steps(visit, site: str):
    page, asked = visit(DRAW)
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if url.endswith(HEAVY)] == []  # not before it is wanted
    box = page.locator("[data-live=draw]")
    box.get_by_role("textbox", name="Digits").fill("31415")
    box.get_by_role("button", name="Draw", exact=True).click()
    box.get_by_text("3 1 4 1 5, drawn from noise 1 in 6 steps").wait_for(timeout=PATIENCE)
    print(f"press to digits, the fetching included: {box.get_attribute('data-seconds')} s")
    assert {url.rpartition("/")[2] for url in asked} >= set(HEAVY)
    assert [url for url in asked if not url.startswith((site, "data:"))] == []
    canvas, film = box.locator("canvas"), box.get_by_role("slider", name="Back through the steps")
    assert canvas.evaluate("canvas => [canvas.width, canvas.height]") == [5 * 28, 2 * 28]
    last = canvas.evaluate("canvas => canvas.toDataURL()")
    film.focus()
    page.keyboard.press("Home")
    assert re.search(r"at t = 9\d\d:", canvas.get_attribute("aria-label"))
    assert canvas.evaluate("canvas => canvas.toDataURL()") != last
    page.keyboard.press("End")
    assert canvas.evaluate("canvas => canvas.toDataURL()") == last


def test_a_reader_draws_a_digit_sends_it_to_noise_and_rubs_a_part_out(visit):
    page, _ = visit(YOURS)
    box = page.locator("[data-live=yours]")
    box.scroll_into_view_if_needed()
    pad, made = box.locator("canvas").nth(0), box.locator("canvas").nth(1)
    box.get_by_role("button", name="Clear").click()
    empty = pad.evaluate("canvas => canvas.toDataURL()")
    area = pad.bounding_box()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 5)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] * 4 / 5, steps=8)
    page.mouse.up()
    assert pad.evaluate("canvas => canvas.toDataURL()") != empty
    box.get_by_role("button", name="To noise and back").click()
    box.get_by_text("To the noise that leads to it").wait_for(timeout=PATIENCE)
    assert "Left, the noise" in made.get_attribute("aria-label")
    box.get_by_role("button", name="Fill in").click()
    box.get_by_text("rub out a part").wait_for(timeout=PATIENCE)
    box.get_by_label("Tool").select_option("eraser")
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    box.get_by_role("button", name="Fill in").click()
    box.get_by_text("The grey part is drawn anew").wait_for(timeout=PATIENCE)


def test_a_reader_goes_from_one_digit_to_another_by_keyboard(visit):
    page, asked = visit(YOURS, script=HELD)
    box = page.locator("[data-live=between]")
    box.scroll_into_view_if_needed()
    go, stop, u = (box.get_by_role(role, name=name) for role, name in (
        ("button", "To noise, and between"), ("button", "Stop"), ("slider", "u, from a to b")))  # fmt: skip
    pad, row, one = (
        box.locator(".live-pad").nth(1),
        box.locator(".live-panel > canvas").nth(0),
        box.locator(".live-one"),
    )
    held = "button => button === document.activeElement"
    assert u.is_disabled() and stop.is_disabled()
    go.focus()
    page.keyboard.press("Enter")
    stop.focus()
    box.get_by_text("Down from all points").wait_for(timeout=PATIENCE)
    assert stop.evaluate(held)  # through the turn from up to down
    assert box.locator(".live-status").get_attribute("aria-live") == "off"  # of the steps, none is read out
    page.keyboard.press("Enter")
    box.get_by_text("Stopped.", exact=True).wait_for(timeout=PATIENCE)
    shown = row.evaluate("canvas => canvas.toDataURL()")
    page.evaluate("letGo()")  # what was under way when it stopped changes nothing
    assert (
        row.evaluate("canvas => canvas.toDataURL()") == shown and box.get_by_text("Stopped.", exact=True).is_visible()
    )
    assert u.is_disabled() and go.evaluate(held)
    box.get_by_role("group", name="Digit b").get_by_role("combobox").select_option("3")  # by the network
    box.get_by_text("Digit b was drawn by the network").wait_for(timeout=PATIENCE)
    page.keyboard.press("Shift+Tab")
    go.press("Enter")
    stop.focus()
    box.get_by_text("Move u").wait_for(timeout=PATIENCE)
    assert go.evaluate(held)  # a walk that is over has nothing to stop
    assert box.locator(".live-status").get_attribute("aria-live") == "polite"
    assert row.evaluate("canvas => [canvas.width, canvas.height]") == [9 * 28, 2 * 28]
    assert "Nine digits from a to b" in row.get_attribute("aria-label")
    u.focus()
    heavy = len(asked)
    seen = {one.evaluate("canvas => canvas.toDataURL()")}
    page.keyboard.press("ArrowRight")
    box.get_by_text("u = 0.525: left").wait_for(timeout=PATIENCE)
    seen.add(one.evaluate("canvas => canvas.toDataURL()"))
    assert u.get_attribute("aria-valuetext") == "u = 0.525"
    page.keyboard.press("Home")
    box.page.wait_for_function("document.querySelector('.live-one').ariaLabel.includes('u = 0 ')", timeout=PATIENCE)
    seen.add(one.evaluate("canvas => canvas.toDataURL()"))
    assert len(seen) == 3 and len(asked) == heavy  # nothing is fetched for it
    before = row.evaluate("canvas => canvas.toDataURL()")
    pad.click(position={"x": 9, "y": 9})  # another digit: what was drawn is not its path
    assert u.is_disabled() and row.evaluate("canvas => canvas.toDataURL()") != before


def test_the_live_explorers_fit_a_phone_and_have_names(visit):
    page, _ = visit(YOURS)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    wide = "all => all.map(e => e.getBoundingClientRect()).filter(at => at.left < 0 || at.right > 390).length"
    parts = page.locator("[data-live] :is(canvas, button, select, input, label)")
    assert parts.count() > 20 and parts.evaluate_all(wide) == 0
    named = "all => all.filter(e => !(e.ariaLabel || e.labels?.length || e.textContent)).length"
    assert page.locator("[data-live] :is(canvas, button, select, input, progress)").evaluate_all(named) == 0


def test_without_webassembly_it_says_so(visit):
    page, _ = visit(DRAW, script="delete globalThis.WebAssembly;")
    page.locator("[data-live=draw]").get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("needs a browser with WebAssembly").wait_for(timeout=PATIENCE)
