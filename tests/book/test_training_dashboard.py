"""The dashboard without a browser: what it reads off a run, the thread that trains, and its button."""

import asyncio
import itertools
import math
import re
import statistics

import numpy as np
import pytest
import torch
from small_runs import IMAGES, sent, small_trainer, wait_until, with_history

from diffnotes import Trainer, dpm_solver_sample, initial_noise
from diffnotes.book.live import widgets as live
from diffnotes.book.live.background import round_robin
from diffnotes.book.live.dashboard import Dashboard
from diffnotes.book.live.run_view import RunView
from diffnotes.training import loop
from diffnotes.training.grid import grid_image
from diffnotes.training.trainer import TrainingDiverged

FOREVER = 60.0  # seconds of training that no test waits for


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What is displayed, newest last."""
    displayed: list[dict] = []
    monkeypatch.setattr(live, "display", lambda what, **options: displayed.append(what | {"options": options}))
    return displayed


def view(trainer: Trainer) -> RunView:
    return RunView(trainer, seconds=100, lowest=0.02, steps=2, details=True)


# -- what it reads off a run --------------------------------------------------------------------------------------------


def test_loss_by_time_is_the_median_of_the_last_and_the_first_hundred_updates():
    trainer = with_history(small_trainer(), 230)
    seen, states, rows = view(trainer), trainer.history, trainer.loss_by_time

    def medians(first: int, last: int) -> list[float]:
        """Of the updates from first to before last, for each tenth."""
        tenths = []
        for k in range(10):
            there = [float(rows[n][k]) for n in range(first, last) if not math.isnan(rows[n][k])]
            tenths.append(statistics.median(there) if there else math.nan)
        return tenths

    for updates in (1, 30, 199, 230):
        trainer.history, trainer.loss_by_time = states[:updates], rows[:updates]
        seen.redraw()
        t, now = seen.last.get_data()
        assert t.tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]  # the middles of the tenths of 20
        assert now.tolist() == pytest.approx(medians(max(updates - 100, 0), updates), rel=1e-6, nan_ok=True)
        at_first = list(seen.first.get_ydata())
        assert at_first == (pytest.approx(medians(0, 100), rel=1e-6) if updates >= 200 else [])


def test_loss_and_gradient_norm_are_those_of_the_history_and_thick_their_running_medians():
    trainer = with_history(small_trainer(), 120)
    seen = view(trainer)
    seen.redraw()
    for curve, name in ((seen.loss, "loss"), (seen.norm, "gradient_norm")):
        seconds, values = curve.raw.get_data()
        assert seconds.tolist() == [state.seconds for state in trainer.history]
        assert values.tolist() == [getattr(state, name) for state in trainer.history]
        middles, medians = curve.smooth.get_data()
        expected = [statistics.median(values[i : i + 50]) for i in range(71)]
        assert medians.tolist() == pytest.approx(expected, rel=1e-12) and middles.tolist() == list(seconds[25:96])


def test_a_long_history_is_thinned_out_and_keeps_its_ends():
    trainer = with_history(small_trainer(), 4000)
    seen = view(trainer)
    seen.redraw()
    seconds, values = seen.loss.raw.get_data()
    assert len(seconds) == 1500 and len(seen.loss.smooth.get_ydata()) == 300
    assert [values[0], values[-1]] == [trainer.history[0].loss, trainer.history[-1].loss]
    assert seen.loss.smooth.get_ydata()[-1] == pytest.approx(statistics.median(s.loss for s in trainer.history[-50:]))


def test_the_line_and_the_alt_text_give_the_median_loss():
    trainer = with_history(small_trainer(), 300)
    a, z = trainer.history[200], trainer.history[299]
    loss = statistics.median(state.loss for state in trainer.history[250:])
    speed = 8 * 99 / (z.seconds - a.seconds)
    assert (
        view(trainer).reading() == f"update 300 · 2,400 images seen · loss {loss:.3f} · {speed:.0f} images per second"
    )
    assert f"seconds of training, now {loss:.2f}." in view(trainer).curves_html()


def test_before_the_first_update_there_is_nothing_to_read():
    seen = view(small_trainer())
    seen.redraw()
    assert seen.reading() == "starting ..." and np.isnan(seen.last.get_ydata()).all()
    assert "no update yet" in seen.curves_html()


def test_digits_come_from_the_average_and_from_the_last_weights_and_from_the_same_noise():
    trainer = small_trainer(learning_rate=0.1, warmup=0)
    list(trainer.steps(updates=6))
    seen = view(trainer)
    noise = initial_noise(seed=0, batch=20)
    assert all((sent(image) == np.asarray(grid_image(noise, columns=10))).all() for image in seen.images.values())
    seen.draw_samples()
    for name, network in (("averaged weights", trainer.ema.model), ("last weights", trainer.model)):
        y = torch.arange(20) % 10
        *_, last = dpm_solver_sample(network, trainer.schedule, noise, steps=2, clip=True, y=y)
        assert (sent(seen.images[name]) == np.asarray(grid_image(last.x_t, columns=10))).all()
        assert seen.images[name].width == "596"
    assert (sent(seen.images["averaged weights"]) != sent(seen.images["last weights"])).any()


# -- in turn ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Every update takes a quarter of a second; the list tells whose it was."""
    turns, original = [], Trainer._update

    class Clock:
        def perf_counter(self) -> float:
            return 0.25 * len(turns)

    def update(self: Trainer, progress: float):
        turns.append(self)
        return original(self, progress)

    monkeypatch.setattr(loop, "time", Clock())
    monkeypatch.setattr(Trainer, "_update", update)
    return turns


