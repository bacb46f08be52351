"""Every explorer of the book, side by side on one page: by keyboard, back by Reset, and how fast its picture follows."""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import nbformat
import pytest
from lab import ARTIFACTS, PATIENCE, Notebook, Server, digest, wait_for_new_picture, wait_for_old_picture
from playwright.sync_api import Locator, expect

pytestmark = pytest.mark.browser
SETUP = """
import torch

from diffnotes import Schedule, ddim_sample, elbo_terms, initial_noise, load_images, load_pretrained
from diffnotes.book import explorers, plots
from diffnotes.models.coupling import RealNVP
from diffnotes.models.vae import VAE
from diffnotes.training.pretrained import load_captioned
from diffnotes.training.pretrained import load_words
from diffnotes.training.text import DIGITS

linear, images, (model, schedule) = Schedule.linear(), load_images("auto", "test"), load_pretrained("mnist")
painter, _ = load_captioned()
small, _ = load_pretrained("mnist-small")  # where chapters 0, 8 and 9 draw again at every move
two = elbo_terms(small, schedule, images.x[:2])  # chapter 3 counts every t
dit, _ = load_pretrained("dit")
image, noise = images.x[0], initial_noise(seed=0, batch=8)
frames = list(ddim_sample(model, schedule, noise, steps=10))
digits = [(f"u = {i}", plots.grid_image(images.x[i : i + 1], scale=8)) for i in range(9)]
bent = RealNVP(shape=(2,), layers=4)
for weight in bent.parameters():
    torch.nn.init.normal_(weight, std=0.2)
masked = load_words("sums-masked")
trips = {steps: (noise[:3], images.x[:3] + steps * 0.01 * noise[:3]) for steps in (5, 10, 20)}
"""
ECHO = """
import ipywidgets

echo = ipywidgets.HTML()
slider = ipywidgets.IntSlider(0, 0, 1000)
slider.observe(lambda change: setattr(echo, "value", str(change["new"])), "value")
ipywidgets.VBox([slider, echo])
"""


@dataclass(frozen=True)
class Case:
    """An explorer: the cell that shows it, a slider of it with the key that moves it from its first value, and what is
    drawn: curves, images, or images that a network draws anew."""

    chapter: int
    code: str
    slider: str
    drawn: str = "curves"
    key: str = "ArrowRight"


