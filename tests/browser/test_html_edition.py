"""The HTML edition in a browser: nothing asked of other sites, all formulas set, accessible, and fit for a phone."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

sys.path.append(str(Path(__file__).parents[1] / "docs"))

import build_edition
from lab import NOTEBOOKS, PATIENCE, Visit, served, visited

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("edition")]  # in one process

MATH, EXPLORER, GLOSSARY = "notebooks/02_bayes_posterior.html", "notebooks/01_forward_process.html", "glossary.html"
TABLES = "notebooks/00_start_here.html"
SEEN = [MATH, EXPLORER, GLOSSARY, "notebooks/92_equation_index.html", "index.html"]
LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
READY = "!window.MathJax || MathJax.startup.promise.then(() => true)"
FORMULAS = """() => ({
    written: document.querySelectorAll('.math').length,
    set: document.querySelectorAll('.math mjx-container').length,
    numbers: document.querySelectorAll('[data-mml-node=mlabeledtr]').length,
    errors: [...document.querySelectorAll('[data-mml-node=merror], mjx-merror')].map(e => e.textContent),
})"""
# all but the inside of formulas, which MathJax gives to screen readers as MathML
AXE = """only => axe.run({exclude: [['mjx-container']]}, {
    resultTypes: ['violations'],
    runOnly: only.rules ? {type: 'rule', values: only.rules} : {type: 'tag', values: only.tags},
}).then(result => result.violations)"""
SETTLED = """async () => {
    await new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)));
    await Promise.all(document.getAnimations().map(change => change.finished.catch(() => {})));
}"""
CUT_OFF = """() => [...document.querySelectorAll('.cell_input pre')].filter(code => code.scrollWidth > code.clientWidth + 1)
    .map(code => [code.scrollWidth - code.clientWidth, code.innerText.slice(0, 300)])"""
WIDE = """() => [...document.querySelectorAll('div.math')].filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => [Math.round(100 * box.scrollWidth / box.clientWidth), box.textContent.slice(0, 80)])"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built site."""
    html, said = build_edition.edition(tmp_path_factory)
    assert said == ""
    with served(html) as address:
        yield address


@pytest.fixture(scope="module")
def visit(browser: Browser, edition: str) -> Iterator[Callable[[str], Visit]]:
    """Opens a page of the site and waits for its formulas; once for all tests, which leave it as they found it."""

    @functools.cache
    def open_one(name: str) -> Visit:
        visit = visited(browser, LAPTOP, edition + name)
        visit.page.wait_for_function(READY, timeout=PATIENCE)
        return visit

    yield open_one
    for context in browser.contexts:
        context.close()


@pytest.mark.parametrize("name", SEEN)
def test_a_page_asks_nothing_of_other_sites(visit: Callable[[str], Visit], edition: str, name: str):
    seen = visit(name)
    assert [url for url in seen.asked if not url.startswith((edition, "data:"))] == []
    assert seen.trouble == []


@pytest.mark.parametrize("name", SEEN)
def test_every_formula_is_set_with_its_number(visit: Callable[[str], Visit], edition: str, name: str):
    page = visit(name).page
    formulas = page.evaluate(FORMULAS)
    assert formulas["set"] == formulas["written"] and formulas["errors"] == []
    assert formulas["numbers"] == page.request.get(edition + name).text().count(r"\tag{")


@pytest.mark.parametrize("name", SEEN)
def test_a_phone_scrolls_no_page_sideways(visit: Callable[[str], Visit], name: str):
    page = visit(name).page
    page.set_viewport_size(PHONE)
    sideways = page.evaluate(SIDEWAYS)
    page.set_viewport_size(LAPTOP)
    assert sideways <= 0


@pytest.mark.parametrize("screen", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("name", [MATH, EXPLORER])
def test_no_line_of_code_is_cut_off(visit: Callable[[str], Visit], name: str, screen: dict):
    page = visit(name).page
    page.set_viewport_size(screen)
    page.evaluate("document.querySelectorAll('.cell details.hide').forEach(folded => { folded.open = true; })")
    wide = page.evaluate(CUT_OFF)
    page.evaluate("document.querySelectorAll('.cell details.hide').forEach(folded => { folded.open = false; })")
    page.set_viewport_size(LAPTOP)
    assert wide == []


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_no_formula_is_wider_than_its_column(browser: Browser, edition: str, name: str):
    """On a laptop, made smaller by 15 % at most, so that it fits JupyterLab's column too."""
    page = browser.new_page(viewport=LAPTOP)
    page.goto(f"{edition}notebooks/{name}.html", timeout=PATIENCE)
    page.wait_for_function(READY, timeout=PATIENCE)
    page.evaluate(SETTLED)
    wide = page.evaluate(WIDE)
    page.close()
    assert wide == []


def test_the_text_is_a_column_that_can_be_read(visit: Callable[[str], Visit]):
    page = visit(MATH).page
    sizes = page.evaluate("""() => {
        const style = name => getComputedStyle(document.querySelector('.bd-article ' + name));
        return ['h1', 'h2', 'p'].map(name => parseFloat(style(name).fontSize)).concat(
            Math.max(...[...document.querySelectorAll('.bd-article p')].map(p => p.getBoundingClientRect().width)));
    }""")
    h1, h2, letters, width = sizes
    assert letters < h2 < 1.4 * letters and h2 < h1 < 1.8 * letters
    assert width < 45 * letters


@pytest.mark.parametrize(
    ("name", "theme"),
    [(EXPLORER, "light"), (EXPLORER, "dark"), (TABLES, "light"), (GLOSSARY, "light"), ("index.html", "dark")],
)
def test_axe_finds_no_serious_violation(visit: Callable[[str], Visit], name: str, theme: str):
    page = visit(name).page
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    page.evaluate(SETTLED)  # a colour on its way from one theme to the other is neither
    axe = importlib.util.find_spec("axe_playwright_python")
    page.add_script_tag(path=Path(axe.origin).with_name("axe.min.js"))
    found = page.evaluate(
        AXE, {"rules": ["color-contrast"]} if theme == "dark" else {"tags": ["wcag2a", "wcag2aa", "best-practice"]}
    )
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]][:3]) for v in serious] == []


