"""The explorers that run in the page, each in its chapter: they answer the keyboard, go back, ask nothing of other sites, and are
the notebook's picture where no scripts run. That their numbers are Python's: tests/docs/test_curves.py."""

import functools
import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

sys.path.append(str(Path(__file__).parents[1] / "docs"))
sys.path.append(str(Path(__file__).parents[2] / "docs"))

import build_edition
from curves import PAGES
from lab import PATIENCE, Visit, served, visited

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("edition")]  # in one process
LAPTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = """name => axe.run(`[data-curves=${name}]`, {resultTypes: ['violations']}).then(({violations}) =>
    violations.filter(({impact}) => ['serious', 'critical'].includes(impact)).map(({id, nodes}) => [id, nodes[0].html]))"""
SHOWN = (
    """svg => [...svg.children].filter(part => part.style.display !== 'none').map(part => part.innerHTML).join('')"""
)
PIXELS = """async explorer => {
    const slider = [...explorer.querySelectorAll('input')].find(input => !input.disabled), times = [];
    const frame = () => new Promise(drawn => requestAnimationFrame(drawn));
    for (let i = 0; i < 21; i++) {
        await frame();
        const start = performance.now(), before = slider.value;
        i % 2 ? slider.stepUp() : slider.stepDown();
        if (slider.value === before) slider.stepUp();
        slider.dispatchEvent(new Event('input'));
        await frame();  // in which the picture changes
        await new Promise(painted => { const c = new MessageChannel(); c.port1.onmessage = painted; c.port2.postMessage(0); });
        times.push(performance.now() - start);
    }
    return times;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built site, in a folder of a server, as a repository's pages are."""
    html, said = build_edition.edition(tmp_path_factory)
    assert said == ""
    with served(html.parent) as address:
        yield f"{address}{html.name}/"


@pytest.fixture(scope="module")
def visit(browser: Browser, site: str) -> Iterator[Callable[[str], Visit]]:
    """Opens a chapter once, and waits for its explorers."""

    @functools.cache
    def open_one(chapter: str) -> Visit:
        visit = visited(browser, LAPTOP, f"{site}notebooks/{chapter}.html")
        for name in (name for name, (where, _) in PAGES.items() if where == chapter):
            visit.page.locator(f"[data-curves={name}] svg path").first.wait_for(state="attached", timeout=PATIENCE)
        return visit

    yield open_one
    for context in browser.contexts:
        context.close()


def explorer_of(visit: Callable[[str], Visit], name: str) -> Locator:
    return visit(PAGES[name][0]).page.locator(f"[data-curves={name}]")


@pytest.mark.parametrize("name", PAGES)
def test_it_moves_by_the_keyboard_and_goes_back(visit: Callable[[str], Visit], site: str, name: str):
    seen, explorer = visit(PAGES[name][0]), explorer_of(visit, name)
    drawing, reading = explorer.locator("svg"), explorer.locator("[aria-live]")
    expect(explorer.locator("img")).to_be_hidden()
    first, said = drawing.evaluate(SHOWN), reading.inner_text()
    assert drawing.get_attribute("aria-label") == explorer.locator("img").get_attribute("alt")
    slider = explorer.get_by_role("slider", disabled=False).first
    place = slider.get_attribute("aria-valuetext")
    slider.focus()
    seen.page.keyboard.press("ArrowRight" if slider.input_value() != slider.get_attribute("max") else "ArrowLeft")
    expect(slider).not_to_have_attribute("aria-valuetext", place)
    assert drawing.evaluate(SHOWN) != first and reading.inner_text() != said
    assert drawing.get_attribute("aria-label").endswith(reading.text_content())
    explorer.get_by_role("button", name="back to the first values").click()
    assert reading.inner_text() == said and drawing.evaluate(SHOWN) == first
    assert slider.get_attribute("aria-valuetext") == place
    assert seen.trouble == [] and [url for url in seen.asked if not url.startswith((site, "data:"))] == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(visit: Callable[[str], Visit], name: str, theme: str):
    page = visit(PAGES[name][0]).page
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    page.wait_for_function("document.getAnimations().every(change => change.playState !== 'running')", timeout=PATIENCE)
    page.add_script_tag(path=Path(importlib.util.find_spec("axe_playwright_python").origin).with_name("axe.min.js"))
    found = page.evaluate(AXE, name)
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    assert found == []


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_shows_it_with_letters_that_can_be_read(visit: Callable[[str], Visit], name: str):
    page, explorer = visit(PAGES[name][0]).page, explorer_of(visit, name)
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(300)  # the panels are placed anew
    sizes = explorer.locator("svg text").evaluate_all("""texts => texts.map(text =>
        parseFloat(text.getAttribute('font-size')) * text.ownerSVGElement.getScreenCTM().a)""")
    sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_viewport_size(LAPTOP)
    page.wait_for_timeout(300)
    assert min(sizes) > 9 and sideways <= 0


def test_without_scripts_the_notebook_s_picture_stays(browser: Browser, site: str):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{site}notebooks/01_forward_process.html", timeout=PATIENCE)
    expect(page.locator("[data-curves=schedule] img")).to_be_visible()
    assert page.locator("[data-curves=schedule] svg").count() == 0
    page.context.close()


def test_controls_depend_on_one_another_as_in_the_notebook(visit: Callable[[str], Visit]):
    page, explorer = visit("01_forward_process").page, explorer_of(visit, "schedule")
    steps, time = (explorer.get_by_role("slider", name=name, exact=True) for name in ("T", "t"))
    steps.fill("150")
    expect(time).to_have_attribute("aria-valuetext", "150")
    assert "The prior is missed" in explorer.locator("[aria-live]").inner_text()
    explorer.get_by_role("combobox", name="kind").select_option("cosine")
    expect(explorer.get_by_role("slider", name="β_T")).to_be_disabled()
    explorer.get_by_role("button", name="back to the first values").click()
    expect(time).to_have_attribute("aria-valuetext", "200")
    solvers = explorer_of(visit, "solvers")
    solvers.get_by_role("combobox", name="grid").select_option("even in t")
    expect(solvers.get_by_role("slider", name="ρ")).to_be_disabled()
    solvers.get_by_role("button", name="back to the first values").click()
    assert page.locator("[data-curves=schedule] svg image").get_attribute("href").startswith("data:image/png")


@pytest.mark.parametrize("name", PAGES)
def test_its_latency_is_told(visit: Callable[[str], Visit], name: str):
    explorer = explorer_of(visit, name)
    milliseconds = explorer.evaluate(PIXELS)
    explorer.get_by_role("button", name="back to the first values").click()
    print(f"{name}: slider to pixels {statistics.median(milliseconds):.0f} ms, median of {len(milliseconds)}")
    assert len(milliseconds) == 21