CASES = [
    Case(0, "explorers.draw(small, schedule, number=4)", "noise", "a network draws"),
    Case(1, "explorers.schedule(image)", "t"),
    Case(1, "explorers.schedule(image)", "T"),
    Case(1, "explorers.chain(linear, images.x[:2])", "t", "images"),
    Case(1, "explorers.cloud(linear)", "t"),
    Case(2, "explorers.posterior(Schedule.cosine(T=100))", "t"),
    Case(2, "explorers.gate(Schedule.cosine(T=20))", "x_t"),
    Case(3, "explorers.bound(small, schedule, images.x[:2], two)", "down", "images"),
    Case(4, "explorers.tweedie()", "x_t"),
    Case(4, "explorers.weights()", "t", key="PageUp"),  # a single step may be less than a pixel
    Case(5, "explorers.unet(model, schedule, image)", "t", "images"),
    Case(5, "explorers.clocks()", "t"),
    Case(5, "explorers.clocks()", "δ"),
    Case(5, "explorers.positions(small, schedule, image)", "t", "images"),
    Case(6, "explorers.rotation(image)", "t", "images"),
    Case(7, "explorers.film(frames, start=5)", "time", "images"),
    Case(8, "explorers.ddim(small, schedule, noise)", "steps", "a network draws"),
    Case(8, "explorers.pictures('From one to another', 'u', digits, alt='A digit.')", "u", "images"),
    Case(8, "explorers.round_trip(images.x[:3], trips)", "steps", "images"),
    Case(9, "explorers.guidance(small, schedule, number=4)", "noise", "a network draws"),
    Case(9, "explorers.tilt()", "s"),
    Case(9, "explorers.tilt()", "t"),
    Case(10, "explorers.gap()", "m"),
    Case(10, "explorers.latent_plane(VAE(), images)", "z₁", "images"),
    Case(11, "explorers.telescope()", "stop"),
    Case(12, "explorers.bits(model, schedule, images.x[:16])", "noise"),
    Case(12, "explorers.variances()", "s"),
    Case(13, "explorers.roads()", "λ"),
    Case(13, "explorers.roads()", "steps"),
    Case(13, "explorers.walkers()", "w"),
    Case(14, "explorers.few_calls(model, schedule, calls=(3, 4, 5, 6), number=4)", "calls", "images"),
    Case(14, "explorers.solvers()", "calls"),
    Case(14, "explorers.solvers()", "ρ"),
    Case(15, "explorers.flows()", "t"),
    Case(15, "explorers.flows(steps=20)", "steps"),
    Case(15, "explorers.coupling(bent, torch.randn(200, 2), torch.arange(200) % 2)", "layers"),
    Case(16, "explorers.attention(dit, schedule, images.x[0])", "t"),
    Case(16, "explorers.attention(dit, schedule, images.x[0])", "block"),
    Case(16, "explorers.cost()", "depth"),
    Case(17, "explorers.water(images.x[:500], image)", "θ"),
    Case(17, "explorers.codebook()", "step"),
    Case(17, "explorers.codebook(step=5)", "γ"),
    Case(18, "explorers.two_noises(images.x[:5])", "time t", "images"),
    Case(18, "explorers.scale()", "σ_z"),
    Case(19, "explorers.meter(image)", "shear", "images"),
    Case(19, "explorers.say_it(painter, schedule, steps=5)", "noise", "a network draws"),
    Case(20, "explorers.reveal()", "open"),
    Case(20, "explorers.reveal()", "at once"),
    Case(
        20, "explorers.unmasking(masked, torch.full((24, 9), 12), DIGITS, calls=5)", "after", "images", key="ArrowLeft"
    ),
    Case(21, "explorers.game(frame=0)", "update"),
    Case(21, "explorers.game(frame=1)", "γ", "images"),
    Case(22, "explorers.pasting()", "ρ"),
    Case(22, "explorers.pasting(T=100)", "repeats"),
    Case(22, "explorers.answers(small, schedule, images.x[:5], images.x[:1000])", "digit", "a network draws"),
    Case(90, "explorers.humps()", "noise b"),
    Case(90, "explorers.kl()", "μ_1"),
    Case(90, "explorers.product()", "m"),
    Case(90, "explorers.total()", "a"),
]
TIMES = {"curves": 20, "images": 12, "a network draws": 8}
SLOWEST = {"curves": 3, "images": 6, "a network draws": 30}  # medians, in baselines: the way to the kernel and back

# From the key to the frame in which the answer stands on the screen: a new picture decoded, or a new text
LISTEN = """([handle, answer]) => {
    window.answered = new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error('no answer to the key in 60 seconds')), 60000);
        let pressed;
        handle.addEventListener('keydown', event => { pressed = event.timeStamp; }, {once: true, capture: true});
        const seen = () => requestAnimationFrame(() => resolve(performance.now() - pressed));
        if (answer.tagName === 'IMG') answer.addEventListener('load', seen, {once: true});
        else new MutationObserver((_, observer) => { observer.disconnect(); seen(); })
            .observe(answer, {childList: true, subtree: true, characterData: true});
    });
}"""


class Shown:
    """An explorer on the page."""

    def __init__(self, notebook: Notebook, case: Case) -> None:
        self.notebook, self.page = notebook, notebook.page
        self.box = notebook.cell(case.code).first.locator(".jp-OutputArea-output .widget-vbox").first
        self.box.scroll_into_view_if_needed()
        self.image = self.box.locator("img.widget-image")
        self.reading = self.box.locator(".widget-html-content").last
        self.slider = self.box.get_by_role("slider", name=case.slider, exact=True)
        self.reset = self.box.get_by_role("button", name="Reset", exact=True)

    def press(self, control: Locator, key: str) -> None:
        """Press the key on the control, and wait until picture and reading have followed."""
        picture, words = digest(self.image), self.reading.inner_text()
        control.focus()
        self.page.keyboard.press(key)
        wait_for_new_picture(self.image, picture)
        expect(self.reading).not_to_have_text(words, use_inner_text=True, timeout=PATIENCE)
        self.notebook.wait_for_kernel()
        expect(control).to_be_focused()


