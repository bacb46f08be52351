"""One JupyterLab for all browser tests, and a browser for each file of them."""

import os
import re
from collections.abc import Callable, Generator, Iterator

import pytest
from lab import ARTIFACTS, CHROMIUM_FLAGS, Notebook, Server, find_chromium, jupyter_lab
from playwright.sync_api import Browser, Page, sync_playwright

NO_CHROMIUM = (
    "no Chromium found for the browser tests: apt-get install chromium, or python -m playwright install chromium, "
    "or name one in DIFFNOTES_CHROMIUM"
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium. Without one the browser tests are skipped, but on CI they fail."""
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(NO_CHROMIUM)
    return path


@pytest.fixture(scope="session")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab on a copy of the notebooks."""
    with jupyter_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


# For a file and not for the session: while Playwright runs, an asyncio loop runs too, and other tests want their own.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, headless=True, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """A browser window the size of a small laptop's, a little higher."""
    return browser.new_page(viewport={"width": 1366, "height": 1000})


@pytest.fixture(scope="module")
def open_notebook(page: Page, server: Server) -> Iterator[Callable[[str], Notebook]]:
    """Opens the notebook at a path below the server's root, in place of the one before."""

    def open_one(path: str) -> Notebook:
        server.shut_down_kernels()
        return Notebook(page, server, path)

    yield open_one
    server.shut_down_kernels()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Store what the browser showed when a test failed: .artifacts/failed-<test>.png."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.failed and page is not None:
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / f"failed-{re.sub('[^A-Za-z0-9_.-]+', '-', item.name)}.png")
    return report
