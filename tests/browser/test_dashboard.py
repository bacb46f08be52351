"""The training dashboard of chapter 6: it shows the run, Stop stops it, Resume goes on; two runs compared; a second start in
the same folder, and a kernel that is restarted; and the kernel's own interrupt."""

import json
import re
import time
from collections.abc import Callable

import nbformat
import pytest
from lab import EVERY, LONG, PATIENCE, PIXELS, Notebook, Server, digest, wait_for_new_picture
from playwright.sync_api import Locator, expect

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("dashboard")]  # in one process


class Dashboard:
    """The dashboard on the page."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.cell = notebook.cell("dashboard = Dashboard(")
        self.waiting = notebook.cell("await dashboard.finished()")
        box = self.cell.locator(".jp-OutputArea-output .widget-vbox").first
        self.button = box.get_by_role("button")
        self.status = box.locator(".widget-html-content")
        pictures = box.locator("img.widget-image")
        self.curves, self.digits, self.digits_of_last_weights = (
            (pictures.first, pictures.nth(-2), pictures.last) if box.count() else (None, None, None)
        )  # rows of snapshots come between the first and the others while it trains

    def wait_for_button(self, name: str | re.Pattern[str]) -> None:
        expect(self.button).to_have_text(name, timeout=LONG)

    def press(self, key: str) -> None:
        self.button.focus()
        self.notebook.page.keyboard.press(key)

    @property
    def update(self) -> int:
        """The number of updates that the status line gives."""
        found = re.search(r"update ([\d,]+) · [\d,]+ images seen · loss \d\.\d+ · ", self.status.inner_text())
        return int(found[1].replace(",", "")) if found else 0

    def wait_for_update(self, least: int) -> None:
        """Wait until the status line tells of update `least`, or a later one."""
        wait_for_update(self.status, least)

    def updates_of_a_second(self) -> int:
        """How many updates the trainer makes while the kernel looks on for a second."""
        look = "import time\nbefore = trainer.update\ntime.sleep(1)\ntrainer.update - before"
        return int(self.notebook.run_code(look))


def wait_for_update(line: Locator, least: int) -> None:
    """Wait until the line tells of update `least`, or a later one. It is looked for anew each time: the page may have drawn
    the output again in the meantime."""
    deadline, told = time.monotonic() + LONG / 1000, ""
    while time.monotonic() < deadline:
        told = line.text_content() or ""
        found = re.search(r"update ([\d,]+)", told)
        if found and int(found[1].replace(",", "")) >= least:
            return
        line.page.wait_for_timeout(EVERY)
    raise AssertionError(f"no update {least} in {LONG / 1000:.0f} s; the line says {told!r}")


@pytest.fixture(scope="module")
def chapter(open_notebook: Callable[[str], Notebook]) -> Notebook:
    """Chapter 6, run down to the slider that says how long to train."""
    notebook = open_notebook("06_training.ipynb")
    notebook.wait_for_kernel()
    notebook.select(notebook.cell("dashboard = Dashboard("))
    notebook.command("notebook:run-all-above")
    notebook.panel.get_by_role("slider", name="seconds", exact=True).wait_for(timeout=LONG)
    notebook.wait_for_kernel()
    return notebook


def start_dashboard(notebook: Notebook, seconds_key: str = "") -> Dashboard:
    """Press a key on the slider, if one is given, then run the two cells below it."""
    if seconds_key:
        notebook.panel.get_by_role("slider", name="seconds", exact=True).focus()
        notebook.page.keyboard.press(seconds_key)
        notebook.wait_for_kernel()
    cell = notebook.cell("dashboard = Dashboard(")
    notebook.select(cell)
    notebook.command("notebook:clear-cell-output")
    expect(cell.locator("img.widget-image")).to_have_count(0)
    notebook.start(cell)
    notebook.start(notebook.cell("await dashboard.finished()"))  # the reader may run all the cells between them before
    cell.locator("img.widget-image").nth(2).wait_for(state="attached", timeout=LONG)
    return Dashboard(notebook)


def shades(image: Locator) -> int:
    """How many shades of grey the picture has."""
    return image.evaluate(PIXELS)["shades"]


def test_a_run_to_its_end_and_a_minute_more(server: Server, chapter: Notebook) -> None:
    dashboard = start_dashboard(chapter)
    dashboard.wait_for_update(1)
    update, status, picture = dashboard.update, dashboard.status.inner_text(), digest(dashboard.curves)
    noise = digest(dashboard.digits)
    dashboard.wait_for_update(update + 1)
    assert dashboard.status.inner_text() != status
    wait_for_new_picture(dashboard.curves, picture)

    chapter.wait_for_cell(dashboard.waiting)
    dashboard.wait_for_button(re.compile(r"Train \d+ s more"))
    expect(dashboard.status).to_contain_text("Done; saved to", timeout=PATIENCE)
    assert (server.runs / "mine" / "checkpoint.safetensors").stat().st_size > 1_000_000
    assert shades(dashboard.curves) > 20 and shades(dashboard.digits) > 100
    drawn = {digest(dashboard.digits), digest(dashboard.digits_of_last_weights)}
    assert len(drawn) == 2 and noise not in drawn
    rows = dashboard.cell.get_by_text(re.compile(r"^[\d,]+ updates")).all_inner_texts()
    assert rows[0] == "0 updates" and len(rows) == 1 + sum(dashboard.update >= n for n in (50, 100, 200, 500, 1000))
    chapter.screenshots("06_training-dashboard-at-its-end")

    update = dashboard.update
    dashboard.press("Enter")
    dashboard.wait_for_button("Stop")
    dashboard.wait_for_update(update + 1)
    dashboard.button.click()
    dashboard.wait_for_button("Resume")
    assert chapter.trouble() == []


def test_stop_and_resume(server: Server, chapter: Notebook) -> None:
    before = int(chapter.run_code("trainer.update"))
    dashboard = start_dashboard(chapter, seconds_key="End")
    expect(dashboard.waiting.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\*\]"), timeout=PATIENCE)
    dashboard.wait_for_update(before + 2)

    dashboard.press("Space")
    chapter.wait_for_cell(dashboard.waiting)
    dashboard.wait_for_button("Resume")
    expect(dashboard.status).to_contain_text("Stopped; saved to", timeout=PATIENCE)
    stopped_at = int(chapter.run_code("trainer.update"))
    assert stopped_at == dashboard.update
    assert dashboard.updates_of_a_second() == 0

    dashboard.press("Enter")
    dashboard.wait_for_button("Stop")
    dashboard.wait_for_update(stopped_at + 1)
    dashboard.button.click()
    dashboard.wait_for_button("Resume")
    expect(dashboard.status).to_contain_text("Stopped; saved to", timeout=PATIENCE)
    assert dashboard.updates_of_a_second() == 0
    counted = "[state.update for state in trainer.history] == list(range(1, trainer.update + 1))"
    assert chapter.run_code(counted) == "True"
    assert int(chapter.run_code("Trainer.load(runs_folder() / 'mine', images).update")) == dashboard.update > stopped_at
    chapter.screenshots("06_training-dashboard-stopped")
    assert chapter.trouble() == []


COMPARISON = [
    """
