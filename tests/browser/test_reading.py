"""The book as make lab opens it: a column that can be read, the table of contents at hand, nothing over the text, light and
dark, and nothing written into the reader's own settings."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PANEL, PATIENCE, Server, jupyter_lab
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("reading")]  # in one process
LAPTOP = {"width": 1366, "height": 768}
LINES = """panel => [...document.querySelectorAll(panel + ' .jp-RenderedMarkdown > p')].flatMap(p => {
    if (p.querySelector('mjx-container') || p.innerText.length < 250) return [];  // letters only, and some lines of them
    const range = document.createRange(), texts = document.createTreeWalker(p, NodeFilter.SHOW_TEXT), lines = {};
    while (texts.nextNode()) {
        for (let i = 0; i < texts.currentNode.length; i++) {
            range.setStart(texts.currentNode, i), range.setEnd(texts.currentNode, i + 1);
            const line = Math.round(range.getBoundingClientRect().bottom / 12);
            lines[line] = (lines[line] ?? 0) + 1;
        }
    }
    return Object.values(lines).slice(0, -1);  // the last one ends where it ends
})"""
SIZES = """panel => Object.fromEntries(['h1', 'h2', 'p'].map(name => [name, parseFloat(
    getComputedStyle(document.querySelector(panel + ' .jp-RenderedMarkdown > ' + name) ?? document.body).fontSize)]))"""
CUT_OFF = """panel => [...document.querySelectorAll(panel + ' .jp-InputArea-editor .cm-scroller')]
    .filter(code => code.scrollWidth > code.clientWidth + 1).map(code => code.innerText.slice(0, 200))"""
IS_LIGHT = "() => document.body.dataset.jpThemeLight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reading")


@pytest.fixture(scope="module")
def reading(chromium: str, folder: Path) -> Iterator[Server]:
    """JupyterLab as make lab starts it, with no settings of the reader's."""
    with jupyter_lab(folder, as_make_lab=True) as running:
        yield running


def opened(browser: Browser, server: Server, name: str, colour: str = "light") -> Page:
    """The notebook as a reader finds it, whose system is light or dark."""
    page = browser.new_page(viewport=LAPTOP, color_scheme=colour)
    page.goto(f"{server.url}/lab/tree/{name}?token={server.token}")
    page.locator(PANEL).locator(".jp-RenderedMarkdown h1").first.wait_for(timeout=PATIENCE)
    page.wait_for_function("window.jupyterapp?.started", timeout=PATIENCE)
    return page


def test_the_text_is_a_column_and_the_headings_do_not_shout(browser: Browser, reading: Server):
    page = opened(browser, reading, "00_start_here.ipynb")
    lines = sorted(page.evaluate(LINES, PANEL))
    assert len(lines) >= 10 and 70 <= lines[len(lines) // 2] <= 85  # letters; JupyterLab's own: 115 and more
    sizes = page.evaluate(SIZES, PANEL)
    assert sizes["p"] == 16 and sizes["h1"] < 1.7 * sizes["p"]
    page.close()


def test_a_chapter_opens_with_its_contents_beside_it_and_nothing_over_it(browser: Browser, reading: Server):
    page = opened(browser, reading, "04_epsilon_loss.ipynb")
    page.locator(".jp-TableOfContents:visible").get_by_text("4.2 A divergence becomes").first.wait_for(timeout=PATIENCE)
    assert page.evaluate(CUT_OFF, PANEL) == []
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    sizes = page.evaluate(SIZES, PANEL)
    assert sizes["p"] < sizes["h2"] < 1.3 * sizes["p"]
    page.close()


@pytest.mark.parametrize(("colour", "is_light"), [("light", "true"), ("dark", "false")])
def test_light_and_dark_as_the_readers_system_is(browser: Browser, reading: Server, colour: str, is_light: str):
    page = opened(browser, reading, "00_start_here.ipynb", colour)
    page.wait_for_function(f"document.body.dataset.jpThemeLight === '{is_light}'", timeout=PATIENCE)
    page.close()


def test_the_readers_own_settings_are_not_touched_and_win(browser: Browser, reading: Server, folder: Path):
    assert [path for path in (folder / "settings").rglob("*") if path.is_file()] == []
    theirs = folder / "settings" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text(json.dumps({"adaptive-theme": False, "theme": "JupyterLab Light"}))
    page = opened(browser, reading, "00_start_here.ipynb", "dark")
    page.wait_for_timeout(3000)  # for a theme that should not come
    assert page.evaluate(IS_LIGHT) == "true"
    page.close()
    theirs.unlink()
