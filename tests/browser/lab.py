"""A real JupyterLab 4 in a headless Chromium: start both, open a notebook, run it, read what stands on the page."""

import contextlib
import functools
import http.server
import json
import math
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Playwright, ViewportSize

from diffnotes.book import lab

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = REPOSITORY / "notebooks"
ARTIFACTS = REPOSITORY / ".artifacts"

SECOND = 1000  # Playwright counts in milliseconds
PATIENCE = 60 * SECOND  # for what takes a moment: machines are noisy
LONG = 240 * SECOND  # for a whole notebook
EVERY = 200  # milliseconds between two looks at a whole page: in every frame, the looking alone would keep a core busy

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
]
SETTINGS = {  # no news, no look for updates, every cell rendered
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


# -- the browser ------------------------------------------------------------------------------------------------------


def find_chromium(playwright: Playwright) -> str | None:
    """The Chromium to drive: DIFFNOTES_CHROMIUM, else one on the PATH, else Playwright's own, else None."""
    named = os.environ.get("DIFFNOTES_CHROMIUM")
    if named:
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"DIFFNOTES_CHROMIUM names no program that can be run: {named}")
        return found
    on_path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    own = playwright.chromium.executable_path
    return on_path or (own if Path(own).exists() else None)


# -- a site -----------------------------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and does not talk about it."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server that has the files of `folder` and nothing else."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


# -- the server -------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A running JupyterLab; `root` is the copy of the notebooks that it serves, `runs` where they save training runs."""

    url: str
    token: str
    root: Path
    runs: Path
    environment: dict[str, str]

    def ask(self, method: str, path: str) -> bytes:
        """A request to the server's REST interface."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def shut_down_kernels(self) -> None:
        """End every kernel, so that the next notebook has the machine to itself."""
        for session in json.loads(self.ask("GET", "sessions")):
            self.ask("DELETE", f"sessions/{session['id']}")


@contextlib.contextmanager
def jupyter_lab(folder: Path, as_make_lab: bool = False) -> Iterator[Server]:
    """JupyterLab on a copy of the notebooks, everything it writes inside `folder`; its kernels run this Python. With
    as_make_lab it has the settings and the looks that make lab gives it, otherwise those that suit the tests."""
    root, runs = folder / "notebooks", folder / "runs"
    shutil.copytree(NOTEBOOKS, root, ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"))
    settings = folder / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({} if as_make_lab else SETTINGS))
    kernel = folder / "path" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "Python 3 (ipykernel)", "language": "python"}))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PATH": str(folder / "path"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_TOKEN": token,
        "DIFFNOTES_RUNS": str(runs),
        "DIFFNOTES_PROGRESS": str(folder / "progress"),
        "DIFFNOTES_BUDGET": "ci",
        "OMP_NUM_THREADS": "1",  # beside a browser and a server, two threads mostly wait for each other
    }
    server = Server(f"http://127.0.0.1:{port}", token, root, runs, environment)
    log = folder / "lab.log"
    arguments = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}",
    ]
    if as_make_lab:
        arguments, environment = [*arguments, *lab.arguments(folder / "workspaces")], lab.environment(environment)
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments], env=environment, stdout=output, stderr=output
        )
        try:
            _wait_for(server, process, log)
            yield server
            server.shut_down_kernels()
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            server.ask("GET", "status")
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}") from None
            time.sleep(0.1)  # there is nothing to listen to before the server is up


# -- a notebook on the page -------------------------------------------------------------------------------------------

PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
WIDGET_TROUBLE = re.compile(
    "Error (displaying|creating) widget|Click to show javascript error|Loading widget"
    "|An interactive figure: run the notebook"  # the last resort, where neither the widget nor its picture is shown
)

KERNEL_IS_IDLE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget, kernel = panel?.sessionContext?.session?.kernel;
    return panel?.sessionContext?.isReady && kernel?.connectionStatus === 'connected' && kernel?.status === 'idle';
}"""
TRUST_ALL = """() => {  // what the command notebook:trust does once its dialog is answered; more may be coming in yet
    const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === 'code');
    const all = cells.every(cell => cell.trusted);
    cells.forEach(cell => { cell.trusted = true; });
    return all;
}"""
RUN_IS_OVER = """panel => {
    const open = cell => !cell.querySelector('.jp-Cell-inputWrapper .jp-Placeholder');  // a folded cell shows no number
    const cells = [...document.querySelectorAll(panel + ' .jp-CodeCell')].filter(open);
    const prompts = cells.map(cell => cell.querySelector('.jp-InputPrompt').textContent.trim());
    const failed = document.querySelector(panel + ' [data-mime-type="application/vnd.jupyter.error"]');
    return prompts.every(text => failed ? !text.includes('*') : /^\\[\\d+\\]:?$/.test(text));  // an error ends the run
}"""
# MathJax sets formulas after the page is there; until then their TeX is to be read in it
NO_TEX_IS_LEFT = """panel => ![...document.querySelectorAll(panel + ' .jp-RenderedMarkdown')].some(text => {
    const copy = text.cloneNode(true);
    copy.querySelectorAll('code, pre, mjx-container').forEach(part => part.remove());
    return /\\$\\$|\\\\(mathbf|bar|sqrt|tag|mathcal)\\b/.test(copy.textContent);
})"""
MATH_ERRORS = """panel => [...document.querySelectorAll(panel + ' mjx-merror, ' + panel + ' mjx-container [style*="color: red"]')]
    .map(error => (error.dataset.mjxError ?? 'an unknown macro') + ' in ' + error.closest('.jp-Cell').innerText.slice(0, 300))
"""
PICTURES = """panel => [...document.querySelectorAll(panel + ' .jp-OutputArea img')].map(image => ({
    alt: image.alt, live: image.classList.contains('widget-image'), loaded: image.complete && image.naturalWidth > 0,
    visible: image.checkVisibility() && image.getBoundingClientRect().height > 0,
    overflow: image.getBoundingClientRect().right > image.closest('.jp-OutputArea').getBoundingClientRect().right + 1,
}))"""
PICTURES_ARE_LOADED = (
    """panel => [...document.querySelectorAll(panel + ' .jp-OutputArea img')].every(image => image.complete)"""
)
DIGEST = """async image => {
    try {
        const bytes = await (await fetch(image.src)).arrayBuffer();
        const digest = await crypto.subtle.digest('SHA-1', bytes);
        return [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, '0')).join('');
    } catch { return null; }  // replaced while it was being read
}"""
PIXELS = """image => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const paper = canvas.getContext('2d');
    paper.drawImage(image, 0, 0);
    const red = paper.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 0);
    return {width: canvas.width, height: canvas.height, shades: new Set(red).size};
}"""


