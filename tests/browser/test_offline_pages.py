"""Chapters as HTML files, opened with no network: by nbconvert as it comes, and by the book's own export."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from lab import NOTEBOOKS, PATIENCE
from playwright.sync_api import Browser

from diffnotes.book.press import export

pytestmark = pytest.mark.browser
CELLS = [
    "from diffnotes.book import explorers, slider\nexplorers.kl()",
    "width = slider('width', 3, 0, 9)\nwidth.value",
]
SEEN = """() => [...document.images].map(image => ({
    alt: image.alt, seen: image.complete && image.naturalWidth > 0 && image.getBoundingClientRect().height > 0,
}))"""


@pytest.fixture
def offline(browser: Browser):
    """A page that can reach no one."""
    context = browser.new_context(offline=True)
    yield context.new_page()
    context.close()


def test_nbconvert_as_it_comes_shows_an_explorers_picture(tmp_path: Path, offline) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "explorer.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", str(tmp_path / "explorer.ipynb")]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    offline.goto((tmp_path / "explorer.html").as_uri(), wait_until="domcontentloaded")
    (picture,) = offline.evaluate(SEEN)
    assert picture["seen"] and picture["alt"].startswith("Above, two bells")
    assert "width: 3 (a slider from 0 to 9 when the notebook runs)" in offline.inner_text("body")


def test_an_exported_chapter_has_its_pictures_their_texts_and_its_formulas(tmp_path: Path, offline) -> None:
    (written,) = export.write([NOTEBOOKS / "01_forward_process.ipynb"], tmp_path / "chapter.html")
    asked = []
    offline.on("request", lambda request: asked.append(request.url))
    offline.goto(written.as_uri())
    offline.wait_for_function("document.querySelectorAll('mjx-container').length > 100", timeout=PATIENCE)
    pictures = offline.evaluate(SEEN)
    assert len(pictures) >= 5 and all(picture["seen"] and picture["alt"].strip() for picture in pictures)
    assert any(picture["alt"].startswith("Four panels") for picture in pictures)  # an explorer's
    assert offline.locator("[data-mml-node=merror]").count() == 0
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
