import json
import re

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from pixels import sent
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from diffnotes.book.explorers.unet import activations, blocks, build_unet, costs, labelled, most_alike, unet
from diffnotes.book.explorers.unet_map import COLOURS, LEFT, MIDDLE, RIGHT, places_of
from diffnotes.book.live import plots
from diffnotes.book.live import widgets as live
from diffnotes.models.unet import UNet
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import to_uint8

SCHEDULE = Schedule.cosine(T=100)
IMAGE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
NAMES = [
    "time", "first", "down 1", "halve 1", "down 2", "middle", "up 1", "up 2", "double 1", "up 3", "up 4", "last",
]  # fmt: skip


def network(**settings) -> UNet:
    """A small U-Net with random weights in every layer, also in those that begin at zero."""
    torch.manual_seed(0)
    model = UNet(**{"channels": 8, "multipliers": (1, 2), "blocks": 1, "patch": 2, "target": "v", **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


MODEL = network()


def choose(explorer: live.Explorer, name: str) -> str:
    """Choose a block by its name; returns the reading."""
    control = explorer.controls["block"]
    control.value = dict(control.options)[name]
    return explorer.reading.value


def noisy(t: int) -> torch.Tensor:
    return q_sample(SCHEDULE, IMAGE, t, torch.randn(IMAGE.shape, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_unet(MODEL, SCHEDULE, IMAGE)


# -- the blocks -------------------------------------------------------------------------------------------------------


def test_the_blocks_stand_in_the_order_in_which_they_run():
    assert [block.name for block in blocks(MODEL)] == NAMES


def test_the_skips_join_the_stops_that_the_network_joins():
    """What the last channels of a block's input hold is the output of the block that its skip is said to come from."""
    found = blocks(MODEL)
    joined = {block.name: found[block.skip_from].name for block in found if block.skip_from is not None}
    assert joined == {"up 1": "down 2", "up 2": "halve 1", "up 3": "down 1", "up 4": "first"}
    given: dict[str, torch.Tensor] = {}
    hooks = [
        block.layers[-1].register_forward_pre_hook(lambda _, args, name=block.name: given.update({name: args[0]}))
        for block in found
    ]
    seen, _ = activations(MODEL, found, noisy(30), torch.tensor([30]))
    for hook in hooks:
        hook.remove()
    for block in found:
        if block.skip_from is not None:
            skip = seen[block.skip_from].answer
            assert torch.equal(given[block.name][0, -len(skip) :], skip)


@pytest.mark.parametrize("settings", [{}, {"num_classes": 10}, {"multipliers": (1, 2, 2), "patch": 1, "blocks": 2}])
def test_the_costs_have_every_weight_and_all_computation_once(settings):
    model = network(**settings)
    cost = costs(model, blocks(model), IMAGE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(IMAGE, torch.tensor([5]))
    assert sum(weights for weights, _ in cost) == sum(p.numel() for p in model.parameters())
    assert sum(flops for _, flops in cost) == counter.get_total_flops()


def test_the_cost_of_a_convolution_by_hand():
    found = blocks(MODEL)
    weights, flops = costs(MODEL, found, IMAGE)[NAMES.index("halve 1")]
    assert (weights, flops) == (9 * 8 * 8 + 8, 2 * 9 * 8 * 8 * 2 * 2)  # 8 channels, to 2 by 2 places


def test_looking_changes_nothing_and_gives_the_networks_own_answer():
    x_t, t = noisy(30), torch.tensor([30])
    with torch.no_grad():
        before = MODEL(x_t, t)
    seen, answer = activations(MODEL, blocks(MODEL), x_t, t)
    assert torch.equal(answer, before)
    assert torch.equal(F.pixel_shuffle(seen[-1].answer[None], 2), before)
    assert not any(layer._forward_hooks for layer in MODEL.modules())


# -- the map ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"multipliers": (1,)}, {"multipliers": (1, 2, 2), "patch": 1, "blocks": 2}])
def test_on_the_map_a_skip_leads_straight_across_and_no_box_covers_another(settings):
    found = blocks(network(**settings))
    places = places_of(found)
    assert len(set(places)) == len(places) == len(found)
    for block, (x, y) in zip(found, places, strict=True):
        if block.skip_from is not None:
            assert x == RIGHT and places[block.skip_from] == (LEFT, y)
    path = [y for _, y in places[1:]]
    bottom = path.index(min(path))
    assert all(a > b for a, b in zip(path[:bottom], path[1 : bottom + 1], strict=True))
    assert all(a < b for a, b in zip(path[bottom:], path[bottom + 1 :], strict=False))
    assert places[0][0] == places[1 + bottom][0] == MIDDLE


def test_the_labelled_u_shows_the_ends_and_a_feature_map_for_each_block(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: shown.append((figure, alt)))
    labelled(MODEL, SCHEDULE, IMAGE, t=40)
    (figure, alt) = shown[0]
    noisy_picture, answer, *maps = (image.get_array() for image in figure.axes[0].images)
    with torch.no_grad():
        expected = MODEL(noisy(40), torch.tensor([40]))
    assert (noisy_picture == to_uint8(noisy(40))[0, 0]).all() and (answer == to_uint8(expected)[0, 0]).all()
    assert len(maps) == len(NAMES) - 1 and "t = 40" in alt
    words = [text.get_text() for text in figure.axes[0].texts]
    assert all(name in words for name in NAMES) and words.count("t") == 7 + 1  # seven residual blocks, and the key


def test_of_the_feature_maps_the_most_alike_is_shown():
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    half = F.avg_pool2d(image, 2)
    maps = torch.cat([-half, torch.rand(1, 4, 4), 3 * half + 1, torch.zeros(1, 4, 4)])
    assert torch.equal(most_alike(maps, image), maps[2])


# -- the explorer -----------------------------------------------------------------------------------------------------


def test_it_begins_at_the_first_block_of_the_way_down_early_in_the_schedule(explorer):
    assert explorer.values() == {"block": NAMES.index("down 1"), "t": 30}


def test_its_reading_gives_shapes_weights_and_shares(explorer):
    reading = choose(explorer, "up 2")
    assert "in: 24 × 2 × 2, 8 of these channels over the skip connection from halve 1 · out: 16 × 2 × 2" in reading
    own, everything = (sum(p.numel() for p in part.parameters()) for part in (MODEL.up[1], MODEL))
    assert f"{own:,} weights, {own / everything:.1%} of all" in reading
    flops = [f for _, f in costs(MODEL, blocks(MODEL), IMAGE)]
    share = flops[NAMES.index("up 2")] / sum(flops)
    assert f"additions for an image, {share:.1%} of all" in reading


def test_its_reading_tells_what_the_time_does_to_a_residual_block(explorer):
    def factors(t: int) -> torch.Tensor:
        e = MODEL.time(torch.cat([f(t * 10000.0 ** (-torch.arange(8) / 8)) for f in (torch.cos, torch.sin)])[None])
        return 1 + MODEL.down[0].scale_shift(F.silu(e))[0, :8]

    for t in (30, 90):
        explorer.controls["t"].value = t
        low, high = (float(n) for n in re.findall(r"from (-?[\d.]+) to (-?[\d.]+)\.$", choose(explorer, "down 1"))[0])
        assert (low, high) == pytest.approx((factors(t).min().item(), factors(t).max().item()), abs=6e-3)


@pytest.mark.parametrize(
    ("name", "words"), [("halve 1", "does not use the time"), ("time", "embeds t = 30; every residual block")]
)
def test_its_reading_tells_the_other_blocks_apart(explorer, name, words):
    assert words in choose(explorer, name)


def test_it_shows_the_noisy_image_and_the_answer(explorer):
    explorer.controls["t"].value = 60
    noisy_picture, answer = explorer.plot.artists[:2]
    with torch.no_grad():
        expected = MODEL(noisy(60), torch.tensor([60]))
    assert (noisy_picture.get_array() == to_uint8(noisy(60))[0, 0]).all()
    assert (answer.get_array() == to_uint8(expected)[0, 0]).all()


def test_its_maps_are_the_blocks_output_each_from_its_smallest_to_its_largest_value(explorer):
    choose(explorer, "first")
    maps = activations(MODEL, blocks(MODEL), noisy(30), torch.tensor([30]))[0][1].answer.numpy()
    shown = np.ma.filled(explorer.plot.artists[3].get_array(), np.nan)
    assert shown.shape == (15, 15)  # 8 maps of 4 by 4 in 3 rows of 3, with a gap after each
    second = shown[0:4, 5:9]
    assert second == pytest.approx((maps[1] - maps[1].min()) / (maps[1].max() - maps[1].min()), abs=1e-6)
    assert np.isnan(shown[10:, 10:]).all() and np.isnan(shown[4]).all()


def test_the_maps_of_the_clock_share_one_scale(explorer):
    choose(explorer, "time")
    shown = np.ma.filled(explorer.plot.artists[3].get_array(), np.nan)
    values = shown[~np.isnan(shown)]
    assert len(values) == 32 and values.min() == 0 and values.max() == 1 and len(set(values.tolist())) > 20


def test_every_block_moves_the_picture_and_the_mark(explorer):
    pictures, corners = [], []
    for name in NAMES:
        choose(explorer, name)
        pictures.append(sent(explorer).tobytes())
        corners.append(explorer.plot.artists[2].get_xy())
    assert len(set(pictures)) == len(set(corners)) == len(NAMES)


def test_the_mark_does_not_cover_the_sign_of_the_time(explorer):
    ax = explorer.plot.figure.axes[0]
    x, y = places_of(blocks(MODEL))[NAMES.index("down 1")]
    sign = min(
        (text for text in ax.texts if text.get_text() == "t"),
        key=lambda text: np.hypot(text.get_position()[0] - x, text.get_position()[1] - y),
    )
    column, row = ax.transData.transform(sign.get_position()).round().astype(int)
    signs = []
    for name in ("down 1", "last"):
        choose(explorer, name)
        signs.append(sent(explorer)[::-1][row - 4 : row + 5, column - 4 : column + 5])
    assert signs[0].shape[:2] == (9, 9) and (signs[0] == signs[1]).all()


def test_the_key_explains_the_colours_of_the_blocks_that_there_are(explorer):
    def key(one: live.Explorer) -> dict[str, str]:
        legend = one.plot.figure.axes[0].get_legend()
        patches = zip(legend.get_texts(), legend.get_patches(), strict=True)
        return {text.get_text(): to_hex(patch.get_facecolor()).upper() for text, patch in patches}

    assert key(explorer)["residual block with self-attention"] == COLOURS[blocks(MODEL)[NAMES.index("middle")].kind]
    without = key(build_unet(network(multipliers=(1,), attention=0), SCHEDULE, IMAGE))
    assert list(without) == ["residual block", "convolution"]


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls["t"].value = 90
    choose(explorer, "middle")
    assert (sent(explorer) != first).any()
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


@pytest.mark.parametrize("settings", [{"multipliers": (1,), "attention": 0}, {"multipliers": (1, 2, 2), "patch": 1}])
@pytest.mark.parametrize("t", [1, 100])
def test_it_works_for_other_networks_and_at_both_ends(settings, t):
    explorer = build_unet(network(num_classes=3, **settings), SCHEDULE, IMAGE[0], block="middle", t=t)
    assert "nan" not in explorer.reading.value
    assert ("residual block with attention" in explorer.reading.value) == ("attention" not in settings)


def test_every_control_has_a_name(explorer):
    assert [control.description for control in explorer.controls.values()] == ["block", "t"]


def test_a_picture_stands_behind_it(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: lines.append(what["text/html"]))
    unet(MODEL, SCHEDULE, IMAGE, block="up 3", t=40)
    assert "image at t = 40" in lines[0] and "up 3 is marked" in lines[0] and "<b>up 3</b>, residual block" in lines[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t": 0}, "t must lie in 1..100, got 0"),
        ({"block": "up 9"}, f"block must be one of {', '.join(NAMES)}, got 'up 9'"),
        (
            {"image": torch.zeros(2, 1, 8, 8)},
            "image must be one image (C, H, W) with C = 1 or 3, got shape (2, 1, 8, 8)",
        ),
    ],
)
def test_it_refuses_what_it_cannot_show(wrong, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_unet(**{"model": MODEL, "schedule": SCHEDULE, "image": IMAGE, **wrong})


def test_a_click_on_a_box_chooses_its_block(built: live.Explorer):
    """Near the lower left corner of each area that takes clicks, the picture has the colour of the block's kind."""
    picture = built.plot.picture()
    assert len(built.boxes) == len(NAMES) == len(built.controls["block"].options)
    for block, (left, top, right, bottom) in zip(blocks(MODEL), built.boxes, strict=True):
        assert 0 < left < right < 1 and 0 < top < bottom < 1
        corner = picture.getpixel((int(picture.width * left) + 5, int(picture.height * bottom) - 5))
        assert "#{:02X}{:02X}{:02X}".format(*corner) == COLOURS[block.kind], block.name
    (script,) = re.findall(r"\(this, (\[\[.*?\]\]), 20\)", built.widget.children[0].children[0].children[0].value)
    assert np.allclose(json.loads(script), built.boxes, atol=1e-4)
