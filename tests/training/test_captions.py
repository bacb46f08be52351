"""Captions: numbers, words and tokens of one another; words left out; the objectives that learn from them."""

import re

import pytest
import torch

from diffnotes import Images, Schedule, load_images
from diffnotes.models.captioned import CaptionedUNet
from diffnotes.models.clip import CLIP, contrastive_loss
from diffnotes.process.forward import q_sample
from diffnotes.process.losses import simple_loss
from diffnotes.training import captions
from diffnotes.training.attributes import attribute_words
from diffnotes.training.captions import (
    ATTRIBUTES,
    CAPTIONS,
    EMPTY,
    VOCABULARY,
    caption,
    captioned,
    leave_out,
    number_of,
    parts_of,
    text_of,
    token_table,
    tokenize,
)
from diffnotes.training.config import TrainConfig
from diffnotes.training.objectives import Contrastive, Denoising, DenoisingCaptions, Draw
from diffnotes.training.objectives.captions import drawn_captions
from diffnotes.training.pretrained import load_captioned, load_pretrained
from diffnotes.training.restore import load_model
from diffnotes.training.train_captioned import new_network, train
from diffnotes.training.trainer import Trainer

SCHEDULE = Schedule.cosine(50)
SMALL = dict(channels=8, multipliers=(1,), blocks=1, attention=0, patch=2, target="v")


@pytest.fixture(scope="module")
def data() -> Images:
    return captioned(load_images("digits", "train", size=28)[:64])


def clip(**settings) -> CLIP:
    torch.manual_seed(0)
    return CLIP(token_table(), len(VOCABULARY), dim=16, width=4, **settings)


# -- numbers, words, tokens ---------------------------------------------------------------------------------------------


def test_every_number_is_one_caption_and_the_last_one_is_empty():
    texts = [text_of(n) for n in range(CAPTIONS)]
    assert len(set(texts)) == CAPTIONS == 704 and texts[EMPTY] == ""
    assert texts[0] == "a small thin zero leaning left"
    parts = parts_of(torch.arange(CAPTIONS))
    assert torch.equal(number_of(parts[:, 0], parts[:, 1:]), torch.arange(CAPTIONS))


def test_captions_say_what_they_are_given():
    assert caption(7, "thick", "small", "leaning right") == "a small thick seven leaning right"
    assert (
        caption(8) == "an eight"
        and caption(8, "thin") == "a thin eight"
        and caption(thickness="thin") == "a thin digit"
    )
    assert caption() == ""


def test_tokens_are_words_and_read_back():
    row = tokenize(["a thick seven leaning right"])[0]
    assert [VOCABULARY[k] for k in row.tolist()] == ["<start>", "a", "thick", "seven", "leaning", "right", ""]
    assert [VOCABULARY[k] for k in tokenize([""])[0].tolist()] == ["<start>", *[""] * 6]
    table = token_table()
    assert table.shape == (704, 7) and len({tuple(row) for row in table.tolist()}) == 704


def test_captions_of_images_are_what_the_meters_read(data):
    images = load_images("digits", "train", size=28)[:64]
    parts, words = parts_of(data.y), attribute_words(images.x)
    assert torch.equal(parts[:, 0], images.y)
    assert torch.equal(parts[:, [1, 3]], words[:, [0, 2]]) and (parts[:, 2] == 3).all()
    assert torch.equal(data.x, images.x)


def test_words_are_left_out_as_often_as_asked(generator):
    full = torch.zeros(20_000, dtype=torch.int64)
    said = parts_of(leave_out(full, (0.15, 0.3, 0.0, 1.0), torch.rand(20_000, 4, generator=generator)))
    gone = (said == torch.tensor([10, 3, 3, 3])).float().mean(0)
    assert torch.allclose(gone, torch.tensor([0.15, 0.3, 0.0, 1.0]), atol=0.015)
    assert ((said == 0) | (said == torch.tensor([10, 3, 3, 3]))).all()
    already = leave_out(torch.tensor([EMPTY]), (0.0,) * 4, torch.rand(1, 4, generator=generator))
    assert already.item() == EMPTY


