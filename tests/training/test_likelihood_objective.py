"""Maximum likelihood as an objective of the common trainer."""

import math

import pytest
import torch

from diffnotes import TrainConfig, Trainer, UNet, load_images, load_model
from diffnotes.models.coupling import RealNVP
from diffnotes.process.likelihood import GREY_STEP
from diffnotes.training.images import Images
from diffnotes.training.objectives import Draw, Likelihood


@pytest.fixture(scope="module")
def data() -> Images:
    return load_images("digits", "train", size=8)


def small(num_classes: int | None = 10) -> RealNVP:
    torch.manual_seed(0)
    return RealNVP((1, 8, 8), layers=4, hidden=16, num_classes=num_classes, margin=0.05)


def test_bits_of_a_new_model_by_hand(data):
    """A new model is N(0, 1) of the logits; noise, logit and bin by hand."""
    batch, draw = data[:6], Draw(3, 5, 6)
    w = torch.rand(6, 1, 8, 8, generator=draw("dequantise"))
    x = (batch.x + GREY_STEP * (w - 0.5)).double()
    r = 0.5 + 0.45 * x
    z = torch.logit(r)
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)) + math.log(0.45) - r.log() - (1 - r).log()
    expected = -log_p.flatten(1).sum(1) / (64 * math.log(2)) - math.log2(GREY_STEP)
    losses = Likelihood()(small(), batch, draw)
    torch.testing.assert_close(losses.total, expected, rtol=1e-5, atol=0)
    assert list(losses.parts) == ["bits per dimension"] and losses.time_bin is None


def test_two_processes_do_together_what_one_does(data):
    whole = Likelihood()(small(), data[:8], Draw(0, 2, 8)).total
    halves = [Likelihood()(small(), data[:8][part], Draw(0, 2, 8, part)).total for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(torch.cat(halves), whole)


def test_training_brings_the_bits_down_and_the_run_is_read_again(data, tmp_path):
    model = small()
    model.set_scales(data.x)
    config = TrainConfig(batch_size=64, learning_rate=3e-3, warmup=5, ema_decay=0.9, precision="float32")
    trainer = Trainer(model, Likelihood(), data, config)
    losses = [state.loss for state in trainer.steps(updates=60)]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.2
    trainer.save(tmp_path)
    again, schedule = load_model(tmp_path)
    assert schedule is None and isinstance(again, RealNVP)
    torch.testing.assert_close(
        again.log_prob(data.x[:5], data.y[:5]), trainer.ema.model.eval().log_prob(data.x[:5], data.y[:5])
    )
    assert Trainer.load(tmp_path, data=data).objective == Likelihood()


def test_what_is_refused(data):
    with pytest.raises(ValueError, match=r"^bin_width must be a positive number, got 0.0$"):
        Likelihood(bin_width=0.0)
    with pytest.raises(ValueError, match=r"^model must have log_prob\(x, y\), as RealNVP has, got UNet without it$"):
        Likelihood().check(UNet(channels=8), data)
    with pytest.raises(ValueError, match=r"^data must be Images, with \.x and \.y, got int$"):
        Likelihood().check(small(), 3)
