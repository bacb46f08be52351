"""Whose model a chapter samples from."""

import pytest
import torch

from diffnotes import Schedule, TrainConfig, Trainer, UNet, load_images, load_pretrained
from diffnotes.book.chapter import reader


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFNOTES_RUNS", str(tmp_path))
    monkeypatch.setattr(reader, "_set", {})
    return tmp_path


def save_a_run(folder, num_classes=10):
    network = UNet(channels=8, multipliers=(1,), blocks=1, patch=4, num_classes=num_classes, target="v")
    Trainer(network, Schedule.cosine(T=20), load_images("digits", "train"), TrainConfig(seed=0)).save(folder / "mine")


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


def test_without_a_run_it_is_the_one_that_comes_with_the_package(capsys, shown):
    model, schedule = reader.reader_model()
    assert is_the_packages(model) and schedule.T == 1000 and shown == []
    assert capsys.readouterr().out == "The model that comes with the package (you have not trained your own yet).\n"


def test_with_a_run_a_switch_shows_both_and_the_choice_lasts(runs, shown):
    save_a_run(runs)
    model, schedule = reader.reader_model()
    assert schedule.T == 20 and not model.training and model.num_classes == 10
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
    assert reader.reader_model()[1].T == 20


def test_the_rows_of_the_switch_are_drawn_by_either_model(runs, shown):
    save_a_run(runs)
    reader.reader_model()
    sheet = torch.as_tensor(list(shown[0].plot.picture().convert("L").tobytes())).float()
    upper, lower = sheet.view(2, -1)  # a fresh network leaves grey noise where the trained one draws on black
    assert lower.median() < 20 < upper.median()


def test_where_labels_are_needed_a_run_without_them_does_not_do(runs, shown, capsys):
    save_a_run(runs, num_classes=None)
    assert is_the_packages(reader.reader_model(labels=True)[0]) and shown == []
    assert "knows no labels" in capsys.readouterr().out
    assert reader.reader_model()[1].T == 20
