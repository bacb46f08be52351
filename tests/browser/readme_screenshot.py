"""Makes docs/screenshot.png, the picture in the README: chapter 1 in JupyterLab, run, at its explorer.

python tests/browser/readme_screenshot.py"""

import tempfile
from pathlib import Path

from lab import CHROMIUM_FLAGS, NOTEBOOKS, Notebook, find_chromium, jupyter_lab
from playwright.sync_api import sync_playwright

TARGET = NOTEBOOKS.parent / "docs" / "screenshot.png"


def main() -> None:
    """Run the chapter, move a slider, and store what the window shows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        jupyter_lab(Path(folder), as_make_lab=True) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1360, "height": 860})
        notebook = Notebook(page, server, "01_forward_process.ipynb")
        notebook.run_all()
        notebook.wait_for_math()
        cell = notebook.cell("explorers.schedule(")
        cell.locator(".noUi-handle").last.focus()
        for _ in range(5):
            page.keyboard.press("PageDown")  # t, in large steps
        cell.evaluate("cell => cell.previousElementSibling?.scrollIntoView({block: 'start'})")
        notebook.command("toc:show-panel")
        page.wait_for_timeout(1500)
        TARGET.parent.mkdir(exist_ok=True)
        page.screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
