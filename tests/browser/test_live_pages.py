"""The network in the page: what it answers is what PyTorch answers, digits are drawn, inverted and filled in as in Python, and
nothing is fetched before a reader asks for it, nor from other sites."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

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
    for (const name of ['x_t', 'image', 'mask']) if (wish[name]) wish[name] = Float32Array.from(wish[name]);
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


def test_without_webassembly_it_says_so(visit):
    page, _ = visit(DRAW, script="delete globalThis.WebAssembly;")
    page.locator("[data-live=draw]").get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("needs a browser with WebAssembly").wait_for(timeout=PATIENCE)
