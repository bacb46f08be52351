"""A cell that runs again closes what it showed before: counted in a real kernel."""

import sys
from collections.abc import Callable, Iterator

import ipywidgets
import jupyter_client
import psutil
import pytest

from diffnotes.book.live import cells
from diffnotes.book.live.widgets import show_widget

COUNT = """
import comm
print(len(comm.get_comm_manager().comms))
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., str]]:
    """run(code, cell): what the code prints in a kernel that is told the cell's name, as by JupyterLab, or no name."""
    manager = jupyter_client.KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)

    def run_one(code: str, cell: str | None = None) -> str:
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = client.session.msg("execute_request", content)
        message["metadata"] = {} if cell is None else {"cellId": cell}
        client.shell_channel.send(message)
        printed = []
        while True:
            answer = client.get_iopub_msg(timeout=60)
            if answer["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                assert answer["msg_type"] != "error", "\n".join(answer["content"]["traceback"])
                if answer["content"].get("name") == "stdout":
                    printed.append(answer["content"]["text"])
                if answer["content"].get("execution_state") == "idle":
                    return "".join(printed)

    run_one(
        "from diffnotes.book import explorers\nimport ipywidgets\nfrom diffnotes.book.live.widgets import show_widget"
    )
    yield run_one
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def comms(run: Callable[..., str]) -> int:
    return int(run(COUNT))


def test_ten_runs_of_an_explorers_cell_leave_as_many_comms_as_one(run):
    before = comms(run)
    run("explorers.kl()", "an explorer")
    once = comms(run)
    for _ in range(9):
        run("explorers.kl()", "an explorer")
    assert comms(run) == once > before + 10
    run("1 + 1", "an explorer")  # the cell shows nothing any more
    assert comms(run) == before


def test_other_cells_keep_what_they_show(run):
    before = comms(run)
    run("e = explorers.build_kl()\ne.show()", "one")
    each = comms(run) - before
    run("e.show()", "two")  # the same again
    run("explorers.kl()", "three")
    assert comms(run) == before + 2 * each
    run("pass", "one")
    assert comms(run) == before + 2 * each  # it still stands in cell two
    run("pass", "two")
    assert comms(run) == before + each
    run("e.show()", "one")  # and is opened again where it is asked for again
    assert comms(run) == before + 2 * each and run("print(e.plot.image.comm is not None)").strip() == "True"
    run("pass", "one")
    run("pass", "three")
    assert comms(run) == before


def test_what_a_cell_shows_again_stays_open(run):
    before = comms(run)
    run("box = ipywidgets.VBox([ipywidgets.HTML('words')])", "made here")
    for _ in range(3):
        run("show_widget(box, 'words')\nexplorers.kl()", "shown here")
        assert run("print(box.comm is not None, box.children[0].comm is not None)").strip() == "True True"
    after = comms(run)
    run("show_widget(box, 'words')\n1 / 1", "shown here")
    assert before < comms(run) < after
    run("box.close()", "shown here")


def test_where_no_cell_is_named_nothing_is_closed(run):
    before = comms(run)
    run("explorers.kl()")
    once = comms(run) - before
    run("explorers.kl()")
    assert comms(run) == before + 2 * once


def test_outside_a_kernel_nothing_happens():
    assert cells.cell_id() is None
    widget = ipywidgets.HTML("words")
    show_widget(widget, "words")
    assert widget.comm is not None
    widget.close()
    show_widget(widget, "words", display_id="x", update=True)  # closed: its output is gone
    assert widget.comm is None


def test_the_parts_of_a_widget_are_all_that_has_a_connection():
    before = set(cells.parts([]))
    slider, words = ipywidgets.IntSlider(), ipywidgets.HTML("words")
    box = ipywidgets.VBox([ipywidgets.HBox([slider]), words])
    found = cells.parts([box, slider])
    assert not before and len(found) == len(set(found))
    assert {slider, slider.layout, slider.style, words, words.layout, box, box.layout, box.children[0]} <= set(found)
    assert cells.close([box], kept=[slider]) and slider.comm is not None and slider.style.comm is not None
    assert words.comm is None and words.layout.comm is None and box.layout.comm is None
    assert cells.close([slider]) and not cells.close([box])


@pytest.mark.parametrize(
    "words, converted",
    [
        (["python", "/venv/bin/jupyter-nbconvert", "--execute", "x.ipynb"], True),
        (["python", "-m", "nbconvert", "x.ipynb"], True),
        (
            ["C:\\venv\\python.exe", "C:\\venv\\Scripts\\jupyter-nbconvert-script.py", "x.ipynb"],
            sys.platform == "win32",
        ),
        (["python", "/home/me/nbconvert/bin/jupyter-lab", "jupyter-nbconvert"], False),
        (["python", "-m", "jupyterlab", "nbconvert"], False),
        (["pytest", "--nbval", "notebooks"], False),
        ([], False),
    ],
)
def test_nbconvert_is_told_by_the_program_that_started_the_kernel(monkeypatch, words, converted):
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _self: words)
    assert cells.is_converted.__wrapped__() is converted


def test_only_the_newest_pictures_stay_in_memory(run):
    code = """
import gc
from PIL import Image
import numpy as np
sheets = [("x", Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400), dtype=np.uint8)))] * 2
def held():
    gc.collect()
    return sum(len(w.value) for w in gc.get_objects() if isinstance(w, ipywidgets.Image))
"""
    run(code)
    for _ in range(5):
        run("explorers.pictures('Title', 'u', sheets, alt='Noise.')", "pictures")
    assert int(run("print(held())")) < 2 * 400 * 400
