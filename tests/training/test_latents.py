"""Codes as data, and the objectives of chapter 18: against the same losses written out, and through a trainer and a file."""

import pytest
import torch

from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer, UNet
from diffnotes.models.autoencoder import Autoencoder
from diffnotes.models.conditioned import ConditionedUNet
from diffnotes.models.mlp import MLPDenoiser
from diffnotes.process.cascade import augment, enlarge, shrink
from diffnotes.process.parameterize import v_from_x0_eps
from diffnotes.training.data import load_images
from diffnotes.training.latents import Codes, encoded
from diffnotes.training.objectives import (
    Autoencoding,
    DenoisingCodes,
    DenoisingEmbedded,
    DenoisingUpscaled,
    Draw,
    from_checkpoint,
    to_checkpoint,
)
from diffnotes.training.restore import load_model

S = Schedule.cosine(T=100)
CONFIG = TrainConfig(batch_size=16, warmup=2, precision="float32", ema_decay=0.9)
TINY = dict(channels=8, multipliers=(1,), blocks=1, num_classes=10, target="v")


@pytest.fixture(scope="module")
def images() -> Images:
    return load_images("digits", "train", size=28)[:200]


def coder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(latent_channels=2, width=8)


class Recorder:
    """Answers 0, and keeps what it was given."""

    target, num_classes = "v", None

    def __call__(self, x_t, t, y=None, **side):
        self.x_t, self.t, self.side = x_t, t, side
        return torch.zeros_like(x_t)