from diffnotes import Schedule, Trainer, UNet, load_images
from diffnotes.book.live.comparison import Comparison

runs = {}
for name, schedule in {"linear": Schedule.linear(T=100), "cosine": Schedule.cosine(T=100)}.items():
    network = UNet(channels=8, multipliers=(1,), blocks=1, attention=0, patch=4, target="eps")
    runs[name] = Trainer(network, schedule, load_images("digits"))
comparison = Comparison(runs, seconds=300, steps=2)
""",
    "await comparison.finished()",
]


def test_two_runs_compared_stop_and_go_on_together(server: Server, open_notebook: Callable[[str], Notebook]) -> None:
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in COMPARISON]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), server.root / "scratch.ipynb")
    notebook = open_notebook("scratch.ipynb")
    notebook.menu_run_all()
    box = notebook.cell("comparison = Comparison(").locator(".jp-OutputArea-output .widget-vbox").first
    button, contents = box.get_by_role("button"), box.locator(".widget-html-content")
    lines = [contents.nth(1), contents.nth(2)]  # below the one of the whole
    expect(button).to_have_text("Stop", timeout=LONG)

    reached = [0, 0]
    for name in ("Stop", "Resume"):
        if name == "Resume":
            button.click()
        for line, update in zip(lines, reached, strict=True):
            wait_for_update(line, update + 1)
        button.click()
        notebook.wait_for_cell(notebook.cell("await comparison.finished()"))
        expect(button).to_have_text("Resume", timeout=LONG)
        reached = json.loads(notebook.run_code("import time\ntime.sleep(0.5)\n[run.update for run in runs.values()]"))
        for line, update in zip(lines, reached, strict=True):
            expect(line).to_contain_text(f"update {update:,} ·")
    assert box.locator("img.widget-image").count() == 4
    assert notebook.trouble() == []


TWO_STARTS = [
    """
from diffnotes import Schedule, TrainConfig, Trainer, UNet, load_images
from diffnotes.book import Dashboard, explorers, runs_folder