# -- the objectives -------------------------------------------------------------------------------------------------------


def test_the_captions_of_an_update_depend_on_seed_and_update_alone(data):
    first, again, later = (drawn_captions(data.y, (0.5,) * 4, Draw(3, update, 64)) for update in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, later)
    halves = [drawn_captions(data.y[part], (0.5,) * 4, Draw(3, 5, 64, part)) for part in (slice(0, 32), slice(32, 64))]
    assert torch.equal(torch.cat(halves), first)


def test_contrastive_is_the_formula_of_the_vectors(data):
    model, batch, draw = clip(), data[:16], Draw(0, 0, 16)
    losses = Contrastive()(model, batch, draw)
    y = drawn_captions(batch.y, captions.LEFT_OUT, draw)
    u, v = model.image(batch.x), model.text(y)
    assert torch.allclose(losses.total, contrastive_loss(u, v, model.scale()))


def test_a_noise_aware_model_is_shown_noised_pictures_and_their_times(data):
    seen = {}

    class Watching(CLIP):
        def image(self, x, t=0):
            seen.update(x=x, t=t)
            return super().image(x, t)

    torch.manual_seed(0)
    model = Watching(token_table(), len(VOCABULARY), dim=16, width=4, noise_aware=True)
    batch = data[:32]
    Contrastive(SCHEDULE)(model, batch, Draw(0, 0, 32))
    t = seen["t"]
    assert int(t.min()) <= 2 and int(t.max()) >= 48 and len(t.unique()) > 28
    g = Draw(0, 0, 32)("noise")
    torch.rand(1, generator=g)
    eps = torch.randn(32, 1, 28, 28, generator=g)
    assert torch.allclose(seen["x"], q_sample(SCHEDULE, batch.x, t, eps))
    Contrastive(SCHEDULE)(model, data[:51], Draw(0, 0, 51))
    assert torch.equal(seen["t"].sort().values, torch.arange(51))  # each time once, and 0 for a clean picture


def test_denoising_captions_is_denoising_with_words_left_out(data):
    torch.manual_seed(0)
    model = CaptionedUNet(token_table(), len(VOCABULARY), SMALL)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    objective, batch, draw = DenoisingCaptions(SCHEDULE, all_out=0.0), data[:16], Draw(1, 2, 16)
    losses = objective(model, batch, draw)
    x0, _, t, eps = Denoising(SCHEDULE, logit_normal=(0.6, 1.0), label_dropout=0.0).inputs(model, batch, draw)
    y = drawn_captions(batch.y, captions.LEFT_OUT, draw)
    assert torch.allclose(losses.total, simple_loss(model, SCHEDULE, x0, t, eps, y), rtol=1e-5)
    everything_out = DenoisingCaptions(SCHEDULE, all_out=1.0)(model, batch, draw).total
    assert torch.allclose(everything_out, simple_loss(model, SCHEDULE, x0, t, eps, None), rtol=1e-5)


def test_both_train_save_and_load(data, tmp_path):
    config = TrainConfig(
        batch_size=16, optimizer="adamw", learning_rate=3e-3, warmup=2, ema_decay=0.5, precision="float32"
    )
    unet = CaptionedUNet(token_table(), len(VOCABULARY), SMALL)
    for name, model, objective in (
        ("clip", clip(), Contrastive()),
        ("aware", clip(noise_aware=True), Contrastive(SCHEDULE)),
        ("unet", unet, DenoisingCaptions(SCHEDULE)),
    ):
        trainer = Trainer(model, objective, data, config)
        losses = [state.loss for state in trainer.steps(updates=12)]
        assert sum(losses[-4:]) < sum(losses[:4])
        trainer.save(tmp_path / name)
        loaded, _ = load_model(tmp_path / name)
        for weight, other in zip(loaded.state_dict().values(), trainer.ema.model.state_dict().values(), strict=True):
            assert torch.equal(weight, other)