def latencies(control: Locator, answer: Locator, key: str, times: int) -> list[float]:
    """Milliseconds from an arrow key on the control to the answer: there and back, `times` times after two to warm up."""
    back = {"ArrowRight": "ArrowLeft", "ArrowLeft": "ArrowRight", "PageUp": "PageDown"}[key]
    page, measured = control.page, []
    control.focus()
    for i in range(times + 2):
        page.evaluate(LISTEN, [control.element_handle(), answer.element_handle()])
        page.keyboard.press(back if i % 2 else key)
        measured.append(page.evaluate("() => window.answered"))
    return measured[2:]


@pytest.fixture(scope="module")
def notebook(server: Server, open_notebook: Callable[[str], Notebook]) -> Notebook:
    """A notebook with all of them, run."""
    cells = [nbformat.v4.new_code_cell(code) for code in dict.fromkeys((SETUP, ECHO, *(case.code for case in CASES)))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), server.root / "explorers.ipynb")
    notebook = open_notebook("explorers.ipynb")
    notebook.run_all()
    assert notebook.trouble() == []
    return notebook


@pytest.fixture(scope="module")
def table(notebook: Notebook, request: pytest.FixtureRequest) -> Iterator[dict[str, list[float]]]:
    """What was measured, with the way to the kernel and back first. It is printed, and kept in .artifacts/latency.json."""
    cell = notebook.cell("echo")
    cell.scroll_into_view_if_needed()
    baseline = latencies(cell.locator(".noUi-handle"), cell.locator(".widget-html-content"), "ArrowRight", 20)
    rows = {"baseline": baseline}
    yield rows
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / "latency.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\nslider key to new pixels, milliseconds (baseline: to the kernel and back, with a line of text)")
        for name, values in rows.items():
            low, median, high = statistics.quantiles(values, n=4)
            print(f"  {median:4.0f}  half of {len(values)} from {low:.0f} to {high:.0f}  {name}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code.split('(')[0].split('.')[1]} {case.slider}")
def test_a_key_moves_picture_and_reading_quickly_and_reset_brings_them_back(
    case: Case, notebook: Notebook, table: dict[str, list[float]]
) -> None:
    shown = Shown(notebook, case)
    before = shown.reading.inner_text(), shown.slider.get_attribute("aria-valuetext")
    picture = digest(shown.image)
    shown.press(shown.slider, case.key)
    assert shown.slider.get_attribute("aria-valuetext") != before[1]
    shown.press(shown.reset, "Enter")
    wait_for_old_picture(shown.image, picture)
    assert (shown.reading.inner_text(), shown.slider.get_attribute("aria-valuetext")) == before
    values = latencies(shown.slider, shown.image, case.key, TIMES[case.drawn])
    table[f"{case.chapter:2} {case.code.split('(')[0].split('.')[1]}, {case.slider} ({case.drawn})"] = values
    assert statistics.median(values) < SLOWEST[case.drawn] * statistics.median(table["baseline"])


def test_a_click_on_the_map_chooses_the_block(notebook: Notebook) -> None:
    """In the middle of a box; a click beside all boxes changes nothing."""
    shown = Shown(notebook, next(case for case in CASES if "unet" in case.code))
    menu = shown.box.get_by_role("combobox", name="block", exact=True)
    names = menu.locator("option").all_inner_texts()
    code = "[explorers.build_unet(model, schedule, image).boxes[i] for i in (1, 5)]"
    boxes = json.loads(notebook.run_code(f"import json\nprint(json.dumps({code}))"))
    shown.image.scroll_into_view_if_needed()
    size = shown.image.bounding_box()
    assert size is not None
    for i, (left, top, right, bottom) in zip((1, 5), boxes, strict=True):
        picture = digest(shown.image)
        middle = {"x": (left + right) / 2 * size["width"], "y": (top + bottom) / 2 * size["height"]}
        shown.image.click(position=middle)
        expect(menu.locator("option:checked")).to_have_text(names[i])
        wait_for_new_picture(shown.image, picture)
        expect(shown.reading).to_contain_text(names[i])
    shown.image.click(position={"x": 3, "y": 3})
    notebook.wait_for_kernel()
    expect(menu.locator("option:checked")).to_have_text(names[5])
