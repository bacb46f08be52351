"""Where the bits are (chapter 12): its curve is the package's measurement, and the reading is true of it."""

import math
import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes.book.explorers import bits, build_bits
from diffnotes.book.explorers.bits import HIGHEST, WEIGHTS, bill
from diffnotes.book.live import widgets as live
from diffnotes.process.exact import DatasetDenoiser, GaussianDenoiser
from diffnotes.process.losses import min_snr_weight
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.cosine()
DIGITS = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
MODEL = DatasetDenoiser(SCHEDULE, DIGITS)


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_bits(MODEL, SCHEDULE, DIGITS[:6])


# -- what is measured ---------------------------------------------------------------------------------------------------


def test_the_bits_are_those_of_the_closed_form():
    """Data N(0, v): half of abar v / (abar v + 1 - abar) nats for each unit of gamma and each pixel."""
    v = 0.25
    x = 0.5 * torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = bill(GaussianDenoiser(SCHEDULE, variance=v), SCHEDULE, x)
    bar = SCHEDULE.alpha_bar[found.times]
    expected = (bar * v / (bar * v + 1 - bar) / (2 * math.log(2))).numpy()
    np.testing.assert_allclose(found.bits(), expected, rtol=0.06, atol=1e-4)
    assert np.all(np.diff(found.gammas) > 0) and found.gammas[0] == pytest.approx(-10, abs=0.3)


def test_every_share_has_the_integral_1_and_the_weights_are_those_of_the_losses():
    found = bill(MODEL, SCHEDULE, DIGITS[:4])
    shares = {name: found.share(name) for name in WEIGHTS}
    for share in shares.values():
        assert np.trapezoid(share, found.gammas) == pytest.approx(1)
    inner = (found.gammas > -5) & (found.gammas < 7.5)  # below, the schedule's offset counts
    simple = shares["the simple loss"] / shares["the bound"] * np.cosh(found.gammas / 2)  # dt / d gamma is sech (12.14)
    np.testing.assert_allclose(simple[inner] / simple[inner].mean(), 1, rtol=0.12)
    weighted = shares["min-SNR, 5"] / shares["the simple loss"]
    weight = min_snr_weight(SCHEDULE, torch.tensor(found.times), 5.0, "eps").numpy()
    np.testing.assert_allclose(weighted / weighted[-1], weight / weight[-1], rtol=1e-6)


# -- what is shown ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 7, 20, 32])
@pytest.mark.parametrize("weight", list(WEIGHTS))
def test_the_reading_is_the_area_left_of_the_slider(explorer, place, weight):
    explorer.controls["weight"].value = weight
    explorer.controls["place"].value = place
    found = bill(MODEL, SCHEDULE, DIGITS[:6])
    words = explorer.reading.value
    share = found.share(weight)
    left = float(np.trapezoid(share[: place + 1], found.gammas[: place + 1]))
    assert int(re.search(r"(\d+) % is at less noise", words)[1]) == round(100 * left)
    assert f"t = {found.times[place]}:" in words and ("bits per dimension" in words) == (weight == "the bound")
    t = found.times[place]
    noise = 127.5 * math.sqrt((1 - SCHEDULE.alpha_bar[t]) / SCHEDULE.alpha_bar[t])
    assert float(re.search(r"noise of ([\d.e+]+) grey steps", words)[1]) == pytest.approx(noise, rel=0.01)
    area = explorer.plot.artists[2].get_xy()
    assert area[:, 0].max() == pytest.approx(found.gammas[place]) and area[:, 1].max() == pytest.approx(
        share[: place + 1].max()
    )


def test_the_noisy_digit_and_the_estimate_are_those_of_the_level(explorer):
    explorer.controls["place"].value = 0
    noisy, estimate = (np.asarray(artist.get_array()) for artist in explorer.plot.artists[:2])
    assert np.abs(noisy - DIGITS[0, 0].numpy()).max() < 0.1 and np.abs(estimate - DIGITS[0, 0].numpy()).max() < 0.1
    explorer.controls["place"].value = 32
    noisy = np.asarray(explorer.plot.artists[0].get_array())
    assert np.abs(noisy - DIGITS[0, 0].numpy()).mean() > 0.5


@pytest.mark.parametrize(("name", "value"), [("place", 20), ("weight", "the simple loss")])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading and explorer.controls[name].description
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    bits(MODEL, SCHEDULE, DIGITS[:2], place=3)
    assert 'alt="Left: a digit under noise of' in shown[0] and "grey steps. Of the bound" in shown[0]


def test_the_shipped_network_s_curves_stay_in_the_picture(mnist_test):
    from diffnotes import load_pretrained

    model, schedule = load_pretrained("mnist-small")
    found = bill(model, schedule, mnist_test.x[:8])
    assert all(found.share(name).max() < HIGHEST for name in WEIGHTS)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"place": 40}, r"place must lie in 0..32, got 40"), ({"images": DIGITS[0]}, "images must be a batch of images")],
)
def test_bad_first_values_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        build_bits(MODEL, SCHEDULE, given.get("images", DIGITS[:2]), given.get("place", 10))
