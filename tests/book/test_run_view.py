"""The pictures of runs of any shape and any objective."""

import asyncio
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from small_runs import IMAGES, sent, small_trainer
from torch import nn

from diffnotes import Images, Schedule, TrainConfig, Trainer, UNet, dpm_solver_sample, initial_noise
from diffnotes.book.live import run_view
from diffnotes.book.live import widgets as live
from diffnotes.book.live.comparison import Comparison, losses_comparable
from diffnotes.book.live.dashboard import Dashboard
from diffnotes.book.live.run_view import RunView
from diffnotes.models.gan import Discriminator, Generator
from diffnotes.training.adversarial import GanConfig, GanTrainer, gan_sample
from diffnotes.training.config import TrainState
from diffnotes.training.grid import grid_image
from diffnotes.training.objectives import Losses


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    displayed: list[dict] = []
    monkeypatch.setattr(live, "display", lambda what, **options: displayed.append(what | {"options": options}))
    return displayed


def trainer_of(shape=(1, 28, 28), classes=(), T=20, target="v") -> Trainer:
    """A small run on 16 pictures of this shape, with labels if they have names."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(16, *shape, generator=g) * 2 - 1
    y = torch.arange(16) % max(len(classes), 1)
    data = Images(x, y, "mine", "drawn here", classes=tuple(classes))
    settings = dict(channels=8, multipliers=(1,), blocks=1, attention=0, patch=4, target=target)
    model = UNet(**settings, num_classes=len(classes) or None, image_channels=shape[0])
    return Trainer(model, Schedule.cosine(T), data, TrainConfig(batch_size=8))


@pytest.mark.parametrize(
    "shape, classes, size",
    [
        ((3, 32, 32), ("cat", "dog", "frog"), (676, 132)),  # 10 columns and 2 rows, twice as large
        ((3, 16, 24), (), (516, 68)),
        ((1, 64, 64), ("a", "b"), (658, 130)),  # 10 columns as they are
        ((3, 96, 96), (), (488, 194)),  # 5 columns
    ],
)
def test_samples_have_the_shape_and_the_labels_of_the_run(shape, classes, size):
    trainer = trainer_of(shape, classes)
    list(trainer.steps(updates=2))
    view = RunView(trainer, seconds=10, steps=2, details=True)
    view.draw_samples()
    number = 2 * view.columns
    noise, y = initial_noise(0, number, shape), torch.arange(number) % len(classes) if classes else None
    *_, last = dpm_solver_sample(trainer.ema.model, trainer.schedule, noise, steps=2, clip=True, y=y)
    grid = view.grids["averaged weights"]
    assert grid.size == size and grid.mode == ("RGB" if shape[0] == 3 else "L")
    assert (np.asarray(grid) == np.asarray(grid_image(last.x_t, view.columns, view.scale))).all()
    assert int(view.images["averaged weights"].width) == size[0] <= 760
    assert ("Twenty" if number == 20 else "Ten") + " pictures drawn with" in view.samples_html("averaged weights")
    assert view.labels == (f"Labels, from the left and again: {', '.join(classes)}." if classes else "")


def test_the_names_of_labels_stand_under_the_samples_unless_they_are_digits(tmp_path):
    named = Dashboard(trainer_of(classes=("t<shirt", "bag")), seconds=0.01, folder=tmp_path / "a", steps=1)
    asyncio.run(named.finished())
    line = "Labels, from the left and again: t&lt;shirt, bag."
    assert named.pictures.children[-1].value == line and line in named.html() and "Twenty pictures" in named.html()
    digits = Dashboard(small_trainer(), seconds=0.01, folder=tmp_path / "b", steps=1)
    asyncio.run(digits.finished())
    assert len(digits.pictures.children) == 3 and "Labels" not in digits.html() and "Twenty digits" in digits.html()


def test_a_run_without_labels_is_drawn_without(tmp_path):
    trainer = trainer_of()
    dashboard = Dashboard(trainer, seconds=0.05, folder=tmp_path, steps=2)
    asyncio.run(dashboard.finished())
    noise = initial_noise(0, 20)
    *_, last = dpm_solver_sample(trainer.ema.model, trainer.schedule, noise, steps=2, clip=True)
    assert (sent(dashboard.view.images["averaged weights"]) == np.asarray(grid_image(last.x_t, 10))).all()


def test_no_more_steps_are_asked_for_than_there_are_times(tmp_path):
    dashboard = Dashboard(trainer_of(T=5), seconds=0.05, folder=tmp_path)
    asyncio.run(dashboard.finished())
    assert dashboard.view.steps == 5 and "failed" not in dashboard.live.status.value
    with pytest.raises(ValueError, match=r"^steps must be at least 1, got 0$"):
        Dashboard(trainer_of(), seconds=1, folder=tmp_path, steps=0)


# -- other objectives ---------------------------------------------------------------------------------------------------


class Mirror(nn.Module):
    """Two numbers to be trained: nothing that could be sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -1.0]))


@dataclass(frozen=True)
class Parts:
    """Named parts of a loss, with no times and no schedule; each is the mean of the images times a factor."""

    factors: tuple[float, ...] = (1.0, 100.0)
    names: tuple[str, ...] = ("reconstruction", "KL")

    def __call__(self, model, batch, draw) -> Losses:
        one = (model.weight.square().sum() + batch.x.flatten(1).mean(1) ** 2) * torch.ones(len(batch.x))
        return Losses(one, {name: factor * one for name, factor in zip(self.names, self.factors, strict=True)})

    def check(self, model, data) -> None:
        pass


