"""The bound, counted while t runs (chapter 3): what it adds up is the bound, and the reading is true of the picture."""

import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes.book.explorers import bound, build_bound
from diffnotes.book.explorers.bound import places, spent
from diffnotes.book.live import widgets as live
from diffnotes.process.elbo import elbo_terms
from diffnotes.process.exact import DatasetDenoiser
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.cosine(60)
IMAGES = torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 127.5 - 1
MODEL = DatasetDenoiser(SCHEDULE, IMAGES)
TERMS = elbo_terms(MODEL, SCHEDULE, IMAGES, generator=torch.Generator().manual_seed(1))
TIMES = places(SCHEDULE.T)


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_bound(MODEL, SCHEDULE, IMAGES, TERMS, t=20)


# -- what is counted ----------------------------------------------------------------------------------------------------


def test_what_is_spent_at_t_are_the_prior_and_the_steps_that_arrive_at_t_or_before():
    nats = spent(TERMS)
    assert nats.shape == (SCHEDULE.T + 1, 3)
    np.testing.assert_allclose(nats[SCHEDULE.T], TERMS.prior)
    np.testing.assert_allclose(nats[0], TERMS.total())
    for t in (1, 7, 59):  # L_{s-1} of the steps from s to s - 1 >= t stands in row s - 2
        np.testing.assert_allclose(nats[t], TERMS.prior + TERMS.denoising[t - 1 :].sum(0))
    np.testing.assert_allclose(nats[0] - nats[1], TERMS.reconstruction)


@pytest.mark.parametrize("T", [2, 10, 60, 1000])
def test_the_slider_goes_from_T_down_to_0(T):
    times = places(T)
    assert times[0] == T and times[-2:] == [1, 0] and times == sorted(set(times), reverse=True)
    assert len(times) > 25 or T < 100


# -- what is shown ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [0, 2])
@pytest.mark.parametrize("t", [TIMES[0], TIMES[9], 1])
def test_the_reading_is_what_the_curves_show(explorer, t, image):
    explorer.controls["image"].value = image
    explorer.controls["place"].value = TIMES.index(t)
    nats, whole, off = re.search(r"([\d.]+) of (\d+) nats .* off by ([\d.e-]+)", explorer.reading.value).groups()
    expected = (TERMS.prior + TERMS.denoising[t - 1 :].sum(0))[image].item()
    assert explorer.reading.value.startswith(f"t = {t}:") and float(nats) == pytest.approx(expected, abs=0.51)
    assert int(whole) == round(TERMS.total()[image].item())
    (x,), (y,) = explorer.plot.artists[4].get_data()
    assert (x, y) == (t, pytest.approx(expected))
    eps = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(1))
    x_t = q_sample(SCHEDULE, IMAGES, t, eps)
    x0_hat = MODEL(x_t, torch.full((3,), t))
    assert float(off) == pytest.approx((x0_hat - IMAGES)[image].square().mean().sqrt().item(), rel=0.06, abs=1e-6)
    shown = [np.asarray(artist.get_array()) for artist in explorer.plot.artists[:2]]
    np.testing.assert_allclose(shown[0], x_t[image, 0].clamp(-1, 1), atol=1e-5)
    np.testing.assert_allclose(shown[1], x0_hat[image, 0].clamp(-1, 1), atol=1e-5)


def test_at_0_stands_the_image_for_the_whole_bound(explorer):
    explorer.controls["place"].value = len(TIMES) - 1
    whole, last = re.search(
        r"the image, for (\d+) nats in all; (\d+) of them were L_0", explorer.reading.value
    ).groups()
    assert int(whole) == round(TERMS.total()[0].item()) and int(last) == round(TERMS.reconstruction[0].item())
    np.testing.assert_array_equal(explorer.plot.artists[0].get_array(), IMAGES[0, 0])


def test_the_curves_stay_in_the_picture(explorer):
    for image in range(3):
        explorer.controls["image"].value = image
        for line in explorer.plot.artists[2:]:
            low, high = line.axes.get_ylim()
            right, left = sorted(line.axes.get_xlim())
            x, y = (np.asarray(values, dtype=float) for values in line.get_data())
            assert np.isfinite(y).all() and y.min() >= low and y.max() <= high and right <= x.min() and x.max() <= left


@pytest.mark.parametrize(("name", "value"), [("place", 25), ("image", 1)])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading and explorer.controls[name].description
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    bound(MODEL, SCHEDULE, IMAGES, TERMS, t=60)
    assert 'alt="Left: a digit under noise at t = 60' in shown[0] and "t = 60:" in shown[0]


CHOSEN = elbo_terms(MODEL, SCHEDULE, IMAGES, times=[2, 5], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"t": 61}, r"t must lie in 0..60, got 61"),
        ({"images": IMAGES[0]}, "images must be 1 to 16 images"),
        ({"images": IMAGES[:2]}, r"terms must hold t = 2..60, each once, for 2 images, got times of shape \(59, 3\)"),
        ({"terms": CHOSEN}, r"terms must hold t = 2..60, each once, for 3 images, got times of shape \(2, 3\)"),
    ],
)
def test_what_it_cannot_count_is_refused(given, message):
    usual = {"images": IMAGES, "terms": TERMS, "t": 20}
    with pytest.raises(ValueError, match=message):
        build_bound(MODEL, SCHEDULE, **(usual | given))