def blocks(turns: list[Trainer], names: dict[Trainer, str]) -> str:
    """Whose turn it was and for how many updates: "a4 b4"."""
    return " ".join(f"{names[who]}{len(list(its))}" for who, its in itertools.groupby(turns))


def test_runs_alternate_by_the_second_until_each_has_had_its_seconds(clock):
    a, b = small_trainer(), small_trainer("eps")
    states = list(round_robin([a, b], seconds=2.5, turn=1.0))
    assert blocks(clock, {a: "a", b: "b"}) == "a4 b4 a4 b4 a2 b2"
    assert a.seconds == b.seconds == 2.5 and len(states) == 20


def test_a_run_that_is_behind_catches_up_first(clock):
    a, b, c = small_trainer(), small_trainer("eps"), small_trainer("x0")
    a.seconds, c.seconds = 2.0, 0.5
    list(round_robin([a, b, c], seconds=3.0, turn=1.0))
    assert blocks(clock, {a: "a", b: "b", c: "c"}) == "b4 c2 b4 c4 a4 b4 c4"


def test_a_run_that_another_loop_takes_over_drops_out(clock):
    a, b = small_trainer(), small_trainer("eps")
    turns = round_robin([a, b], seconds=2.0, turn=1.0)
    next(turns)
    list(a.steps(seconds=1.0))
    list(turns)
    assert (a.seconds, b.seconds) == (1.0, 2.0)


# -- the thread and its button --------------------------------------------------------------------------------------------


def test_a_run_to_its_end_is_saved_and_leaves_plain_pictures(shown, tmp_path):
    trainer = small_trainer()
    dashboard = Dashboard(trainer, seconds=0.2, folder=tmp_path, steps=2)
    noise = sent(dashboard.view.images["last weights"])
    asyncio.run(dashboard.finished())
    assert dashboard.live.button.description == "Train 60 s more"
    assert (sent(dashboard.view.images["last weights"]) != noise).any()  # now there are digits
    line = re.escape(dashboard.view.reading())
    path = re.escape(str(tmp_path / "checkpoint.safetensors"))
    assert re.fullmatch(rf"{line} · 0 s left\. Done; saved to <code>{path}</code>\.", dashboard.live.status.value)
    saved = Trainer.load(tmp_path, IMAGES)
    assert saved.history == trainer.history and saved.seconds >= 0.2

    first, last = shown
    assert first["options"]["display_id"] == last["options"]["display_id"] and last["options"]["update"]
    assert last["text/html"].count("<img ") == 3 and dashboard.live.status.value in last["text/html"]
    assert f"the norm of its gradient, now {trainer.history[-1].gradient_norm:.2f}" in last["text/html"].lower()


def test_digits_are_drawn_again_and_again_while_it_trains(shown, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Dashboard, "draw_samples", lambda self: drawn.append(self.view.trainer.update))
    trainer = small_trainer()
    asyncio.run(Dashboard(trainer, seconds=0.2, folder=tmp_path, grid_every=0.0).finished())
    assert drawn == [*range(1, trainer.update + 1), trainer.update]  # after each update, and at the end


