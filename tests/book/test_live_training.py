"""A run beside the notebook is not lost: one training at a time in a folder, saves while it goes on, and what goes wrong."""

import asyncio
import math
import re
import threading
import time

import ipywidgets
import pytest
import torch
from ipywidgets.widgets.widget import _instances as open_widgets
from small_runs import IMAGES, small_trainer, wait_until

from diffnotes import Trainer
from diffnotes.book.live import cells
from diffnotes.book.live import training as live_training
from diffnotes.book.live import widgets as live
from diffnotes.book.live.comparison import Comparison
from diffnotes.book.live.dashboard import Dashboard
from diffnotes.book.live.keeping import is_earlier_state
from diffnotes.training.run_folder import RunInUse, own
from diffnotes.training.trainer import TrainingDiverged

FOREVER = 60.0  # seconds of training that no test waits for


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What is displayed, newest last."""
    displayed: list[dict] = []
    monkeypatch.setattr(live, "display", lambda what, **options: displayed.append(what | {"options": options}))
    return displayed


@pytest.fixture(autouse=True)
def nothing_goes_on_after_a_test():
    yield
    for left in list(live_training._training):
        left.stop()
    wait_until(lambda: not live_training._training)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A reader at a page; the list's last entry is the cell that runs."""
    running = ["first cell"]
    monkeypatch.setattr(cells, "cell_id", lambda: running[-1])
    return running


def dashboard_of(trainer: Trainer, folder, seconds: float = FOREVER, **options) -> Dashboard:
    return Dashboard(trainer, seconds=seconds, folder=folder, **({"steps": 1} | options))


def running(folder, **settings) -> Dashboard:
    """A dashboard that trains, after its first update."""
    dashboard = dashboard_of(small_trainer(**settings), folder)
    wait_until(lambda: dashboard.live.trainers[0].update >= 1)
    return dashboard


def button(dashboard: Dashboard, words: str) -> ipywidgets.Button:
    """The button with these words on it, that is shown."""
    shown = [part for part in cells.parts([dashboard.live.widget]) if isinstance(part, ipywidgets.Button)]
    (found,) = [one for one in shown if one.description == words]
    return found


def stop(dashboard: Dashboard) -> None:
    dashboard.live.button.click()
    asyncio.run(dashboard.finished())


def updates(folder) -> int:
    return Trainer.load(folder, IMAGES).update


# -- one training at a time in a folder ---------------------------------------------------------------------------------


def test_a_second_start_asks_and_the_first_goes_on_meanwhile(page, tmp_path):
    first = running(tmp_path / "mine")
    second = dashboard_of(small_trainer(seed=1), tmp_path / "mine")
    question, _buttons, earlier = second.live.widget.children
    where = re.escape(f"<code>{tmp_path / 'mine'}</code>")
    asked = rf"A training is running on {where} \(since \d\d:\d\d, update \d+\)\. The new one has not been started\."
    assert re.match(asked, question.value) and earlier is first.live.widget
    before = first.live.trainers[0].update
    wait_until(lambda: first.live.trainers[0].update > before)
    assert second.live.trainers[0].update == 0 and not second.live.training

    button(second, "Keep it").click()
    assert "was kept; the new one has not been started" in question.value

    async def stopped() -> None:
        waiting = asyncio.ensure_future(second.finished())  # for the one that was kept
        await asyncio.sleep(0.2)
        assert not waiting.done()
        first.live.button.click()
        await waiting

    asyncio.run(stopped())
    assert second.live.trainers[0].update == 0 and not first.live.training
    assert updates(tmp_path / "mine") == first.live.trainers[0].update
    assert not (tmp_path / "mine-1").exists()