def start(seed):
    network = UNet(channels=8, multipliers=(1,), blocks=1, attention=0, patch=4, target="v")
    trainer = Trainer(network, Schedule.cosine(T=100), load_images("digits"), TrainConfig(seed=seed))
    return Dashboard(trainer, seconds=300, folder=runs_folder() / "twice", steps=2, save_every=1)

first = start(seed=0)
""",
    "second = start(seed=1)",
    "explorers.kl()",
]
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


def test_a_second_start_asks_and_what_was_saved_outlives_the_kernel(
    server: Server, open_notebook: Callable[[str], Notebook]
) -> None:
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in TWO_STARTS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), server.root / "scratch.ipynb")
    notebook = open_notebook("scratch.ipynb")
    notebook.run_all()
    first, second = notebook.cell("first = start("), notebook.cell("second = start(")
    expect(second).to_contain_text("A training is running on", timeout=PATIENCE)
    expect(second).to_contain_text("The new one has not been started.")

    # an explorer's cell that runs again leaves no comms behind, in the kernel or on the page
    explorer, counted = notebook.cell("explorers.kl()"), []
    for _ in range(3):
        notebook.start(explorer)
        notebook.wait_for_cell(explorer)
        explorer.locator("img.widget-image").wait_for()
        counted.append(
            (
                notebook.run_code("import comm\nlen(comm.get_comm_manager().comms)"),
                notebook.page.evaluate(f"{KERNEL}._comms.size"),
            )
        )
    assert counted[2] == counted[1]

    second.get_by_role("button", name="Stop it and start this one").focus()
    notebook.page.keyboard.press("Enter")
    status = second.locator(".jp-OutputArea-output .widget-html-content").first
    wait_for_update(status, 1)
    expect(first.locator(".jp-OutputArea-output .widget-html-content").first).to_contain_text("Stopped; saved to")
    expect(first.get_by_role("button", name="Resume", exact=True)).to_be_enabled()
    expect(second.get_by_role("button", name="Stop", exact=True)).to_be_enabled()
    saved = server.runs / "twice" / "checkpoint.safetensors"
    written = saved.stat().st_mtime_ns
    notebook.wait_until(lambda: saved.stat().st_mtime_ns > written)
    assert notebook.trouble() == []

    notebook.page.evaluate(f"async () => {{ await {KERNEL}.restart(); }}")
    notebook.wait_for_kernel()
    assert notebook.run_code("'second' in globals()") == "False"
    notebook.run_code("from diffnotes import Trainer\nfrom diffnotes.book import runs_folder\nfolder = runs_folder()")
    names = "for name in ('twice-1', 'twice') for run in [Trainer.load(folder / name)]"
    runs = notebook.run_code(f"[(run.config.seed, run.update) {names}]")
    (one, updates), (other, more) = json.loads(runs.replace("(", "[").replace(")", "]"))
    assert (one, other) == (0, 1) and updates > 0 and more > 0


SCRATCH = [
    """
import threading, time
import ipywidgets
from diffnotes import Schedule, Trainer, UNet, load_images

model = UNet(channels=8, multipliers=(1, 2), blocks=1, patch=2, target="eps")
trainer = Trainer(model, Schedule.linear(T=100), load_images("digits"))
watch = ipywidgets.Label("update 0")

def look():
    while True:
        watch.value = f"update {trainer.update}"
        time.sleep(0.05)

threading.Thread(target=look, daemon=True).start()
watch
""",
    "for state in trainer.steps(updates=10**6):\n    pass",
]


def test_the_interrupt_button_ends_a_plain_loop_and_keeps_its_state(
    server: Server, open_notebook: Callable[[str], Notebook]
) -> None:
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in SCRATCH]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), server.root / "scratch.ipynb")
    notebook = open_notebook("scratch.ipynb")
    notebook.menu_run_all()
    label = notebook.panel.locator(".jp-OutputArea-output .widget-label")
    expect(label).to_have_text(re.compile(r"update [1-9]"), timeout=LONG)

    notebook.panel.locator('[data-jp-item-name="interrupt"]').click()
    notebook.wait_for_cell(notebook.cell("for state in trainer.steps("))
    reached = int(notebook.run_code("trainer.update"))
    assert reached > 0 and notebook.run_code("trainer.interrupted, len(trainer.history)") == f"(True, {reached})"
    more = f"for state in trainer.steps(updates={reached + 3}):\n    pass\ntrainer.update"
    assert int(notebook.run_code(more)) == reached + 3
    assert notebook.trouble() == []
