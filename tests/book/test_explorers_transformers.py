"""Where a patch looks, and what a transformer costs (chapter 16): what is drawn, and what it reads out."""

import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes import Schedule, q_sample
from diffnotes.book.explorers import build_attention, build_cost
from diffnotes.book.explorers.attention import away, spread
from diffnotes.book.explorers.cost import operations, weights
from diffnotes.book.live import widgets as live
from diffnotes.models.dit import DiT


@pytest.fixture(scope="module")
def model() -> DiT:
    torch.manual_seed(0)
    model = DiT(24, 2, 3, side=12)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def explorer(model, image) -> live.Explorer:
    return build_attention(model, Schedule.cosine(100), image, t=50, block=1, row=1, column=1)


def test_the_maps_are_the_rows_of_the_model_s_attention(explorer, model, image):
    explorer.controls["row"].value, explorer.controls["column"].value, explorer.controls["block"].value = 2, 0, 2
    noise = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    looks = model.attention_maps(q_sample(Schedule.cosine(100), image[None], 50, noise), 50)[1, 0, :, 6].reshape(
        3, 3, 3
    )
    for k in range(3):
        drawn = explorer.plot.artists[1 + k].get_array()
        np.testing.assert_allclose(drawn, np.kron(9 * looks[k], np.ones((4, 4))), rtol=1e-5)
        assert f"head {k + 1} {away(looks[k].numpy(), 2, 0):.1f} patches away" in explorer.reading.value
    assert all(explorer.plot.artists[6 + k].get_xy() == (-0.5, 7.5) for k in range(4))


def test_distance_and_spread_of_looks_that_are_known():
    alone, even = np.zeros((3, 3)), np.full((3, 3), 1 / 9)
    alone[0, 2] = 1
    assert (away(alone, 0, 0), spread(alone)) == (2, 1)
    assert spread(even) == pytest.approx(9) and away(even, 1, 1) == pytest.approx((4 + 4 * 2**0.5) / 9)


@pytest.mark.parametrize(("name", "value"), [("t", 90), ("block", 2), ("row", 0), ("column", 2)])
def test_every_slider_moves_the_picture_and_the_reading(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_what_is_refused(model, image):
    schedule = Schedule.cosine(100)
    with pytest.raises(ValueError, match=r"^block must lie in 1\.\.2, got 3$"):
        build_attention(model, schedule, image, t=5, block=3, row=0, column=0)
    with pytest.raises(ValueError, match=r"^row must lie in 0\.\.2, got 3$"):
        build_attention(model, schedule, image, t=5, block=1, row=3, column=0)
    with pytest.raises(ValueError, match=r"^model must be a DiT, got Linear$"):
        build_attention(torch.nn.Linear(1, 1), schedule, image)  # type: ignore[arg-type]


# -- the cost -----------------------------------------------------------------------------------------------------------


def test_weights_are_those_of_the_network():
    for width, depth in ((24, 1), (48, 3)):
        net = DiT(width, depth, 2, convolution=False)
        counted = sum(p.numel() for p in (*net.blocks.parameters(), *net.modulation.parameters(), net.tables))
        assert weights(width, depth) == counted


def test_the_bars_and_the_point_follow_the_menus():
    explorer = build_cost()
    shares = [bar.get_width() for bar in explorer.plot.artists[:3]]
    assert sum(shares) == pytest.approx(100) and shares[1] / shares[0] == pytest.approx(49 / (6 * 96))
    assert "scores and mixing are 8.5% of the matrices" in explorer.reading.value
    matrices, scores, modulation = operations(49, 96)
    assert f"{(6 * (matrices + scores) + modulation) / 1e6:.1f} million operations" in explorer.reading.value
    before = sent(explorer)
    explorer.controls["heads"].value = 12
    assert (sent(explorer) == before).all() and "12 attention patterns" in explorer.reading.value
    explorer.controls["patch"].value = 2
    assert operations(196, 96)[1] == 16 * operations(49, 96)[1]
    assert re.match(r"196 tokens of width 96", explorer.reading.value) and (sent(explorer) != before).any()
    assert explorer.plot.artists[-1].get_data()[1] == [196 / (6 * 96)]


def test_values_that_are_not_in_the_menus_are_refused():
    with pytest.raises(ValueError, match=r"^width must be one of 24, 48, 96, 192, 384, 768, got 100$"):
        build_cost(width=100)
    with pytest.raises(ValueError, match=r"^depth must lie in 1\.\.24, got 25$"):
        build_cost(depth=25)
