"""v turns with x_t (chapter 6): the arrows are a quarter turn apart, and the pictures are those of x_t and v."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes import Schedule, initial_noise, q_sample
from diffnotes.book.explorers import build_rotation, rotation
from diffnotes.book.live import widgets as live
from diffnotes.process.parameterize import v_from_x0_eps

IMAGE = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
ABAR = Schedule.cosine(T=1000).alpha_bar


@pytest.fixture(scope="module")
def explorer() -> live.Explorer:
    return build_rotation(IMAGE)


def put(explorer: live.Explorer, t: int) -> dict[str, live.Artist]:
    explorer.controls["t"].value = t
    names = ("x_t", "v", "x_t pixels", "v pixels", "x_t name", "v name", "marker", "arc", "phi")
    return dict(zip(names, explorer.plot.artists, strict=True))


def end(arrow) -> np.ndarray:
    """The tip of an arrow that begins at 0."""
    (start, stop) = arrow._posA_posB
    assert tuple(start) == (0, 0)
    return np.array(stop)


@pytest.mark.parametrize("t", [0, 1, 375, 800, 1000])
def test_the_arrows_stand_at_the_coefficients_of_image_and_noise(explorer, t):
    shown, cos, sin = put(explorer, t), math.sqrt(ABAR[t]), math.sqrt(1 - ABAR[t])
    assert end(shown["x_t"]) == pytest.approx([cos, sin]) and end(shown["v"]) == pytest.approx([-sin, cos])
    assert shown["marker"].get_xdata() == [t / 125] * 2
    across, up = shown["arc"].get_data()
    assert math.atan2(up[0], across[0]) == 0 and math.atan2(up[-1], across[-1]) == pytest.approx(math.acos(cos))
    assert np.hypot(across, up) == pytest.approx(np.full(50, 0.36)) and shown["phi"].get_text() == "φ"
    across, up = shown["phi"].get_position()
    assert math.atan2(up, across) == pytest.approx(math.acos(cos) / 2)
    for name in ("x_t", "v"):
        left, right, bottom, top = shown[f"{name} pixels"].get_extent()
        assert [(left + right) / 2, (bottom + top) / 2] == pytest.approx(1.45 * end(shown[name]))
    assert f"x_t = {cos:.2f} x_0 + {sin:.2f} ε, and v = {cos:.2f} ε − {sin:.2f} x_0." in explorer.reading.value
    assert f"t = {t}, φ = {math.degrees(math.acos(cos)):.0f}°:" in explorer.reading.value


@pytest.mark.parametrize("t", [1, 375, 1000])
def test_the_pictures_are_those_of_the_package(explorer, t):
    shown, schedule = put(explorer, t), Schedule.cosine(T=1000)
    x0, eps = IMAGE[None].double(), initial_noise(seed=3, batch=1).double()
    both = q_sample(schedule, x0, t, eps), v_from_x0_eps(schedule, x0, eps, torch.tensor([t]))
    for name, picture in zip(("x_t", "v"), both, strict=True):
        pixels = (np.asarray(picture[0, 0]) + 1.5) / 3
        assert np.asarray(shown[f"{name} pixels"].get_array()) == pytest.approx(pixels.clip(0, 1), abs=0.5 / 31 + 1e-6)


def test_the_slider_changes_the_picture_and_reset_brings_it_back(explorer):
    explorer.reset()
    before = explorer.plot.image.value
    put(explorer, 376)
    moved = explorer.plot.image.value
    assert (np.asarray(Image.open(io.BytesIO(before))) != np.asarray(Image.open(io.BytesIO(moved)))).any()
    explorer.reset()
    assert explorer.plot.image.value == before and explorer.controls["t"].value == 375


def test_it_is_shown_with_a_picture_and_its_words(monkeypatch):
    shown: list[dict] = []
    monkeypatch.setattr(live, "display", lambda what, **_options: shown.append(what))
    rotation(IMAGE, t=500)
    text = shown[0]["text/html"]
    assert 'alt="Left, the plane of an image' in text and "at 45 degrees" in text and "t = 500, φ = 45°" in text


def test_colour_is_shown_in_colour_and_what_is_no_image_or_no_time_is_refused():
    colour = build_rotation(IMAGE.repeat(3, 1, 1))
    assert np.asarray(colour.plot.artists[2].get_array()).shape == (28, 28, 3)
    with pytest.raises(ValueError, match=r"^t must lie in 0\.\.1000, got 1001$"):
        build_rotation(IMAGE, t=1001)
    with pytest.raises(ValueError, match=r"^image must be one image"):
        build_rotation(torch.zeros(2, 1, 28, 28))