def run_of(objective: Parts, updates: int = 60) -> Trainer:
    trainer = Trainer(Mirror(), objective, IMAGES, TrainConfig(batch_size=8))
    list(trainer.steps(updates=updates))
    return trainer


def test_every_part_of_the_loss_has_its_curve_where_there_are_several():
    trainer = run_of(Parts())
    view = RunView(trainer, seconds=10, details=True)
    view.redraw()
    assert [curve.smooth.get_label() for curve in view.losses] == ["reconstruction", "KL"]
    for curve, name in zip(view.losses, ("reconstruction", "KL"), strict=True):
        seconds, values = curve.raw.get_data()
        assert values.tolist() == [state.parts[name] for state in trainer.history]
        assert seconds.tolist() == [state.seconds for state in trainer.history]
    low, high = view.loss.raw.axes.get_ylim()
    values = [value for state in trainer.history for value in state.parts.values()]
    assert 0 < low < min(values) and max(values) < high and view.loss.raw.axes.get_yscale() == "log"
    assert view.loss.raw.axes.get_title(loc="left") == "the parts of the loss"
    assert " · reconstruction 1." in view.reading() and " · KL 19" in view.reading()
    assert "The parts of the loss over" in view.curves_html() and "in each tenth" not in view.curves_html()


def test_without_a_schedule_there_are_no_samples_and_no_loss_by_time(tmp_path, shown):
    dashboard = Dashboard(run_of(Parts(), updates=2), seconds=0.2, folder=tmp_path, grid_every=0.0)
    asyncio.run(dashboard.finished())
    assert dashboard.view.images == {} and dashboard.view.last is None
    assert "failed" not in dashboard.live.status.value and shown[-1]["text/html"].count("<img ") == 1


def test_a_single_part_is_called_by_its_name():
    view = RunView(run_of(Parts((1.0,), ("cross entropy",))), seconds=10)
    view.redraw()
    assert view.loss.raw.axes.get_title(loc="left") == "loss (cross entropy)" and " · loss " in view.reading()


def test_values_that_are_not_positive_get_an_axis_that_shows_them():
    view = RunView(run_of(Parts((1.0, -3.0))), seconds=10)
    view.redraw()
    low, high = view.loss.raw.axes.get_ylim()
    assert view.loss.raw.axes.get_yscale() == "linear" and low < -6 and high > 2


def test_the_axis_makes_room_only_where_it_must(monkeypatch):
    trainer, made = run_of(Parts(), updates=60), []
    history = trainer.history
    view, rescale = RunView(trainer, seconds=10), RunView.rescale
    monkeypatch.setattr(RunView, "rescale", lambda self, seconds: (made.append(1), rescale(self, seconds)))
    for updates in (0, 1, 30, 60):
        trainer.history = history[:updates]
        view.redraw()
    assert len(made) == 1
    trainer.history = [*history, TrainState(61, 488, 5.0, 9.0, 1.0, 1e-3, 0.5, {"reconstruction": 9.0, "KL": 9e4})]
    view.redraw()
    assert len(made) == 2 and view.loss.raw.axes.get_ylim()[1] > 9e4


def test_the_axis_of_a_squared_error_stays_as_it_is():
    trainer = small_trainer()
    list(trainer.steps(updates=3))
    view = RunView(trainer, seconds=10)
    view.redraw()
    assert view.loss.raw.axes.get_ylim() == (run_view.LOWEST["v"], run_view.HIGHEST)


def test_losses_of_different_objectives_cannot_be_compared():
    assert losses_comparable([run_of(Parts(), 1), run_of(Parts(), 1)])
    assert not losses_comparable([run_of(Parts(), 1), small_trainer()])
    comparison = Comparison({"a": trainer_of((3, 32, 32)), "b": trainer_of((3, 32, 32))}, seconds=0.01, steps=1)
    asyncio.run(comparison.finished())
    assert comparison.note.endswith("the pictures come from the same noise.")


# -- a GAN --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [False, True])
def test_a_gan_shows_its_two_losses_and_draws_in_one_call(labels):
    torch.manual_seed(0)
    K = 10 if labels else None
    trainer = GanTrainer(Generator(4, 2, K), Discriminator(2, num_classes=K), IMAGES, GanConfig(batch_size=8))
    list(trainer.steps(updates=60))
    seen = RunView(trainer, seconds=100, details=True)
    seen.redraw()
    seen.draw_samples()
    assert seen.parts == list(trainer.history[-1].parts) and len(seen.losses) == 5
    drawn = gan_sample(trainer.ema.model, 20, labels=labels)
    assert (sent(seen.images["averaged weights"]) == np.asarray(grid_image(drawn, columns=10))).all()
    assert re.search(r"update 60 · 480 images seen · discriminator loss \d\.\d{3} · generator loss", seen.reading())
    assert "The parts of the loss over" in seen.curves_html() and seen.last is None
    assert seen.norm.raw.get_ydata().tolist() == [state.gradient_norm for state in trainer.history]


def test_a_gan_trains_under_the_dashboard_and_is_saved(tmp_path, shown):
    torch.manual_seed(0)
    trainer = GanTrainer(Generator(4, 2), Discriminator(2), IMAGES, GanConfig(batch_size=8))
    dashboard = Dashboard(trainer, seconds=0.3, folder=tmp_path, save_every=0.05)
    asyncio.run(dashboard.finished())
    assert trainer.seconds >= 0.3 and "saved to" in dashboard.html() + shown[-1]["text/html"]
    again = GanTrainer.load(tmp_path, IMAGES)
    assert again.update == trainer.update and again.history == trainer.history
