"""The objectives of codes and of masked patches, and a trainer that keeps a moving codebook."""

import pytest
import torch
from torch.nn import functional as F

from diffnotes.models.autoregressive import PixelCNN
from diffnotes.models.codes import VQVAE
from diffnotes.models.masked import MaskedAutoencoder
from diffnotes.models.unet import UNet
from diffnotes.training.config import TrainConfig
from diffnotes.training.data import load_images
from diffnotes.training.objectives import Draw, MaskedPatches, NextToken, VectorQuantised
from diffnotes.training.restore import load_model
from diffnotes.training.tokens import Tokens
from diffnotes.training.trainer import Trainer

CONFIG = dict(batch_size=16, warmup=5, precision="float32", ema_decay=0.9)


@pytest.fixture(scope="module")
def images():
    return load_images("digits", "train", size=28)


def vqvae(**settings) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(**(dict(codes=8, dim=4, width=16) | settings))


def test_the_loss_is_a_cross_entropy_and_the_commitment(images):
    model, batch = vqvae().eval(), images[:5]
    losses = VectorQuantised(commitment=0.5)(model, batch, Draw(0, 0, 5))
    logits, quantized = model(batch.x)
    ink, p = (batch.x + 1) / 2, logits.sigmoid()
    nats = -(ink * p.log() + (1 - ink) * (1 - p).log()).flatten(1).sum(1)
    distance = (model.encoder(batch.x) - quantized.q).square().flatten(1).sum(1)
    torch.testing.assert_close(losses.parts["reconstruction"], nats, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(losses.total, nats + 0.5 * distance, rtol=1e-4, atol=1e-3)


def test_training_lowers_the_loss_and_the_average_takes_the_codebook_as_it_is(images, tmp_path):
    trainer = Trainer(vqvae(), VectorQuantised(), images, TrainConfig(**(CONFIG | {"learning_rate": 1e-2})))
    losses = [state.loss for state in trainer.steps(updates=40)]
    assert losses[-1] < 0.9 * losses[0]
    for name, buffer in trainer.model.named_buffers():
        assert torch.equal(dict(trainer.ema.model.named_buffers())[name], buffer)
    moved = trainer.ema.model.encoder[0].weight - trainer.model.encoder[0].weight
    assert moved.abs().max() > 0
    trainer.save(tmp_path)
    loaded, _ = load_model(tmp_path)
    assert torch.equal(loaded.encode(images.x[:4]), trainer.ema.model.encode(images.x[:4]))


def test_a_run_that_was_stopped_goes_on_with_the_same_codebook(images, tmp_path):
    straight = Trainer(vqvae(), VectorQuantised(), images, TrainConfig(**CONFIG))
    list(straight.steps(updates=8))
    first = Trainer(vqvae(), VectorQuantised(), images, TrainConfig(**CONFIG))
    steps = first.steps(updates=8)
    for _ in range(4):
        next(steps)
    steps.close()
    first.save(tmp_path)
    second = Trainer.load(tmp_path, images)
    list(second.steps(updates=8))
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_masked_patches_count_the_hidden_ones_alone(images):
    torch.manual_seed(0)
    model, batch, draw = MaskedAutoencoder(width=16, depth=1).eval(), images[:6], Draw(1, 2, 6)
    losses = MaskedPatches(keep=12)(model, batch, draw)
    order = torch.rand(6, 49, generator=draw("patches")).argsort(1)
    predicted = model(batch.x, order[:, :12])
    for i in range(6):
        hidden = order[i, 12:]
        expected = F.mse_loss(predicted[i, hidden], model.patches(batch.x)[i, hidden])
        torch.testing.assert_close(losses.total[i], expected)
    trainer = Trainer(model, MaskedPatches(), images, TrainConfig(**CONFIG))
    history = [state.loss for state in trainer.steps(updates=20)]
    assert sum(history[-5:]) < sum(history[:5])


def test_a_pixelcnn_is_trained_on_tokens():
    start = torch.arange(60) % 5
    data = Tokens((start[:, None] + torch.arange(6)) % 5, 5, "counting", "here", y=start % 2)
    torch.manual_seed(0)
    model = PixelCNN(5, (2, 3), width=16, layers=1, num_classes=2)
    trainer = Trainer(model, NextToken(), data, TrainConfig(**(CONFIG | {"learning_rate": 1e-2})))
    losses = [state.loss for state in trainer.steps(updates=60)]
    assert losses[-1] < 0.6 < losses[0]  # the first token alone costs log(5) / 6 = 0.27, or less with the label


@pytest.mark.usefixtures("as_installed")
def test_what_does_not_go_together_is_refused(images):
    tokens = Tokens([[0, 1]], 2, "a", "b")
    small = MaskedAutoencoder(width=8, depth=1, heads=2)
    for make, words in (
        (lambda: VectorQuantised(commitment=-1), "commitment must be a number >= 0"),
        (lambda: VectorQuantised().check(vqvae(), tokens), "data must be Images, with .x, got Tokens"),
        (
            lambda: VectorQuantised().check(torch.nn.Identity(), images),
            "model must give logits and what the quantiser answers",
        ),
        (lambda: MaskedPatches(keep=0), "keep must be"),
        (
            lambda: MaskedPatches(keep=49).check(small, images),
            "keep must be fewer than the 49 patches of an image, got 49",
        ),
        (lambda: MaskedPatches().check(UNet(channels=8), images), "model must have positions and patches"),
        (lambda: MaskedPatches().check(small, tokens), "data must be Images, with .x, got Tokens"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
