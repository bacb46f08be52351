"""The weights that ship: how they are written from runs, and what comes out when they are loaded."""

from pathlib import Path

import pytest
import torch

from diffnotes import (
    Images,
    Schedule,
    TrainConfig,
    Trainer,
    UNet,
    ddim_sample,
    initial_noise,
    load_images,
    load_model,
    load_pretrained,
)
from diffnotes.models.autoregressive import log_prob
from diffnotes.models.dit import DiT
from diffnotes.process.cascade import cascade_sample
from diffnotes.process.given import Given
from diffnotes.training.captions import captioned
from diffnotes.training.metrics import features_and_probabilities
from diffnotes.training.pretrained import (
    LATENTS,
    WEIGHTS,
    export,
    load_cascade,
    load_codes,
    load_latent,
    load_together,
    load_unclip,
    store_together,
)


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


def test_the_latents_of_the_package_give_digits_back_and_are_of_variance_1(mnist_test: Images):
    autoencoder, latents, unet, schedule = load_latent()
    x = mnist_test.x[:300]
    mean, log_variance = autoencoder.encode(x)
    assert (autoencoder.decode(mean) - x).square().mean() < 0.02
    z = latents.into(
        mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    )
    assert z.square().mean() == pytest.approx(1, abs=0.05) and unet.item_shape == (4, 7, 7) and schedule.T == 1000
    assert unet.num_classes == 10 and unet.label_dropout == 0.1 and not unet.training


def test_the_digits_of_the_latents_and_of_the_cascade_are_named_as_asked():
    y = torch.arange(20) % 10
    autoencoder, latents, unet, schedule = load_latent()
    *_, last = ddim_sample(unet, schedule, initial_noise(0, 20, (4, 7, 7)), steps=10, y=y)
    named = [features_and_probabilities(autoencoder.decode(latents.back(last.x_t)))[1].argmax(1)]
    base, second, schedule = load_cascade()
    *_, last = cascade_sample(
        base, second, schedule, initial_noise(0, 20, (1, 14, 14)), s=100, steps=10, y=y, generator=0
    )
    named.append(features_and_probabilities(last.x_t)[1].argmax(1))
    assert all((words == y.numpy()).mean() >= 0.7 for words in named)


def test_the_prior_of_the_package_draws_embeddings_near_those_of_images(mnist_test: Images):
    clip, projection, prior, decoder, schedule = load_unclip()
    pairs = captioned(mnist_test[:300])
    z = projection.into(clip.image(pairs.x))
    *_, last = ddim_sample(prior, schedule, initial_noise(0, 300, (24,)), steps=20, y=pairs.y)
    text = projection.into(clip.text(pairs.y))
    assert (last.x_t.mean(0) - z.mean(0)).norm() < (text.mean(0) - z.mean(0)).norm() / 2
    drawn = [z[:20], last.x_t[:20]]
    for vectors in drawn:  # the decoder draws the digit of the embedding
        *_, image = ddim_sample(Given(decoder, vector=vectors), schedule, initial_noise(1, 20), steps=10, clip=True)
        assert (features_and_probabilities(image.x_t)[1].argmax(1) == mnist_test.y[:20].numpy()).mean() >= 0.7
    assert decoder.vector == 24 and decoder.item_shape == (1, 28, 28) and decoder.num_classes is None


def test_networks_that_are_stored_together_come_back(tmp_path: Path):
    model = load_cascade()[0]
    path = store_together(tmp_path / "one.safetensors", {"base": model}, {"shift": torch.tensor([1.5])})
    networks, numbers, schedule = load_together(path)
    assert numbers["shift"].tolist() == [1.5] and schedule.T == 1000
    same = zip(model.state_dict().values(), networks["base"].state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in same)
    assert all(path.stat().st_size < 2e6 for path in LATENTS.glob("*.safetensors"))
