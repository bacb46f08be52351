"""The schedule explorer of chapter 1: all of it by keyboard, and right numbers."""

import math
import re
from collections.abc import Callable

import nbformat
import numpy as np
import pytest
from lab import PATIENCE, Notebook, Server, digest, wait_for_new_picture
from playwright.sync_api import Locator, expect

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("schedule")]  # in one process
SETUP = """
from diffnotes import load_images
from diffnotes.book import explorers

images = load_images("auto", "test")
"""
SLIDERS = ["T", "β_1", "β_T", "s", "t"]  # from top to bottom


class Explorer:
    """The explorer on the page."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook, self.page = notebook, notebook.page
        self.cell = notebook.cell("explorers.schedule(")
        self.cell.scroll_into_view_if_needed()
        self.box = self.cell.locator(".jp-OutputArea-output .widget-vbox").first
        self.image = self.box.locator("img.widget-image")
        self.reading_line = self.box.locator(".widget-html-content").last
        self.kind = self.box.get_by_role("combobox", name="kind", exact=True)
        self.button = self.box.get_by_role("button", name="Reset", exact=True)

    def slider(self, name: str) -> Locator:
        return self.box.get_by_role("slider", name=name, exact=True)

    @property
    def reading(self) -> str:
        return self.reading_line.inner_text()

    def values(self) -> list[str | None]:
        """What the controls show."""
        return [self.kind.input_value(), *(self.slider(name).get_attribute("aria-valuetext") for name in SLIDERS)]

    def press(self, control: Locator, *keys: str) -> None:
        """Give the control the keyboard and press the keys; wait until the reading and the picture have followed. The keys
        are for the control alone: JupyterLab, which has its own use for most of them, must not take the keyboard away."""
        reading, picture = self.reading, digest(self.image)
        control.focus()
        for key in keys:
            self.page.keyboard.press(key)
        expect(self.reading_line).not_to_have_text(reading, use_inner_text=True, timeout=PATIENCE)
        wait_for_new_picture(self.image, picture)
        self.notebook.wait_for_kernel()
        self.rest()
        expect(control).to_be_focused()

    def rest(self, milliseconds: int = 250) -> None:
        """Wait until the reading has stayed as it is for a while: of several keys the last one's arrives last, and it may come
        after the kernel has been seen idle between two of them."""
        reading = None
        while reading != self.reading:
            reading = self.reading
            self.page.wait_for_timeout(milliseconds)

    def reset(self, key: str = "Space") -> None:
        """Move t away from its first value, so that there is something to reset, and press Reset."""
        t = self.slider("t")
        self.press(t, "ArrowRight" if t.get_attribute("aria-valuetext") == "0" else "Home")
        self.press(self.button, key)


@pytest.fixture(scope="module")
def untouched(server: Server, open_notebook: Callable[[str], Notebook]) -> tuple[Explorer, str]:
    """The explorer, and its reading before anyone has moved anything."""
    cells = [nbformat.v4.new_code_cell(code) for code in (SETUP, "explorers.schedule(images.x[0])")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), server.root / "schedule.ipynb")
    notebook = open_notebook("schedule.ipynb")
    notebook.run_all()
    explorer = Explorer(notebook)
    return explorer, explorer.reading


@pytest.fixture
def explorer(untouched: tuple[Explorer, str]) -> Explorer:
    """The explorer with its first values."""
    explorer, _ = untouched
    explorer.reset()
    return explorer


def test_the_page_shows_the_values_that_the_code_gave(untouched: tuple[Explorer, str], explorer: Explorer) -> None:
    """A slider on the page moves a value that lies between two of its steps; a reset then brings back another picture."""
    _, first_reading = untouched
    assert first_reading == explorer.reading
    assert f"ᾱ_T = {np.prod(1 - np.linspace(1e-4, 0.02, 1000)):.2g} " in first_reading


def test_every_control_has_its_name(explorer: Explorer) -> None:
    expect(explorer.kind).to_have_count(1)
    expect(explorer.button).to_have_count(1)
    assert [explorer.slider(name).count() for name in SLIDERS] == [1] * len(SLIDERS)
    assert explorer.box.get_by_role("slider").count() == len(SLIDERS)


def test_tab_goes_through_the_controls_from_top_to_bottom(explorer: Explorer) -> None:
    explorer.kind.focus()
    met = []
    for _ in range(3 * len(SLIDERS)):  # beside its handle, each slider has a number that can be typed over
        explorer.page.keyboard.press("Tab")
        role, name = explorer.page.evaluate(
            "() => { const e = document.activeElement; return [e.role, e.ariaLabel ?? e.textContent]; }"
        )
        if role == "slider" or name == "Reset":
            met.append(name)
        if name == "Reset":
            break
    assert met == [*SLIDERS, "Reset"]


@pytest.mark.parametrize("name", ["T", "β_1", "β_T", "t"])
def test_arrow_keys_move_the_picture(explorer: Explorer, name: str) -> None:
    slider = explorer.slider(name)
    before = slider.get_attribute("aria-valuetext")
    explorer.press(slider, *["ArrowRight"] * 6)
    assert slider.get_attribute("aria-valuetext") != before
    explorer.press(slider, *["ArrowLeft"] * 3)


def test_the_kind_decides_which_sliders_work(explorer: Explorer) -> None:
    def disabled() -> list[str]:
        return [name for name in SLIDERS if explorer.slider(name).locator("xpath=ancestor::*[@disabled]").count()]

    assert disabled() == ["s"]
    for kind in ("quadratic", "sigmoid", "cosine"):
        explorer.press(explorer.kind, "ArrowDown")
        expect(explorer.kind).to_have_value(kind)
    expect(explorer.slider("s").locator("xpath=ancestor::*[@disabled]")).to_have_count(0)
    assert disabled() == ["β_1", "β_T"]

    before = explorer.values()
    for name in ("β_1", "β_T"):
        explorer.slider(name).focus()
        explorer.page.keyboard.press("ArrowRight")
    assert explorer.values() == before
    explorer.press(explorer.slider("s"), *["ArrowRight"] * 6)

    abar = np.cos((200 / 1000 + 0.020) / 1.020 * np.pi / 2) ** 2 / np.cos(0.020 / 1.020 * np.pi / 2) ** 2
    assert f"at t = 200: ᾱ_t = {abar:.3g}," in explorer.reading


def test_the_reading_warns_where_the_prior_is_missed(explorer: Explorer) -> None:
    assert "The chain ends in noise" in explorer.reading
    explorer.press(explorer.slider("T"), "Home", *["PageUp"] * 3, *["ArrowRight"] * 4)
    assert explorer.slider("T").get_attribute("aria-valuetext") == "200"
    explorer.press(explorer.slider("t"), "End", *["ArrowLeft"] * 50)

    abar = np.r_[1, np.cumprod(1 - np.linspace(1e-4, 0.02, 200))]
    size = float(explorer.notebook.run_code("images.x[0].double().square().sum().item()"))
    bits = (abar[200] * size - 784 * abar[200] - 784 * math.log(1 - abar[200])) / 2 / math.log(2)
    assert "ᾱ_T = 0.13 " in explorer.reading
    assert f"ᾱ_T = {abar[200]:.2g} · D_KL(q(x_T | x_0) ‖ N(0, I)) = {bits:.2g} bits" in explorer.reading
    weights = f"ᾱ_t = {abar[150]:.3g}, the image enters with weight {abar[150] ** 0.5:.3f}"
    assert f"at t = 150: {weights}, the noise with {(1 - abar[150]) ** 0.5:.3f}" in explorer.reading
    assert "The prior is missed" in explorer.reading
    expect(explorer.slider("t")).to_have_attribute("aria-valuemax", re.compile(r"200(\.0)?"))


def test_reset_brings_everything_back(explorer: Explorer) -> None:
    values, reading, picture = explorer.values(), explorer.reading, digest(explorer.image)
    for name in ("T", "β_1", "β_T", "t"):
        explorer.press(explorer.slider(name), *["PageDown"] * 2)
    explorer.press(explorer.kind, "ArrowDown")
    moved = digest(explorer.image)
    assert moved != picture
    explorer.reset("Enter")
    expect(explorer.reading_line).to_have_text(reading, use_inner_text=True, timeout=PATIENCE)
    assert explorer.values() == values
    wait_for_new_picture(explorer.image, moved)
    assert digest(explorer.image) == picture