def test_stop_it_and_start_this_one_loses_neither(page, tmp_path, shown):
    first = running(tmp_path / "mine")
    second = dashboard_of(small_trainer(seed=1), tmp_path / "mine")
    question, buttons, _ = second.live.widget.children
    button(second, "Stop it and start this one").click()
    assert question.comm is None and buttons.children[0].comm is None
    assert second.live.button.description == "Waiting ..." and second.live.button.disabled
    wait_until(lambda: second.live.trainers[0].update >= 2)
    assert not first.live.training and second.live.button.description == "Stop" and not second.live.button.disabled
    assert first.live.widget.comm is None  # the cell that had shown it shows the second now
    stop(second)
    for dashboard, folder in ((first, tmp_path / "mine-1"), (second, tmp_path / "mine")):
        assert Trainer.load(folder, IMAGES).history == dashboard.live.trainers[0].history
    moved = f" The run that was in <code>{tmp_path / 'mine'}</code> is now in <code>{tmp_path / 'mine-1'}</code>."
    assert moved in second.live.status.value
    before = len(shown)
    asyncio.run(first.finished())  # its cell has other output now: there is nothing to be updated
    assert len(shown) == before


def test_in_another_cell_the_first_dashboard_stays(page, tmp_path):
    first = running(tmp_path)
    page.append("another cell")
    second = dashboard_of(small_trainer(seed=1), tmp_path)
    button(second, "Stop it and start this one").click()
    wait_until(lambda: second.live.trainers[0].update >= 1)
    stop(second)
    assert first.live.widget.comm is not None and first.live.button.description == "Resume"


def test_resume_asks_too_where_another_run_has_begun(page, tmp_path):
    first = running(tmp_path)
    stop(first)
    second = running(tmp_path, seed=1)  # in the same folder, which is free
    first.live.button.click()
    assert "A training is running on" in first.live.widget.children[0].value and not first.live.training
    stop(second)
    asyncio.run(asyncio.wait_for(resumed(first), 30))
    assert Trainer.load(f"{tmp_path}-1", IMAGES).history  # the first's, beside the second's
    assert Trainer.load(f"{tmp_path}-2", IMAGES).history == second.live.trainers[0].history
    assert Trainer.load(tmp_path, IMAGES).history == first.live.trainers[0].history


async def resumed(dashboard: Dashboard) -> None:
    """The one in the way has ended, so that the waiting cell lets this one begin; then stop it."""
    waiting = asyncio.ensure_future(dashboard.finished())
    while not dashboard.live.training:
        await asyncio.sleep(0.01)
    dashboard.live.button.click()
    await waiting


def test_without_a_reader_the_first_is_stopped_and_neither_is_lost(tmp_path):
    first = running(tmp_path / "mine")
    second = dashboard_of(small_trainer(seed=1), tmp_path / "mine", seconds=0.05)
    asyncio.run(second.finished())
    assert not first.live.training and second.live.button.description == "Train 60 s more"
    for dashboard, folder in ((first, tmp_path / "mine-1"), (second, tmp_path / "mine")):
        assert Trainer.load(folder, IMAGES).history == dashboard.live.trainers[0].history


def test_the_same_trainer_goes_on_in_the_new_dashboard_without_a_question(page, tmp_path):
    first = running(tmp_path / "mine")
    trainer = first.live.trainers[0]
    second = dashboard_of(trainer, tmp_path / "mine")
    wait_until(lambda: second.live.button.description == "Stop")
    reached = trainer.update
    wait_until(lambda: trainer.update > reached)
    stop(second)
    assert [state.update for state in trainer.history] == list(range(1, trainer.update + 1)) and not first.live.training
    assert updates(tmp_path / "mine") == trainer.update and not (tmp_path / "mine-1").exists()


def test_a_cell_that_runs_again_asks_about_its_training_though_that_has_no_folder(page):
    first = Comparison({"a": small_trainer(), "b": small_trainer("eps")}, seconds=FOREVER, steps=1)
    second = Comparison({"a": small_trainer(), "b": small_trainer("eps")}, seconds=FOREVER, steps=1)
    assert re.match(
        r"A training is running \(since \d\d:\d\d, updates \d+ and \d+\)\.", second.live.widget.children[0].value
    )
    page.append("another cell")
    third = Comparison({"a": small_trainer(), "b": small_trainer("eps")}, seconds=0.01, steps=1)
    asyncio.run(third.finished())  # neither its cell nor its folders are in use
    first.live.button.click()
    asyncio.run(first.finished())


def test_a_folder_with_another_owner_is_refused_and_its_owner_named(tmp_path, shown):
    with (
        own(tmp_path, by=object(), purpose="training at the command line"),
        pytest.raises(RunInUse, match="is in use: training at the command line, by this process"),
    ):
        dashboard_of(small_trainer(), tmp_path)
    assert shown == []


