"""Explorers of images in colour and of other sizes, and of models with other labels or none."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes import Images, Schedule, UNet, ddim_sample, dpm_solver_sample, initial_noise
from diffnotes.book import explorers
from diffnotes.book.explorers.guidance import GuidedBetween
from diffnotes.book.live import widgets as live
from diffnotes.models.vae import VAE
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.solvers import karras_times
from diffnotes.training.grid import grid_image, to_uint8

SCHEDULE = Schedule.cosine(T=12)
G = torch.Generator().manual_seed(0)
COLOUR = torch.rand(3, 3, 24, 32, generator=G) * 2 - 1
NAMES = ("cat", "dog")


def model(channels=3, classes=NAMES, label_dropout=0.1, shape=(3, 16, 24)) -> UNet:
    """A small network, not trained, but no longer all zeros at its end."""
    torch.manual_seed(0)
    settings = dict(channels=8, multipliers=(1,), blocks=1, attention=0, patch=4, target="v")
    network = UNet(**settings, num_classes=len(classes) or None, image_channels=channels)
    with torch.no_grad():
        network.last.weight.normal_(0, 0.3)
        if network.label is not None:
            network.label.weight.mul_(5)
    network.item_shape, network.classes, network.label_dropout = shape, classes, label_dropout
    return network.eval().requires_grad_(False)


def sent(explorer: live.Explorer) -> np.ndarray:
    """The pixels that the explorer's picture shows."""
    return np.asarray(Image.open(io.BytesIO(explorer.plot.image.value)))


def drawn(network, y: int | None, seed: int, number: int, steps: int, **how) -> torch.Tensor:
    labels, x_T = None if y is None else torch.full((number,), y), initial_noise(seed, number, (3, 16, 24))
    *_, last = dpm_solver_sample(network, SCHEDULE, x_T, steps=steps, clip=True, y=labels, **how)
    return last.x_t


def test_draw_asks_for_the_models_labels_and_shape():
    network = model()
    explorer = explorers.build_draw(network, SCHEDULE, number=3, steps=7, scale=4.0)
    label = explorer.controls["label"]
    assert [name for name, _ in label.options] == ["any", "cat", "dog"] and label.description == "label"
    guided = GuidedBetween(ClassifierFreeGuidance(network, 4.0), SCHEDULE)
    calls = 7 + int(guided.guides(karras_times(SCHEDULE, 7)[:-1]).sum())
    assert (
        explorer.reading.value
        == f"3 drawings of the label dog, from noise number 0, with {calls} calls of the network."
    )
    label.value = 0
    expected = grid_image(drawn(guided, 0, 0, 3, 7), 3, scale=4)
    assert (sent(explorer) == np.asarray(expected)).all() and expected.mode == "RGB" and calls > 7
    label.value = None  # 14 steps would be more than T
    expected = grid_image(drawn(network, None, 0, 3, 12, eta=1, generator=0), 3, scale=4)
    assert (sent(explorer) == np.asarray(expected)).all()
    assert explorer.reading.value == "3 drawings of any picture, from noise number 0, with 12 calls of the network."


def test_draw_does_not_guide_a_network_that_cannot_be_guided():
    network = model(label_dropout=0.0)
    explorer = explorers.build_draw(network, SCHEDULE, number=3, steps=7)
    assert explorer.reading.value.endswith("with 7 calls of the network.")
    assert (sent(explorer) == np.asarray(grid_image(drawn(network, 1, 0, 3, 7), 3, scale=4))).all()


def test_draw_of_a_model_without_labels_has_no_menu():
    network = model(classes=())
    explorer = explorers.build_draw(network, SCHEDULE, number=2, steps=3)
    assert list(explorer.controls) == ["seed"]
    explorer.controls["seed"].value = 5
    assert (
        sent(explorer) == np.asarray(grid_image(drawn(network, None, 5, 2, 6, eta=1, generator=5), 2, scale=4))
    ).all()
    assert explorer.alt == "2 drawings of any picture, each from another noise."


