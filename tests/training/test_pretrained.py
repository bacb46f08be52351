"""The weights that ship: how they are written from runs, and what comes out when they are loaded."""

import pytest
import torch

from diffnotes import Images, Schedule, TrainConfig, Trainer, UNet, load_images, load_model, load_pretrained
from diffnotes.models.autoregressive import log_prob
from diffnotes.models.dit import DiT
from diffnotes.training.pretrained import WEIGHTS, export, load_codes


def saved(folder, seed: int = 0, channels: int = 8):
    torch.manual_seed(seed)
    model = UNet(channels=channels, multipliers=(1,), blocks=1, attention=0, patch=4, num_classes=10)
    trainer = Trainer(model, Schedule.cosine(20), load_images("digits"), TrainConfig(seed=seed, batch_size=8))
    for _ in trainer.steps(updates=2):
        pass
    trainer.save(folder)
    return trainer


def test_the_averaged_weights_of_a_run_are_written_in_half_precision(tmp_path):
    trainer = saved(tmp_path / "run")
    model, schedule = load_model(export([tmp_path / "run"], tmp_path / "mine.safetensors"))
    assert schedule.T == 20
    for kept, average in zip(model.parameters(), trainer.ema.model.parameters(), strict=True):
        assert torch.equal(kept, average.half().float())


def test_of_two_runs_the_mean_is_written(tmp_path):
    first, second = saved(tmp_path / "one", seed=1), saved(tmp_path / "two", seed=2)
    model, _ = load_model(export([tmp_path / "one", tmp_path / "two"], tmp_path / "both.safetensors"))
    both = zip(model.parameters(), first.ema.model.parameters(), second.ema.model.parameters(), strict=True)
    for kept, a, b in both:
        torch.testing.assert_close(kept, (a + b) / 2, rtol=1e-3, atol=1e-6)


def test_networks_of_other_sizes_have_no_mean(tmp_path):
    saved(tmp_path / "one"), saved(tmp_path / "two", channels=16)
    with pytest.raises(ValueError, match="runs must be of networks with the same settings"):
        export([tmp_path / "one", tmp_path / "two"], tmp_path / "both.safetensors")


@pytest.mark.parametrize("name, channels", [("mnist", 48), ("mnist-small", 24)])
def test_both_networks_of_the_package_are_there(name, channels):
    model, schedule = load_pretrained(name)
    assert model.settings["channels"] == channels and schedule.T == 1000 and not model.training


def test_the_transformer_of_the_package_is_there():
    model, schedule = load_pretrained("dit")
    assert isinstance(model, DiT) and model.settings["width"] == 96 and schedule.T == 1000 and not model.training
    assert (WEIGHTS / "dit.safetensors").stat().st_size < 2e6 and 0 < model.label_dropout < 1


def test_another_name_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="name must be one of 'dit', 'mnist', 'mnist-small', got 'cifar'"):
        load_pretrained("cifar")


def test_the_codes_of_the_package_give_digits_back_and_their_gpt_beats_the_frequencies(mnist_test: Images):
    vqvae, gpt = load_codes()
    assert not any(p.requires_grad for model in (vqvae, gpt) for p in model.parameters()) and not gpt.training
    x, y = mnist_test.x[:200], mnist_test.y[:200]
    board = vqvae.encode(x)
    assert (vqvae.decode(board) - x).square().mean() < 0.02
    share = torch.bincount(board.flatten(), minlength=64).double() / board.numel()
    alone = torch.special.entr(share).sum()
    assert -log_prob(gpt, board.flatten(1), y).mean() / 49 < 0.6 * alone