def test_stop_keeps_everything_and_resume_goes_on(shown, tmp_path):
    trainer = small_trainer()
    dashboard = Dashboard(trainer, seconds=FOREVER, folder=tmp_path, steps=1)
    wait_until(lambda: trainer.update >= 2)
    dashboard.live.button.click()
    asyncio.run(dashboard.finished())
    stopped_at = trainer.update
    assert dashboard.live.button.description == "Resume" and " Stopped; saved to " in dashboard.live.status.value
    assert Trainer.load(tmp_path, IMAGES).update == stopped_at and trainer.seconds < FOREVER / 2

    dashboard.live.button.click()
    assert dashboard.live.button.description == "Stop"
    wait_until(lambda: trainer.update > stopped_at)
    dashboard.live.button.click()
    asyncio.run(dashboard.finished())
    assert [state.update for state in trainer.history] == list(range(1, trainer.update + 1))
    assert Trainer.load(tmp_path, IMAGES).update == trainer.update == len(trainer.loss_by_time)


def test_when_the_budget_is_spent_there_is_a_minute_more(shown, tmp_path):
    trainer = small_trainer()
    dashboard = Dashboard(trainer, seconds=0.05, folder=tmp_path, steps=1)
    asyncio.run(dashboard.finished())
    spent, before = trainer.seconds, trainer.update
    dashboard.live.button.click()
    wait_until(lambda: trainer.update > before)
    dashboard.live.button.click()
    asyncio.run(dashboard.finished())
    assert dashboard.live.seconds == spent + 60 and dashboard.live.button.description == "Resume"
    assert dashboard.view.loss.raw.axes.get_xlim() == (0, spent + 60)


def test_what_goes_wrong_in_the_thread_reaches_the_cell_that_waits(shown, tmp_path):
    trainer = small_trainer()
    with torch.no_grad():
        trainer.model.first.bias[0] = math.nan
    dashboard = Dashboard(trainer, seconds=FOREVER, folder=tmp_path, steps=1)
    with pytest.raises(TrainingDiverged, match="update 1: the loss is nan"):
        asyncio.run(dashboard.finished())
    assert Trainer.load(tmp_path, IMAGES).update == 0


@pytest.mark.parametrize("seconds", [0, -1.5, math.nan])
def test_a_budget_that_is_none_is_refused(tmp_path, seconds):
    with pytest.raises(ValueError, match=f"^seconds must be positive, got {seconds}$"):
        Dashboard(small_trainer(), seconds=seconds, folder=tmp_path)


# -- snapshots ----------------------------------------------------------------------------------------------------------


def test_snapshots_are_rows_of_the_averaged_weights_after_these_updates(shown, tmp_path):
    trainer = small_trainer()
    before = view(trainer).row()
    dashboard = Dashboard(trainer, seconds=FOREVER, folder=tmp_path, steps=2, snapshots=(0, 2, 10**6))
    wait_until(lambda: trainer.update >= 3)
    dashboard.live.stop()
    asyncio.run(dashboard.finished())
    first, second = dashboard.snapshots.widget.children
    assert list(dashboard.snapshots.taken) == [0, 2] and first.children[0].value == "0 updates"
    assert (sent(first.children[1]) == np.asarray(before)).all()
    loss = statistics.median(state.loss for state in trainer.history[:2])
    assert second.children[0].value == f"2 updates · loss {loss:.2f}"
    picture = dashboard.snapshots.taken[2][1]
    assert picture.size == before.size and (np.asarray(picture) != np.asarray(before)).any()
    text = shown[-1]["text/html"]
    assert re.findall(r'alt="(10 digits[^"]*)"', text) == [
        "10 digits drawn after 0 updates.",
        "10 digits drawn after 2 updates.",
    ]
    assert dashboard.live.widget.children[2].children[1] is dashboard.snapshots.widget


def _first(trainer: Trainer, updates: int) -> list:
    """The first states of a run that is meant to be long."""
    return list(itertools.islice(trainer.steps(seconds=FOREVER), updates))


def test_a_run_that_goes_on_has_no_snapshots_of_what_was_before(shown, tmp_path):
    trainer = small_trainer()
    _first(trainer, 3)
    dashboard = Dashboard(trainer, seconds=0.01, folder=tmp_path, steps=1, snapshots=(0, 2, 3))
    asyncio.run(dashboard.finished())
    assert list(dashboard.snapshots.taken) == [3] and len(dashboard.snapshots.widget.children) == 1


@pytest.mark.parametrize("numbers", [(1, 0), (1, 1), (-1, 2), (0.5,)])
def test_snapshots_that_do_not_ascend_are_refused(tmp_path, numbers):
    with pytest.raises(ValueError, match=r"^snapshots must be whole numbers of updates that ascend, from 0 on, got "):
        Dashboard(small_trainer(), seconds=1, folder=tmp_path, snapshots=numbers)