def test_on_paper_no_formula_is_cut_off(visit: Callable[[str], Visit]):
    page = visit(EXPLORER).page
    page.set_viewport_size({"width": 680, "height": 1000})  # A4 with common margins
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    beyond = page.evaluate("""() => [...document.querySelectorAll('div.math')].map(box =>
        box.querySelector('svg').getBoundingClientRect().right - box.getBoundingClientRect().right)""")
    page.emulate_media(media="screen")
    page.set_viewport_size(LAPTOP)
    assert len(beyond) > 20 and max(beyond) < 1


def test_the_dark_theme_can_be_chosen(visit: Callable[[str], Visit]):
    page = visit("cite.html").page
    look = "[document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]"
    theme, background = page.evaluate(look)
    assert theme == "light"
    page.get_by_role("button", name="Color mode").first.click()
    page.get_by_role("button", name="Dark", exact=True).click()
    theme, dark = page.evaluate(look)
    assert theme == "dark" and dark != background


def test_the_search_finds_a_term(visit: Callable[[str], Visit]):
    page = visit("symbols.html").page
    page.keyboard.press("Control+k")
    page.keyboard.type("ancestral")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=ancestral*")
    page.locator("#search-results li a[href*='glossary.html']").first.wait_for(timeout=PATIENCE)  # they come one by one


def test_the_number_of_an_equation_leads_to_it_in_another_chapter(visit: Callable[[str], Visit], edition: str):
    page = visit("cite.html").page
    page.goto(f"{edition}notebooks/01_forward_process.html#eq-1.12", timeout=PATIENCE)
    page.wait_for_function(READY, timeout=PATIENCE)
    page.evaluate("location.hash = ''; location.hash = 'eq-1.12'")  # the formulas above it have grown since
    formula = page.locator("p:has(> a[id='eq-1.12']) ~ div.math").first
    assert formula.locator("[data-mml-node=mlabeledtr]").count() == 1
    top = formula.bounding_box()["y"]
    assert 40 < top < 400


def test_a_choice_is_answered_on_the_page(visit: Callable[[str], Visit]):
    page = visit(MATH).page
    exercise = page.locator(".choice").first
    answers = exercise.locator("[data-verdict]")
    assert answers.count() == 4 and exercise.locator("[data-verdict]:visible").count() == 0
    seen = []
    for letter in "abcd":
        button = exercise.get_by_role("button", name=letter, exact=True)
        button.click()
        assert (
            button.get_attribute("aria-pressed") == "true" and exercise.locator("[data-verdict]:visible").count() == 1
        )
        seen.append(exercise.locator("[data-verdict]:visible").inner_text())
    assert sum("Right, it is" in text for text in seen) == 1 and sum("It is not" in text for text in seen) == 3


def test_other_exercises_say_how_to_run_them(visit: Callable[[str], Visit]):
    lines = visit(MATH).page.get_by_text("is answered in code, and checked when the chapter runs")
    assert lines.count() >= 3 and lines.first.get_by_role("link", name="on Binder").count() == 1


def test_a_formulas_latex_is_copied_and_its_number_leads_to_the_index_and_back(visit: Callable[[str], Visit]):
    page = visit(MATH).page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the LaTeX of (2.7)", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_text("copied", exact=True).wait_for(timeout=PATIENCE)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert r"\tag{2.7}" in copied and r"\mathcal N" in copied
    line = page.get_by_role("link", name="(2.7) in the index", exact=True).get_attribute("href")
    index = visit("notebooks/92_equation_index.html").page
    assert line.endswith("92_equation_index.html#line-2.7")
    target = index.locator("[id='line-2.7']")
    assert target.count() == 1
    back = index.locator("tr", has=target).get_by_role("link", name="(2.7)", exact=True).get_attribute("href")
    assert back.endswith("02_bayes_posterior.html#eq-2.7")