# -- the network that ships ---------------------------------------------------------------------------------------------


def test_the_new_network_answers_as_the_old_one(generator):
    network, _ = new_network()
    unet, _ = load_pretrained("mnist-small")
    x, t = torch.randn(11, 1, 28, 28, generator=generator), torch.linspace(1, 1000, 11).long()
    labels = torch.arange(11)
    y = number_of(labels, torch.full((11, 3), 3))
    with torch.no_grad():
        assert torch.allclose(network.eval()(x, t, y), unet(x, t, labels), atol=1e-4)
        assert torch.allclose(network(x, t), unet(x, t), atol=1e-4)


def test_the_trained_network_loads_and_its_words_count(generator):
    network, schedule = load_captioned()
    assert schedule.T == 1000 and network.label_dropout == pytest.approx(0.1)
    assert not any(weight.requires_grad for weight in network.parameters())
    x = torch.randn(4, 1, 28, 28, generator=generator)
    y = number_of(torch.tensor([7, 7, 7, 10]), torch.tensor([[0, 3, 3], [2, 3, 3], [3, 3, 2], [3, 3, 3]]))
    with torch.no_grad():
        answers = network(x[:1].expand(4, -1, -1, -1), 800, y)
    assert all((answers[i] - answers[0]).abs().max() > 1e-2 for i in range(1, 4))


def test_training_it_further_takes_steps(tmp_path):
    trainer = train(load_images("digits", "train", size=28)[:64], updates=2)
    assert trainer.update == 2 and len(trainer.history) == 2


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: caption(12), ValueError, "digit must be one of zero, one, two"),
        (
            lambda: caption(thickness="fat"),
            ValueError,
            "thickness must be one of thin, medium, thick, or None, got 'fat'",
        ),
        (lambda: tokenize(["a purple seven"]), KeyError, "the vocabulary has no word 'purple'"),
        (lambda: tokenize(["a small thick seven leaning right a"]), ValueError, "texts must have at most 6 words each"),
        (lambda: parts_of(torch.tensor([704])), ValueError, "numbers must lie in 0..703, got 704..704"),
        (
            lambda: number_of(torch.zeros(1).long(), torch.zeros(1, 3).long(), ("colour",)),
            ValueError,
            "said must hold names out of digit, thickness, size, slant, got ['colour']",
        ),
        (
            lambda: leave_out(torch.zeros(1).long(), (0.1,) * 3, torch.rand(1, 4)),
            ValueError,
            "shares and lot must hold 4",
        ),
        (lambda: Contrastive(left_out=(0.1,)), ValueError, "left_out must be 4 numbers"),
        (lambda: Contrastive("cosine"), ValueError, "schedule must be a Schedule, or None for clean pictures, got str"),
        (lambda: DenoisingCaptions(SCHEDULE, all_out=2), ValueError, "all_out must lie in [0, 1], got 2"),
    ],
)
def test_wrong_arguments_are_named(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


@pytest.mark.usefixtures("as_installed")
def test_objectives_refuse_what_does_not_fit(data):
    config = TrainConfig(batch_size=8, precision="float32")
    plain = load_images("digits", "train", size=28)[:64]
    unet, _ = load_pretrained("mnist-small", trainable=True)
    for model, objective, images, text in (
        (unet, Contrastive(), data, "model must take captions 0..703"),
        (unet, DenoisingCaptions(SCHEDULE), data, "model must take captions 0..703"),
        (clip(noise_aware=True), Contrastive(), data, "schedule must be given for a noise-aware model"),
        (clip(), Contrastive(SCHEDULE), data, "schedule must be given for a noise-aware model, and be None"),
        (CaptionedUNet(token_table(), 30, SMALL), Contrastive(), plain, "model must have image(), as CLIP has"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            Trainer(model, objective, images, config)


def test_the_attributes_have_the_words_of_the_vocabulary():
    assert {word for words in ATTRIBUTES.values() for text in words for word in text.split()} <= set(VOCABULARY)