@pytest.mark.parametrize("folder", ["a file", "a file/mine"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_training(tmp_path, shown, folder):
    (tmp_path / "a file").touch()
    trainer, open_before = small_trainer(), len(open_widgets)
    with pytest.raises(OSError, match=r"^folder must be one that can be written to, got .*a file.*: "):
        dashboard_of(trainer, tmp_path / folder)
    assert trainer.update == 0 and shown == [] and len(open_widgets) == open_before


# -- saves ----------------------------------------------------------------------------------------------------------------


def test_it_is_saved_while_it_trains(tmp_path):
    dashboard = dashboard_of(small_trainer(), tmp_path, save_every=0.05)
    wait_until((tmp_path / "checkpoint.safetensors").exists)
    first = updates(tmp_path)
    wait_until(lambda: updates(tmp_path) > first > 0)
    assert dashboard.live.training
    stop(dashboard)


@pytest.mark.parametrize("every", [0, -1, math.nan])
def test_an_interval_that_is_none_is_refused(tmp_path, every):
    with pytest.raises(ValueError, match=f"^save_every must be a positive number of seconds, got {every}$"):
        dashboard_of(small_trainer(), tmp_path, save_every=every)


def test_a_run_of_yesterday_is_not_written_over(tmp_path):
    yesterday = small_trainer()
    list(yesterday.steps(updates=3))
    yesterday.save(tmp_path / "mine")
    dashboard = dashboard_of(small_trainer(seed=1), tmp_path / "mine", seconds=0.05, save_every=0.01)
    asyncio.run(dashboard.finished())
    assert Trainer.load(tmp_path / "mine-1", IMAGES).history == yesterday.history
    assert Trainer.load(tmp_path / "mine", IMAGES).history == dashboard.live.trainers[0].history
    asyncio.run(dashboard_of(small_trainer(seed=2), tmp_path / "mine", seconds=0.01).finished())
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "mine-1", "mine-2"}


def test_a_run_that_goes_on_stays_in_its_folder(tmp_path):
    run = small_trainer()
    list(run.steps(updates=3))
    run.save(tmp_path / "mine")
    resumed = Trainer.load(tmp_path / "mine", IMAGES)
    asyncio.run(dashboard_of(resumed, tmp_path / "mine", seconds=resumed.seconds + 0.05).finished())
    assert updates(tmp_path / "mine") == resumed.update > 3
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


def test_a_checkpoint_is_an_earlier_state_of_a_run_if_it_has_the_runs_own_history(tmp_path):
    run, other = small_trainer(), small_trainer()
    path = run.save(tmp_path)
    assert is_earlier_state(path, other)  # nothing was trained: nothing can be lost
    list(run.steps(updates=2))
    run.save(tmp_path)
    assert is_earlier_state(path, run) and not is_earlier_state(path, other)
    list(run.steps(updates=3))
    assert is_earlier_state(path, run)
    list(other.steps(updates=3))  # the same seed, and the same losses, in other seconds
    assert other.history[1].loss == run.history[1].loss and not is_earlier_state(path, other)
    run.save(tmp_path)
    assert not is_earlier_state(path, Trainer.load(small_trainer().save(tmp_path / "fresh"), IMAGES))
    path.write_bytes(b"damaged")
    assert not is_earlier_state(path, run)


# -- what goes wrong ------------------------------------------------------------------------------------------------------


def test_an_error_in_drawing_is_said_and_the_training_goes_on(tmp_path, monkeypatch):
    def fail(_self):
        raise RuntimeError("no <ink> left")

    monkeypatch.setattr(Dashboard, "draw_samples", fail)
    dashboard = dashboard_of(small_trainer(), tmp_path, seconds=0.2, grid_every=0.0)
    asyncio.run(dashboard.finished())
    assert dashboard.live.trainers[0].seconds >= 0.2 and updates(tmp_path) == dashboard.live.trainers[0].update
    said = dashboard.live.status.value
    assert "Done; saved to" in said and "<b>⚠</b> Drawing samples failed (RuntimeError: no &lt;ink&gt; left)." in said
    assert dashboard.live.button.description == "Train 60 s more"


def test_curves_that_cannot_be_drawn_are_said_too_and_come_back(tmp_path, monkeypatch):
    dashboard, redraw = running(tmp_path), Dashboard.redraw
    monkeypatch.setattr(Dashboard, "redraw", lambda self, left: 1 / 0)
    wait_until(lambda: "Drawing the curves failed (ZeroDivisionError" in dashboard.live.status.value)
    monkeypatch.setattr(Dashboard, "redraw", redraw)
    wait_until(lambda: "failed" not in dashboard.live.status.value)
    stop(dashboard)


def test_a_save_that_fails_is_said_and_tried_again(tmp_path, monkeypatch):
    failing, save = [True], Trainer.save

    def full(self, folder):
        if failing[0]:
            raise OSError(28, "No space left on device")
        return save(self, folder)

    monkeypatch.setattr(Trainer, "save", full)
    dashboard = dashboard_of(small_trainer(), tmp_path, save_every=0.05)
    said = "Saving failed (OSError: [Errno 28] No space left on device). It is tried again every 0.05 s."
    wait_until(lambda: said in dashboard.live.status.value)
    failing[0] = False
    wait_until((tmp_path / "checkpoint.safetensors").exists)
    wait_until(lambda: "failed" not in dashboard.live.status.value)
    failing[0] = True
    dashboard.live.button.click()
    with pytest.raises(OSError, match="No space left"):
        asyncio.run(dashboard.finished())
    assert dashboard.live.status.value.endswith("<b>⚠</b> Saving failed (OSError: [Errno 28] No space left on device).")

    failing[0] = False
    button(dashboard, "Save again").click()
    asyncio.run(dashboard.finished())
    assert updates(tmp_path) == dashboard.live.trainers[0].update
    assert "Stopped; saved to" in dashboard.live.status.value and dashboard.live.button.description == "Resume"


def test_after_an_error_in_the_training_what_was_reached_is_saved_and_no_button_offers_more(tmp_path):
    dashboard = running(tmp_path)
    trainer = dashboard.live.trainers[0]
    with torch.no_grad():
        trainer.model.first.bias[0] = math.nan
    with pytest.raises(TrainingDiverged, match="the loss is nan"):
        asyncio.run(dashboard.finished())
    assert dashboard.live.button.layout.display == "none"
    said = dashboard.live.status.value
    assert f" Stopped by an error, TrainingDiverged: update {trainer.update + 1}: the loss is nan" in said
    assert f"; saved to <code>{tmp_path / 'checkpoint.safetensors'}</code>." in said
    assert updates(tmp_path) == trainer.update >= 1


def test_stop_says_stopped_when_it_has(tmp_path, monkeypatch):
    saving, save = threading.Event(), Trainer.save

    def slow(self, folder):
        saving.wait(30)
        return save(self, folder)

    dashboard = running(tmp_path)
    monkeypatch.setattr(Trainer, "save", slow)
    dashboard.live.button.click()
    time.sleep(0.1)
    assert dashboard.live.button.description == "Stopping ..." and dashboard.live.button.disabled
    assert "Stopped" not in dashboard.live.status.value and dashboard.live.training
    saving.set()
    asyncio.run(dashboard.finished())
    assert dashboard.live.button.description == "Resume" and not dashboard.live.button.disabled
    assert "Stopped; saved to" in dashboard.live.status.value and not dashboard.live.training


def test_threads_that_a_cell_beside_a_training_leaves_waiting_are_given_back(monkeypatch, tmp_path):
    class Shell:
        def __init__(self):
            self.after = []
            self.events = self

        def register(self, name, function):
            self.after.append((name, function))

    shell, given_back = Shell(), []
    monkeypatch.setattr(live_training, "get_ipython", lambda: shell)
    monkeypatch.setattr(live_training, "_watched", [])
    monkeypatch.setattr(live_training, "release_idle_threads", lambda: given_back.append(True))
    dashboard = running(tmp_path)
    ((name, after_a_cell),) = shell.after
    before = len(given_back)
    after_a_cell(None)
    assert name == "post_run_cell" and len(given_back) == before + 1
    dashboard.live.stop()
    asyncio.run(dashboard.finished())
    after_a_cell(None)
    assert len(given_back) == before + 1
    running(tmp_path)
    assert len(shell.after) == 1
