"""Whose model a chapter samples from."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer, UNet, load_images, load_pretrained
from diffnotes.book.chapter import reader


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFNOTES_RUNS", str(tmp_path))
    monkeypatch.setattr(reader, "_set", {})
    return tmp_path


def network(num_classes=10, target="v", channels=1, multipliers=(1,)):
    return UNet(
        channels=8,
        multipliers=multipliers,
        blocks=1,
        patch=4,
        num_classes=num_classes,
        target=target,
        image_channels=channels,
    )


def save_a_run(folder, model=None, objective=None, data=None):
    data = load_images("digits") if data is None else data
    trainer = Trainer(model or network(), objective or Schedule.cosine(T=1000), data, TrainConfig(seed=0))
    return trainer, trainer.save(folder / "mine")


@pytest.fixture
def shown(monkeypatch):
    """The explorers that were shown."""
    those = []

    def show(explorer):
        those.append(explorer)

    monkeypatch.setattr(reader.Explorer, "show", show)
    return those


def is_the_packages(model):
    return all(
        torch.equal(a, b) for a, b in zip(model.parameters(), load_pretrained("mnist")[0].parameters(), strict=True)
    )


def test_without_a_run_it_is_the_one_that_comes_with_the_package(capsys, shown, runs):
    model, schedule = reader.reader_model()
    assert is_the_packages(model) and schedule.T == 1000 and shown == []
    said = f"The model that comes with the package (there is no run of your own in {runs / 'mine'}).\n"
    assert capsys.readouterr().out == said


def test_it_says_where_it_looked(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("DIFFNOTES_RUNS")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "course" / "book").mkdir(parents=True)
    (tmp_path / "course" / "book" / "10_chapter.ipynb").touch()
    looked = {
        tmp_path / "course" / "book": "runs/mine beside this notebook",
        tmp_path / "course": "~/course/runs/mine, for the notebook runs in ~/course",
        Path("/"): "/runs/mine, for the notebook runs in /",
    }
    for folder, place in looked.items():
        monkeypatch.chdir(folder)
        reader.reader_model()
        assert f"(there is no run of your own in {place})." in capsys.readouterr().out
    monkeypatch.setenv("DIFFNOTES_RUNS", "~/elsewhere")
    reader.reader_model()
    assert "(there is no run of your own in ~/elsewhere/mine)." in capsys.readouterr().out


def test_with_a_run_a_switch_shows_both_and_the_choice_lasts(runs, shown):
    save_a_run(runs)
    model, schedule = reader.reader_model()
    assert schedule.T == 1000 and not model.training and not is_the_packages_size(model)
    (switch,) = shown
    own, package = switch.controls["model"].options
    assert own == f"your own, from {runs / 'mine'}" and package == "the package's"
    assert switch.reading.value == f"Upper row: {own}. Lower row: {package}. Chosen: {own}."
    switch.controls["model"].value = package
    assert switch.reading.value.endswith(
        f"Chosen: {package}. Run this cell again, and those below it, for the change to count."
    )
    model, schedule = reader.reader_model()
    assert is_the_packages(model) and schedule.T == 1000
    assert shown[1].controls["model"].value == package and shown[1].reading.value.endswith(f"Chosen: {package}.")
    shown[1].controls["model"].value = own
    assert not is_the_packages_size(reader.reader_model()[0])


def is_the_packages_size(model):
    return model.settings == load_pretrained("mnist")[0].settings


def test_the_rows_of_the_switch_are_drawn_by_either_model(runs, shown):
    save_a_run(runs)
    reader.reader_model()
    sheet = torch.as_tensor(list(shown[0].plot.picture().convert("L").tobytes())).float()
    upper, lower = sheet.view(2, -1)  # a fresh network leaves grey noise where the trained one draws on black
    assert lower.median() < 20 < upper.median()


@pytest.mark.parametrize("num_classes", [None, 2])
def test_where_no_labels_are_asked_for_any_number_of_them_will_do(runs, shown, num_classes):
    data = load_images("digits")
    save_a_run(runs, network(num_classes), data=data[data.y < 2] if num_classes else data)
    assert reader.reader_model()[0].num_classes == num_classes and len(shown) == 1


def test_quick_is_the_small_network_and_silent(runs, shown, capsys):
    small = load_pretrained("mnist-small")[0]
    for make in (lambda: None, lambda: save_a_run(runs, network(None))):  # no run; one that takes no labels
        make()
        model, _ = reader.reader_model(labels=True, quick=True)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), small.parameters(), strict=True))
    assert capsys.readouterr().out == "" and shown == []


def test_quick_is_the_readers_own_unless_the_switch_says_otherwise(runs, shown):
    save_a_run(runs)
    assert not is_the_packages_size(reader.reader_model(quick=True)[0]) and shown == []
    reader.reader_model()
    assert not is_the_packages_size(reader.reader_model(quick=True)[0])
    shown[0].controls["model"].value = "the package's"
    model = reader.reader_model(quick=True)[0]
    assert model.settings == load_pretrained("mnist-small")[0].settings and len(shown) == 1


# -- runs that cannot be used -------------------------------------------------------------------------------------------


def pictures(*shape):
    x = torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Images(x, torch.arange(40) % 10, "mine", "drawn here")


class Foreign(nn.Module):
    """A network that the package cannot make."""

    target, num_classes = "v", None

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, x_t, t, y=None):
        return self.layer(x_t)


def two_labels(runs):
    data = load_images("digits")
    save_a_run(runs, network(2), data=data[data.y < 2])


def not_finite(runs):
    trainer, _ = save_a_run(runs)
    with torch.no_grad():
        trainer.ema.model.first.bias[0] = math.nan
    trainer.save(runs / "mine")


def damaged(runs):
    _, path = save_a_run(runs)
    path.write_bytes(path.read_bytes()[:-1000])


def zero_terminal_snr(runs, monkeypatch):
    """As a version that did not refuse it could have kept it."""
    monkeypatch.setattr(Denoising, "check", lambda *_: None)
    save_a_run(runs, network(target="eps"), Schedule.cosine(T=1000).rescale_zero_terminal_snr())


ODD = {
    "no labels": (lambda runs: save_a_run(runs, network(None)), "it takes no labels"),
    "two labels": (two_labels, "it takes 2 labels, not the 10 digits"),
    "few times": (
        lambda runs: save_a_run(runs, objective=Schedule.cosine(T=10)),
        "it has T = 10 steps, and the chapters look at times up to 1000",
    ),
    "colour": (
        lambda runs: save_a_run(runs, network(channels=3), data=pictures(3, 28, 28)),
        "it draws images of shape (3, 28, 28), not (1, 28, 28)",
    ),
    "another size": (
        lambda runs: save_a_run(runs, network(), data=pictures(1, 32, 32)),
        "it draws images of shape (1, 32, 32), not (1, 28, 28)",
    ),
    "no hidden labels": (
        lambda runs: save_a_run(runs, objective=Denoising(Schedule.cosine(T=1000), label_dropout=0.0)),
        "it was trained with label_dropout = 0 and cannot draw without a label",
    ),
    "not finite": (not_finite, "its weights are not finite"),
    "damaged": (damaged, "is damaged and was not loaded"),
    "a foreign class": (lambda runs: save_a_run(runs, Foreign()), "the run's network is a "),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_run_is_named_with_the_reason_in_a_line(runs, shown, capsys, name):
    save, reason = ODD[name]
    save(runs)
    model, schedule = reader.reader_model(labels=True)
    assert is_the_packages(model) and schedule.T == 1000 and shown == []
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        f"The model that comes with the package: your own, in {runs / 'mine'}, cannot be used here, since "
    )
    assert reason in line


def test_eps_with_zero_terminal_snr_is_named_too(runs, shown, capsys, monkeypatch):
    zero_terminal_snr(runs, monkeypatch)
    assert is_the_packages(reader.reader_model()[0]) and shown == []
    assert "since it predicts eps, and with alpha_bar_T = 0 (zero terminal SNR)" in capsys.readouterr().out
