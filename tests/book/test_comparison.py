"""Two runs against each other, without a browser."""

import asyncio
import html
import itertools
import math
import re

import numpy as np
import pytest
import torch
from small_runs import IMAGES, sent, small_trainer, wait_until

from diffnotes import Denoising, Schedule, Trainer, dpm_solver_sample, initial_noise
from diffnotes.book.live import training as live_training
from diffnotes.book.live import widgets as live
from diffnotes.book.live.comparison import COMPARABLE, NOT_COMPARABLE, Comparison
from diffnotes.training import loop
from diffnotes.training.grid import grid_image
from diffnotes.training.trainer import TrainingDiverged

FOREVER = 60.0


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What is displayed, newest last."""
    displayed: list[dict] = []
    monkeypatch.setattr(live, "display", lambda what, **options: displayed.append(what | {"options": options}))
    return displayed


def pair() -> dict[str, Trainer]:
    return {"v, cosine": small_trainer("v"), "ε & linear": small_trainer("eps", Schedule.linear(20))}


def with_loss(**settings) -> Trainer:
    """The small trainer, its loss with these settings."""
    usual = small_trainer()
    return Trainer(usual.model, Denoising(usual.schedule, **settings), IMAGES, usual.config)


def test_both_train_in_turn_for_the_same_seconds(monkeypatch, shown):
    turns, original, runs = [], Trainer._update, pair()

    class Clock:
        def perf_counter(self) -> float:
            return 0.25 * len(turns)

    def update(self: Trainer, progress: float):
        turns.append(next(name for name, run in runs.items() if run is self))
        return original(self, progress)

    monkeypatch.setattr(loop, "time", Clock())
    monkeypatch.setattr(Trainer, "_update", update)
    comparison = Comparison(runs, seconds=2.0, steps=2)
    asyncio.run(comparison.finished())
    lengths = [(name, len(list(its))) for name, its in itertools.groupby(turns)]
    assert lengths == [("v, cosine", 4), ("ε & linear", 4)] * 2
    assert comparison.live.status.value == "2 runs in turn · 0 s left. Done." and comparison.live.bar.value == 1

    assert comparison.lines["v, cosine"].value.startswith("<b>v, cosine</b> · update 8 · 64 images seen · loss ")
    assert comparison.lines["ε & linear"].value.startswith("<b>ε &amp; linear</b> · update 8 · ")
    assert comparison.lines["ε & linear"].value.endswith(" · 32 images per second")
    stored = shown[-1]["text/html"]
    assert (
        stored.count("<img ") == 4 and NOT_COMPARABLE.format(what="digits") in stored and "run ε &amp; linear" in stored
    )


def test_the_digits_of_both_come_from_the_same_noise():
    runs = pair()
    comparison = Comparison(runs, seconds=0.1, steps=2)
    asyncio.run(comparison.finished())
    noise, pictures = initial_noise(seed=0, batch=20), []
    for name, run in runs.items():
        y = torch.arange(20) % 10
        *_, last = dpm_solver_sample(run.ema.model, run.schedule, noise, steps=2, clip=True, y=y)
        (image,) = comparison.views[name].images.values()
        pictures.append(sent(image))
        assert (pictures[-1] == np.asarray(grid_image(last.x_t, columns=10))).all()
    assert (pictures[0] != pictures[1]).any()


def test_the_curves_of_both_have_the_same_axes():
    comparison = Comparison(pair(), seconds=0.05, steps=1)
    asyncio.run(comparison.finished())
    axes = [view.loss.raw.axes for view in comparison.views.values()]
    assert axes[0].get_xlim() == axes[1].get_xlim() and axes[0].get_ylim() == axes[1].get_ylim()


@pytest.mark.parametrize(
    "other, comparable",
    [
        (lambda: small_trainer(batch_size=4), True),
        (lambda: small_trainer("eps"), False),
        (lambda: small_trainer(schedule=Schedule.linear(20)), False),
        (lambda: small_trainer(schedule=Schedule.cosine(30)), False),
        (lambda: with_loss(min_snr=None), True),  # the loss that is shown has no weights
        (lambda: with_loss(logit_normal=(0.3, 1.0)), False),
    ],
)
def test_it_says_whether_the_losses_can_be_compared(other, comparable):
    comparison = Comparison({"a": small_trainer(), "b": other()}, seconds=0.01, steps=1)
    asyncio.run(comparison.finished())
    assert comparison.note == (COMPARABLE if comparable else NOT_COMPARABLE).format(what="digits")


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_training, "TURN_SECONDS", 0.02)


def test_stop_keeps_both_and_resume_goes_on_with_both(tmp_path, short_turns):
    runs = pair()
    folders = {name: tmp_path / name for name in runs}
    comparison = Comparison(runs, seconds=FOREVER, folders=folders, steps=1)
    wait_until(lambda: all(run.update >= 1 for run in runs.values()))
    comparison.live.button.click()
    asyncio.run(comparison.finished())
    stopped_at = {name: run.update for name, run in runs.items()}
    assert comparison.live.button.description == "Resume"
    paths = [html.escape(str(folder / "checkpoint.safetensors")) for folder in folders.values()]
    said = f" Stopped; saved to <code>{paths[0]}</code> and <code>{paths[1]}</code>."
    assert comparison.live.status.value.endswith(said)
    assert {name: Trainer.load(folders[name], IMAGES).update for name in runs} == stopped_at

    comparison.live.button.click()
    wait_until(lambda: all(run.update > stopped_at[name] for name, run in runs.items()))
    comparison.live.button.click()
    asyncio.run(comparison.finished())
    for name, run in runs.items():
        saved = Trainer.load(folders[name], IMAGES)
        assert saved.history == run.history and saved.model.target == run.model.target
        assert [state.update for state in saved.history] == list(range(1, run.update + 1))


def test_a_minute_more_is_for_both(short_turns):
    runs = pair()
    comparison = Comparison(runs, seconds=0.05, steps=1)
    asyncio.run(comparison.finished())
    assert comparison.live.button.description == "Train 60 s more"
    most, before = max(run.seconds for run in runs.values()), {name: run.update for name, run in runs.items()}
    comparison.live.button.click()
    wait_until(lambda: all(run.update > before[name] for name, run in runs.items()))
    comparison.live.button.click()
    asyncio.run(comparison.finished())
    assert comparison.live.seconds == most + 60
    assert {view.loss.raw.axes.get_xlim() for view in comparison.views.values()} == {(0, most + 60)}


def test_what_goes_wrong_in_one_run_reaches_the_cell_and_both_are_saved(tmp_path, short_turns):
    runs = pair()
    with torch.no_grad():
        runs["ε & linear"].model.first.bias[0] = math.nan
    folders = {name: tmp_path / name for name in runs}
    comparison = Comparison(runs, seconds=FOREVER, folders=folders, steps=1)
    with pytest.raises(TrainingDiverged, match="update 1: the loss is nan"):
        asyncio.run(comparison.finished())
    updates = [Trainer.load(folder, IMAGES).update for folder in folders.values()]
    assert updates[0] >= 1 and updates[1] == 0


# -- what is refused ------------------------------------------------------------------------------------------------------

RUNS = {"one": {}, "other": {"target": "eps"}, "of seed 7": {"seed": 7}}
TWO = {"a": "one", "b": "other"}


@pytest.mark.parametrize(
    "names, options, message",
    [
        ({}, {}, "trainers must hold two runs or more, got []"),
        ({"a": "one"}, {}, "trainers must hold two runs or more, got ['a']"),
        ({"a": "one", "b": "of seed 7"}, {}, "trainers must have the same seed, got {'a': 0, 'b': 7}"),
        ({"a": "one", "b": "one"}, {}, "trainers must be a different one for each name, got one twice in ['a', 'b']"),
        (TWO, {"seconds": 0}, "seconds must be positive, got 0"),
        (TWO, {"seconds": -2.5}, "seconds must be positive, got -2.5"),
        (TWO, {"folders": {"a": "x"}}, "folders must have the names of the runs, ['a', 'b'], got ['a']"),
        (
            TWO,
            {"folders": {"a": "x", "b": "x/"}},
            "folders must be a different one for each run, got ['x', 'x/']",
        ),
    ],
)
def test_bad_input_is_refused(shown, names, options, message):
    trainers = {name: small_trainer(**settings) for name, settings in RUNS.items()}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Comparison({name: trainers[which] for name, which in names.items()}, **({"seconds": 1.0} | options))
    assert shown == [] and all(trainer.update == 0 for trainer in trainers.values())
