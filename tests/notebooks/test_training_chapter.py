"""Chapter 6's update in plain PyTorch is the trainer's, and the study that it offers runs."""

import asyncio
import math
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import diffnotes
from diffnotes import Denoising, Schedule, TrainConfig, Trainer, UNet, load_images, q_sample
from diffnotes.book.live import widgets as live
from diffnotes.process import parameterize

CELLS = {
    cell.id: cell.source
    for cell in nbformat.read(Path(__file__).parents[2] / "notebooks" / "06_training.ipynb", as_version=4).cells
}


@pytest.fixture
def names() -> dict[str, Any]:
    """What the chapter has by then: the images, the settings of its run and its random numbers."""
    images, schedule = load_images("auto", "test"), Schedule.cosine(T=1000)
    return {
        **{"torch": torch, "math": math, "images": images, "schedule": schedule, "q_sample": q_sample},
        **{"UNet": UNet, "Denoising": Denoising, "Trainer": Trainer, "parameterize": parameterize},
        "size": dict(channels=16, multipliers=(1, 2), blocks=1, patch=2),
        "mean": schedule.alpha_bar.sqrt() * images.x.mean(),
        "config": TrainConfig(seed=0, learning_rate=4e-3, warmup=50, precision="float32"),
        "g": torch.Generator().manual_seed(0),
    }


def test_the_update_by_hand_is_that_of_the_trainer(names):
    torch.manual_seed(0)
    exec(CELLS["b6f18b8b"], names)
    torch.manual_seed(0)
    model = UNet(**names["size"], num_classes=10, target="v", input_mean=names["mean"])
    objective = Denoising(names["schedule"], min_snr=None, logit_normal=(0.3, 1.0))
    trainer = Trainer(model, objective, names["images"], names["config"])
    for n, state in enumerate(trainer.steps(updates=4)):
        drawn = objective.inputs(model, trainer.batch(n), trainer.draw(n))
        x0, y, t, eps = drawn
        loss = names["update"](n, state.progress - 1 / 4, x0, y, t, eps)
        assert loss == pytest.approx(state.loss, rel=1e-4)
        assert names["optimizer"].param_groups[0]["lr"] == pytest.approx(state.learning_rate)
    for by_hand, ours in ((names["twin"], trainer.model), (names["average"].model, trainer.ema.model)):
        for a, b in zip(by_hand.parameters(), ours.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_the_times_by_hand_are_distributed_like_the_trainers(names, capsys):
    exec(CELLS["times-by-hand"].partition("for n in")[0], names)
    low, high = re.findall(r"\d+", capsys.readouterr().out.replace("ten", ""))
    quartiles = [1000 * torch.sigmoid(torch.tensor(0.3 + z)).item() for z in (-0.6745, 0.6745)]
    assert (int(low), int(high)) == pytest.approx(quartiles, abs=2)
    objective = Denoising(names["schedule"], min_snr=None, logit_normal=(0.3, 1.0))
    trainer = Trainer(UNet(**names["size"], target="v"), objective, names["images"], names["config"])
    ours = torch.cat([objective.inputs(trainer.model, trainer.batch(n), trainer.draw(n))[2] for n in range(50)])
    by_hand = torch.cat([names["draw_times"](32) for _ in range(50)])
    share = torch.linspace(0.05, 0.95, 19)
    assert torch.allclose(ours.float().quantile(share), by_hand.float().quantile(share), atol=10)


def test_the_study_that_is_offered_runs(names, monkeypatch):
    monkeypatch.setattr(live, "display", lambda *_what, **_options: None)
    (source,) = re.findall(r"```python\n(.*?)```", CELLS["e08ea5be"], re.DOTALL)
    exec(source.replace("seconds=90", "seconds=0.01, steps=1"), names)
    asyncio.run(names["comparison"].finished())
    assert isinstance(names["comparison"], diffnotes.book.Comparison)
    assert list(names["comparison"].views) == ["as it is", "uniform times"]
    assert names["comparison"].note.startswith("Losses of different")