def test_guidance_is_for_the_models_labels_and_shape():
    network = model()
    explorer = explorers.build_guidance(network, SCHEDULE, digit=1, scale=2.0, number=2, steps=99)
    assert (explorer.controls["digit"].description, explorer.controls["digit"].max) == ("label", 1)
    assert "s = 2.0: guided, label dog · 24 network calls" in explorer.reading.value
    expected = drawn(ClassifierFreeGuidance(network, 2.0), 1, 0, 2, 12)
    assert (sent(explorer) == np.asarray(grid_image(expected, 2, scale=4))).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"classes": ()}, "model must take labels to be guided, got num_classes = None"),
        (
            {"label_dropout": 0.0},
            "model must have been trained with label_dropout > 0 to be guided, got label_dropout = 0",
        ),
        ({}, "digit must lie in 0..1, got 3"),
    ],
)
def test_guidance_refuses_what_cannot_be_guided(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        explorers.build_guidance(model(**settings), SCHEDULE)


def test_films_and_ddim_are_in_colour():
    network = model()
    x_T = initial_noise(0, 2, (3, 16, 24))
    frames = list(ddim_sample(network, SCHEDULE, x_T, steps=3))
    film = explorers.build_film(frames, columns=2, start=3)
    left = np.asarray(grid_image(frames[3].x_t, 2, scale=2))
    assert (sent(film)[:, : left.shape[1]] == left).all() and "finished images" in film.alt
    ddim = explorers.build_ddim(network, SCHEDULE, x_T, steps=50)
    assert ddim.controls["steps"].max == 12  # T
    for sampler, chosen in ((ddim_sample, "DDIM"), (dpm_solver_sample, "2M")):
        ddim.controls["sampler"].value = chosen
        *_, last = sampler(network, SCHEDULE, x_T, steps=12, spacing="uniform")
        assert (sent(ddim) == np.asarray(grid_image(last.x_t, 8, scale=2))).all()


@pytest.mark.parametrize(
    "explorer",
    [
        lambda image: explorers.build_schedule(image[0]),
        lambda image: explorers.build_chain(SCHEDULE, image, t=0),
        lambda image: explorers.build_round_trip(image, {1: (image, image), 2: (image, image)}),
        lambda image: explorers.build_unet(model(), SCHEDULE, image[0], t=1),
    ],
)
def test_images_are_shown_in_their_colours(explorer):
    squares = torch.tensor([[0.8, -0.6, 0.2], [-1.0, 0.4, 0.9]])[:, :, None, None].expand(2, 3, 24, 24)
    shown = explorer(squares[:1].contiguous())
    if "t" in shown.controls and shown.controls["t"].min == 0:
        shown.controls["t"].value = 0
    picture = sent(shown)
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    ours = to_uint8(squares[:1])[0, :, 0, 0].astype(int)
    near = (abs(red - ours[0]) + abs(green - ours[1]) + abs(blue - ours[2])) < 60  # at t = 1 with a little noise
    assert near.sum() > 100


def test_the_chain_of_a_picture_in_colour_moves():
    explorer = explorers.build_chain(SCHEDULE, COLOUR, t=3)
    first = sent(explorer)
    explorer.controls["t"].value = 9
    assert (sent(explorer) != first).any() and "have correlation" in explorer.reading.value


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: explorers.build_schedule("a picture"), "image must be one image (C, H, W) with C = 1 or 3, got str"),
        (
            lambda: explorers.build_unet(model(), SCHEDULE, torch.zeros(1, 24, 24)),
            "image must have the 3 channels of the network, got shape (1, 1, 24, 24)",
        ),
        (
            lambda: explorers.build_ddim(model(), SCHEDULE, torch.zeros(2, 16)),
            "x_T must be a batch of images (B, C, H, W) with C = 1 or 3, got shape (2, 16)",
        ),
        (
            lambda: explorers.build_round_trip(torch.zeros(2, 2, 8, 8), {}),
            "images must be a batch of images (B, C, H, W) with C = 1 or 3, got shape (2, 2, 8, 8)",
        ),
        (
            lambda: explorers.build_latent_plane(VAE(), Images(COLOUR[:, :, :, :24], torch.zeros(3).long(), "a", "b")),
            "images must be (N, 1, 28, 28), as the VAE takes them, got shape (3, 3, 24, 24)",
        ),
        (
            lambda: explorers.build_draw(model(), SCHEDULE, seed=100),
            "seed must lie in 0..99, got 100",
        ),
        (lambda: explorers.build_draw(model(), SCHEDULE, number=0), "number must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
