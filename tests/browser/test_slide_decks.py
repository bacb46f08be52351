"""The decks in a browser: each slide fits, formulas are set, keys move on, and nothing is asked of other sites."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import PATIENCE, served
from playwright.sync_api import Browser, Page

sys.path.append(str(Path(__file__).parents[2] / "docs"))
import slides

pytestmark = pytest.mark.browser
DECKS = sorted(slides.chapters())
# of the slide on show: what sticks out of it, or out of the room between title and text
LOOK = """() => {
    const slide = Reveal.getCurrentSlide().querySelector('.slide'), shown = slide.querySelector('.shown');
    const sticks = [[slide.scrollHeight - slide.clientHeight, slide.scrollWidth - slide.clientWidth]];
    const room = (shown ?? slide).getBoundingClientRect();
    for (const part of shown ? shown.querySelectorAll('mjx-container[display] svg, img, pre') : []) {
        const at = part.getBoundingClientRect();
        sticks.push([Math.max(room.top - at.top, at.bottom - room.bottom), Math.max(room.left - at.left, at.right - room.right)]);
    }
    return {
        title: slide.querySelector('h1, h2').textContent,
        sticks: Math.max(...sticks.flat()),
        letters: Math.min(...[...slide.querySelectorAll('.shown mjx-container[display]')].map(e => parseFloat(e.style.fontSize))),
        numbers: slide.querySelectorAll('[data-mml-node=mlabeledtr]').length,
        pictures: [...slide.querySelectorAll('img')].map(img => img.naturalWidth > 0 && img.alt !== '' && img.width >= 300),
        dollars: slide.textContent.includes('$'),
    };
}"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the decks, in a folder of a server that has nothing but files."""
    if not slides.REVEAL.exists() and os.environ.get("CI") != "true":
        pytest.skip("reveal.js is not here: npm ci --prefix docs/live")
    root = tmp_path_factory.mktemp("course")
    assert slides.build(root / "some" / "slides") == DECKS
    with served(root) as address:
        yield f"{address}some/slides/"


@pytest.fixture
def opened(browser: Browser, decks: str) -> Iterator[Any]:
    """Opens a deck on a projector's screen; what it asks for and what goes wrong is listed."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})

    def open_one(name: str) -> tuple[Page, list[str]]:
        page, trouble = context.new_page(), []
        page.on("request", lambda asked: None if asked.url.startswith((decks, "data:")) else trouble.append(asked.url))
        page.on("response", lambda answer: trouble.append(answer.url) if answer.status >= 400 else None)
        page.on("console", lambda said: trouble.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(f"{decks}{name}.html", timeout=PATIENCE)
        page.wait_for_function("window.ready && Reveal.isReady()", timeout=PATIENCE)
        return page, trouble

    yield open_one
    context.close()


@pytest.mark.parametrize("name", DECKS)
def test_every_slide_fits_and_is_reached_by_the_right_key(opened, name: str):
    page, trouble = opened(name)
    made = [slide for slide, _ in slides.slides(slides.chapters()[name])]
    for i, slide in enumerate(made):
        for _ in range(slide.count('class="fragment"')):
            page.keyboard.press("ArrowRight")
        page.wait_for_timeout(20)
        assert page.evaluate("Reveal.getIndices().h") == i
        seen = page.evaluate(LOOK)
        assert seen["sticks"] <= 0.5, (i, seen)
        assert seen["letters"] is None or seen["letters"] >= 24, (i, seen)
        assert seen["numbers"] == len(slides.TAG.findall(slide)), (i, seen)
        assert seen["pictures"] == [True] * slide.count("<img "), (i, seen)
        assert not seen["dollars"], (i, seen)  # every formula is set
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.isLastSlide()")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.querySelectorAll('[data-mml-node=merror]').length") == 0
    assert trouble == []


def test_the_speaker_sees_the_chapters_words(opened):
    page, trouble = opened(DECKS[0])
    page.keyboard.press("ArrowRight")
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("On top, the digit").wait_for(timeout=PATIENCE)
    assert notes.locator("svg path").count() > 10  # the formulas in the notes are set, letters and all
    assert trouble == []


def test_the_start_page_leads_to_every_deck(opened, browser: Browser, decks: str):
    page = browser.new_page()
    page.goto(f"{decks}index.html")
    links = page.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert links == [f"{name}.html" for name in DECKS]
    page.close()