def test_the_loss_of_the_autoencoder_is_an_elbo_up_to_a_constant(images):
    model, batch, theta = coder(), images[:6], 0.3
    losses = Autoencoding(theta)(model, batch, Draw(0, 0, 6))
    eps = torch.randn(6, 2, 7, 7, generator=Draw(0, 0, 6)("code"))
    mean, log_variance = model.encode(batch.x)
    z = mean + (log_variance / 2).exp() * eps
    D = model.decode(z)
    gaussian = torch.distributions.Normal(D, theta**0.5).log_prob(batch.x).flatten(1).sum(1)
    constant = -0.5 * 784 * torch.log(torch.tensor(2 * torch.pi * theta))
    prior = torch.distributions.Normal(torch.zeros_like(mean), 1)
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, (log_variance / 2).exp()), prior)
    torch.testing.assert_close(losses.total, -(gaussian - constant) + kl.flatten(1).sum(1), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(losses.parts["rate"], kl.flatten(1).sum(1), rtol=1e-4, atol=1e-4)


def test_codes_are_standardised_draws_of_the_encoder(images):
    codes, latents = encoded(coder(), images)
    mean, log_variance = coder().encode(images.x[:3])
    torch.testing.assert_close(latents.back(codes.x[:3]), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(codes.deviation[:3] * latents.scale, (log_variance / 2).exp(), rtol=1e-4, atol=1e-5)
    total = codes.x.square().mean() + codes.deviation.square().mean()
    assert total == pytest.approx(1, abs=1e-4) and torch.equal(codes.y, images.y)
    again, _ = encoded(coder(), images[:5], latents)
    torch.testing.assert_close(again.x, codes.x[:5])
    part = codes[torch.tensor([4, 2])].to("cpu")
    assert (
        torch.equal(part.x, codes.x[[4, 2]]) and torch.equal(part.deviation, codes.deviation[[4, 2]]) and len(part) == 2
    )
    assert part.digest() != codes.digest()


def test_every_update_draws_anew_from_the_codes(images):
    codes, _ = encoded(coder(), images[:4])
    draw, model = Draw(0, 3, 4), Recorder()
    losses = DenoisingCodes(S)(model, codes, draw)
    z = codes.x + codes.deviation * torch.randn(codes.x.shape, generator=draw("code"))
    plain = Denoising(S, min_snr=None, logit_normal=(0.3, 1.0))
    again = Recorder()
    torch.testing.assert_close(losses.total, plain(again, Codes(z, codes.y, "z", "here"), draw).total)
    assert torch.equal(model.x_t, again.x_t)
    DenoisingCodes(S)(again, codes, Draw(0, 4, 4))
    assert not torch.equal(model.x_t, again.x_t)


def test_the_second_stage_is_given_a_noisy_small_image_and_its_level(images):
    batch, draw, model = images[:6], Draw(0, 1, 6), Recorder()
    losses = DenoisingUpscaled(S, most=80)(model, batch, draw)
    s, picture = model.side["level"], model.side["picture"]
    assert s.shape == (6,) and len(s.unique()) > 2 and int(s.max()) <= 80  # one for each image
    g = draw("condition")
    torch.testing.assert_close(s, torch.randint(0, 81, (6,), generator=g))
    eps = torch.randn(6, 1, 14, 14, generator=g)
    torch.testing.assert_close(picture, enlarge(augment(S, shrink(batch.x), s, eps)))
    abar = S.alpha_bar[model.t].float()[:, None, None, None]
    noise = (model.x_t - abar.sqrt() * batch.x) / (1 - abar).sqrt()
    v = v_from_x0_eps(S, batch.x, noise, model.t)
    torch.testing.assert_close(losses.total, v.square().flatten(1).mean(1), rtol=1e-3, atol=1e-4)
    DenoisingUpscaled(S, most=0)(model, batch, draw)
    assert set(model.side) == {"picture"}
    torch.testing.assert_close(model.side["picture"], enlarge(shrink(batch.x)))


def test_levels_are_even_from_0_to_the_most(images):
    model, seen = Recorder(), []
    for n in range(60):
        DenoisingUpscaled(S, most=9)(model, images[:50], Draw(0, n, 50))
        seen.append(model.side["level"])
    counts = torch.bincount(torch.cat(seen), minlength=10)
    assert len(counts) == 10 and counts.min() > 230 and counts.max() < 370


def test_the_decoder_is_given_the_embedding_of_its_image(images):
    pairs = Codes(torch.randn(6, 3), images.y[:6], "e", "here", images=images.x[:6])
    model = Recorder()
    DenoisingEmbedded(S)(model, pairs, Draw(0, 0, 6))
    assert torch.equal(model.side["vector"], pairs.x) and model.x_t.shape == (6, 1, 28, 28)


def test_all_of_it_trains_and_comes_back_from_a_file(images, tmp_path):
    codes, _ = encoded(coder(), images)
    pairs = Codes(torch.randn(200, 3), images.y, "e", "here", images=images.x)
    conditioned = {name: value for name, value in TINY.items() if name != "num_classes"}
    prior = MLPDenoiser(3, table=(11, 2), width=16, blocks=1)
    runs = {
        "autoencoder": (coder(), Autoencoding(), images),
        "latent": (UNet(image_channels=2, **TINY), DenoisingCodes(S), codes),
        "second": (ConditionedUNet(picture_channels=1, level=True, patch=2, **TINY), DenoisingUpscaled(S, 50), images),
        "decoder": (ConditionedUNet(vector=3, patch=2, **conditioned), DenoisingEmbedded(S), pairs),
        "prior": (prior, Denoising(S, min_snr=None), Codes(pairs.x, images.y, "e", "here")),
    }
    for name, (model, objective, data) in runs.items():
        trainer = Trainer(model, objective, data, CONFIG)
        for _ in trainer.steps(updates=2):
            pass
        trainer.save(tmp_path / name)
        loaded, schedule = load_model(tmp_path / name)
        assert type(loaded) is type(model) and (schedule is None) == (name == "autoencoder")
        assert loaded.item_shape == ((1, 28, 28) if name == "decoder" else data.item_shape)
        described, tables = to_checkpoint(objective)
        assert from_checkpoint(described, tables).__class__ is type(objective)
        resumed = Trainer.load(tmp_path / name, data=data)
        for _ in resumed.steps(updates=3):
            pass
        for _ in trainer.steps(updates=3):
            pass
        assert resumed.history[-1].loss == pytest.approx(trainer.history[-1].loss, rel=1e-6), name


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused(images):
    x, y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    codes = Codes(x, y, "z", "here")
    second = ConditionedUNet(picture_channels=1, level=True, patch=2, **TINY)
    for make, words in (
        (lambda: Codes([1.0], y, "z", "here"), "x must hold codes of floating-point numbers"),
        (lambda: Codes(x, y[:3], "z", "here"), "y must hold one entry for each of the 4 codes"),
        (
            lambda: Codes(x, y, "z", "here", deviation=x[:, :1]),
            r"deviation must have the shape of x, \(4, 2\), got \(4, 1\)",
        ),
        (lambda: Codes(x, y - 1, "z", "here"), "y must hold labels from 0 on"),
        (lambda: Codes(x / 0, y, "z", "here").check_range(), "x must hold at least one code, and finite numbers only"),
        (lambda: Autoencoding(theta=0), "theta must be a positive number, got 0"),
        (lambda: Trainer(UNet(**TINY), Autoencoding(), images, CONFIG), "model must have encode, decode and terms"),
        (lambda: Trainer(coder(), Autoencoding(), codes[:0], CONFIG), "batch_size must be at most"),
        (lambda: DenoisingUpscaled(S, most=101), "most must be an integer from 0 to T = 100, got 101"),
        (lambda: Trainer(UNet(**TINY), DenoisingUpscaled(S), images, CONFIG), "most must be|model must answer"),
        (lambda: Trainer(second, DenoisingUpscaled(S, 50), codes, CONFIG), "data must be Images, got Codes|batch_size"),
        (
            lambda: Trainer(UNet(**TINY), DenoisingCodes(S), images, CONFIG),
            "data must be Codes, with .deviation, got Images",
        ),
        (lambda: DenoisingEmbedded(S).check(second, codes), "data must be Codes with their images, got Codes without"),
    ):
        with pytest.raises(ValueError, match=f"^(?:{words})"):
            make()