class Notebook:
    """A notebook open in JupyterLab, as the reader sees it. `path` is relative to the server's root."""

    def __init__(self, page: Page, server: Server, path: str) -> None:
        self.page, self.server, self.path = page, server, path
        page.goto(f"{server.url}/lab/tree/{path}?reset&token={server.token}")
        self.panel = page.locator(PANEL)
        self.panel.locator(".jp-Cell").first.wait_for(timeout=PATIENCE)

    # -- running

    def wait_for_kernel(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(KERNEL_IS_IDLE, polling=EVERY, timeout=PATIENCE)

    def menu_run_all(self) -> None:
        """Choose Run All from the menu."""
        self.wait_for_kernel()
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()

    def run_all(self) -> None:
        """Run All, and wait for its end."""
        self.menu_run_all()
        self.page.wait_for_function(RUN_IS_OVER, arg=PANEL, polling=EVERY, timeout=LONG)
        self.wait_for_kernel()

    def command(self, name: str) -> None:
        """Execute one of JupyterLab's commands, without waiting for what it starts."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); }", name)

    def trust(self) -> None:
        """Let the stored outputs do everything, scripts and widgets too."""
        self.wait_for_kernel()
        self.page.wait_for_function(TRUST_ALL, polling=EVERY, timeout=PATIENCE)

    def cell(self, text: str) -> Locator:
        """The code cell with `text` in its source."""
        return self.panel.locator(".jp-CodeCell").filter(has=self.page.locator(".jp-InputArea", has_text=text))

    def select(self, cell: Locator) -> None:
        """Make the cell the active one."""
        cell.locator(".jp-InputPrompt").click()

    def start(self, cell: Locator) -> None:
        """Start the cell, without waiting for its end."""
        self.select(cell)
        self.command("notebook:run-cell")

    def wait_for_cell(self, cell: Locator) -> None:
        """Wait until the cell has its number."""
        prompt = cell.locator(".jp-InputPrompt")
        prompt.filter(has_text=re.compile(r"\[\d+\]")).wait_for(timeout=LONG)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that is not on the page."""
        deadline = time.monotonic() + PATIENCE / SECOND
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.page.wait_for_timeout(EVERY)

    def run_code(self, code: str) -> str:
        """Run `code` in a new cell at the notebook's end, and return the text it gives."""
        self.page.evaluate(
            """async code => {
                const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
                notebook.activeCellIndex = notebook.widgets.length - 1;
                await app.commands.execute('notebook:insert-cell-below');
                notebook.activeCell.model.sharedModel.setSource(code);
                app.commands.execute('notebook:run-cell');
            }""",
            code,
        )
        cell = self.panel.locator(".jp-CodeCell").last
        self.wait_for_cell(cell)
        self.wait_for_kernel()
        output = cell.locator(".jp-OutputArea-output .jp-RenderedText, .jp-OutputArea-output.jp-RenderedText")
        return "\n".join(part.inner_text() for part in output.all()).strip()

    # -- reading

    def wait_for_math(self) -> None:
        """Wait until all formulas are set."""
        self.page.wait_for_function(NO_TEX_IS_LEFT, arg=PANEL, polling=EVERY, timeout=PATIENCE)

    def trouble(self) -> list[str]:
        """Everything on the page that a reader should never see: errors of cells, widgets, formulas and pictures."""
        self.wait_for_math()
        self.page.wait_for_function(
            PICTURES_ARE_LOADED, arg=PANEL, polling=EVERY, timeout=PATIENCE
        )  # or have failed to
        kinds = ["application/vnd.jupyter.error", "application/vnd.jupyter.stderr"]
        failed = [
            f"output: {output.inner_text()[:500]}"
            for kind in kinds
            for output in self.panel.locator(f'[data-mime-type="{kind}"]').all()
        ]
        outputs = self.panel.locator(".jp-OutputArea-output").all_inner_texts()
        failed += [f"widget: {text[:200]}" for text in outputs if WIDGET_TROUBLE.search(text)]
        failed += [f"formula: {text}" for text in self.page.evaluate(MATH_ERRORS, PANEL)]
        for i, picture in enumerate(self.page.evaluate(PICTURES, PANEL)):
            if not (picture["loaded"] and picture["visible"]):
                failed.append(f"picture {i} is not to be seen: {picture}")
            if not picture["live"] and picture["alt"].strip() in ("", "Image"):  # JupyterLab's own word for no text
                failed.append(f"picture {i} has no alt text")
            if picture["overflow"]:
                failed.append(f"picture {i} is wider than the page")
        return failed

    def screenshots(self, name: str) -> None:
        """Store the whole notebook in .artifacts/, in pieces as high as the window: name-01.png, name-02.png, ..."""
        ARTIFACTS.mkdir(exist_ok=True)
        for old in ARTIFACTS.glob(f"{name}-[0-9][0-9].png"):
            old.unlink()
        paper = self.panel.locator(".jp-WindowedPanel-outer")
        window, whole = paper.evaluate("""paper => {
            const bottom = [...paper.querySelectorAll('.jp-Cell')].at(-1).getBoundingClientRect().bottom;
            return [paper.clientHeight, bottom - paper.getBoundingClientRect().top + paper.scrollTop];
        }""")
        for i in range(math.ceil(whole / window)):
            paper.evaluate("(paper, top) => { paper.scrollTop = top; }", i * window)
            paper.screenshot(path=ARTIFACTS / f"{name}-{i + 1:02}.png")


def digest(image: Locator) -> str:
    """A fingerprint of the picture's bytes."""
    for _ in range(100):
        if found := image.evaluate(DIGEST):
            return found
    raise AssertionError("the picture was replaced each time it was looked at")


def wait_for_new_picture(image: Locator, old: str) -> None:
    """Wait until the picture's bytes differ from those with the fingerprint `old`."""
    _wait_for_picture(image, "now !== old", old)


def wait_for_old_picture(image: Locator, old: str) -> None:
    """Wait until the picture's bytes are again those with the fingerprint `old`."""
    _wait_for_picture(image, "now === old", old)


def _wait_for_picture(image: Locator, condition: str, old: str) -> None:
    image.page.wait_for_function(
        f"async ([image, old]) => {{ const now = await ({DIGEST})(image); return now !== null && {condition}; }}",
        arg=[image.element_handle(), old],
        timeout=PATIENCE,
    )


@dataclass
class Visit:
    """An open page, what it asked for, and what went wrong on it."""

    page: Page
    asked: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)


def visited(browser: Browser, viewport: ViewportSize, address: str) -> Visit:
    """Opens a page in a context of its own, and listens."""
    visit = Visit(browser.new_context(viewport=viewport, color_scheme="light").new_page())
    visit.page.on("request", lambda request: visit.asked.append(request.url))
    visit.page.on("console", lambda said: visit.trouble.append(said.text) if said.type == "error" else None)
    visit.page.on("pageerror", lambda error: visit.trouble.append(str(error)))
    visit.page.on("response", lambda answer: visit.trouble.append(answer.url) if answer.status >= 400 else None)
    visit.page.goto(address, timeout=PATIENCE)
    return visit
