"""What a position of the U-Net's feature maps looks at (chapter 5): what is drawn, and what is read out."""

import math
import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes import Schedule, UNet, q_sample
from diffnotes.book.explorers import build_positions, positions
from diffnotes.book.explorers.attention import LARGEST, weights
from diffnotes.book.live import widgets as live
from diffnotes.models.unet import SelfAttention

SCHEDULE = Schedule.cosine(T=100)
IMAGE = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def model() -> UNet:
    torch.manual_seed(0)
    model = UNet(channels=8, multipliers=(1, 2), blocks=1, patch=2, target="v", head_channels=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def built(model) -> live.Explorer:
    return build_positions(model, SCHEDULE, IMAGE, t=30, row=1, column=0)


def test_the_weights_are_those_with_which_the_layer_makes_its_output():
    """Through the definition, position by position; the last layer is the identity."""
    torch.manual_seed(1)
    layer, h = SelfAttention(8, head_channels=8).requires_grad_(False), torch.randn(1, 8, 2, 3)
    layer.out.weight.data, layer.out.bias.data = torch.eye(8), torch.zeros(8)
    given = weights(layer, h)
    values = layer.query_key_value(layer.norm(h).flatten(2).transpose(1, 2))[0, :, 16:]
    expected = (layer(h) - h)[0].flatten(1).T
    assert given.shape == (1, 6, 6) and torch.allclose(given[0] @ values, expected, atol=1e-6)
    two = SelfAttention(8, head_channels=4).requires_grad_(False)
    query, key, _ = two.query_key_value(two.norm(h).flatten(2).transpose(1, 2))[0].chunk(3, dim=1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        score = [[(query[i, part] @ key[j, part] / math.sqrt(4)).exp() for j in range(6)] for i in range(6)]
        heads.append(torch.tensor([[float(one / sum(row)) for one in row] for row in score]))
    assert torch.allclose(weights(two, h)[0], (heads[0] + heads[1]) / 2, atol=1e-5)


def test_it_shows_the_row_of_the_chosen_position(explorer, model):
    explorer.controls["position"].value, explorer.controls["block"].value = (2, 1), "up 1"
    explorer.controls["t"].value = 60
    seen = []
    hook = model.up[0].attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    noise = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    x_t = q_sample(SCHEDULE, IMAGE[None], 60, noise)
    model(x_t, 60)
    hook.remove()
    row = weights(model.up[0].attention, seen[0])[0, 7].reshape(3, 3)
    picture, shades = explorer.plot.artists[:2]
    np.testing.assert_allclose(picture.get_array(), x_t[0, 0])
    np.testing.assert_allclose(shades.get_array(), 9 * row, rtol=1e-4)
    i, j = divmod(int(row.argmax()), 3)
    words = (
        f"gives itself the weight {row[2, 1]:.2f}; its largest, {row.max():.2f}, goes to row {i + 1}, column {j + 1}"
    )
    assert words in explorer.reading.value and "t = 60, up 1: the position in row 3, column 2" in explorer.reading.value
    assert all(frame.get_xy() == (4, 8) for frame in explorer.plot.artists[-2:])
    assert shades.get_clim() == (0, LARGEST)


@pytest.mark.parametrize(("name", "value"), [("position", (0, 2)), ("block", "down 2"), ("t", 90)])
def test_every_control_moves_the_picture_and_the_reading_and_reset_brings_them_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_click_on_a_square_of_the_image_chooses_it(explorer):
    """The areas that take clicks are the squares: the frame is drawn around the one that is chosen."""
    options = [value for _, value in explorer.controls["position"].options]
    assert len(explorer.boxes) == len(options) == 9 and options[5] == (1, 2)
    for chosen, (left, top, right, bottom) in zip(options, explorer.boxes, strict=True):
        assert 0 < left < right < 1 and 0 < top < bottom < 1
        explorer.controls["position"].value = chosen
        picture = explorer.plot.picture()
        edge = picture.getpixel((round(picture.width * left), round(picture.height * (top + bottom) / 2)))
        assert np.allclose(edge, (0xE6, 0x9F, 0x00), atol=60), chosen


def test_a_picture_stands_behind_it(model, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: lines.append(what["text/html"]))
    positions(model, SCHEDULE, IMAGE, t=40, block="up 2", row=2, column=1)
    assert "the one in row 3, column 2 is marked" in lines[0] and "t = 40, up 2" in lines[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t": 0}, "t must lie in 1..100, got 0"),
        ({"row": 3}, "row must lie in 0..2, got 3"),
        ({"column": -1}, "column must lie in 0..2, got -1"),
        ({"block": "down 1"}, "block must be one of down 2, middle, up 1, up 2, got 'down 1'"),
        ({"model": torch.nn.Linear(1, 1)}, "model must be a UNet, got Linear"),
    ],
)
def test_it_refuses_what_it_cannot_show(model, wrong, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_positions(
            **{"model": model, "schedule": SCHEDULE, "image": IMAGE, "t": 5, "row": 0, "column": 0, **wrong}
        )
