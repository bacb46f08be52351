"""Two humps to a bell and back (appendix A): densities, posterior, slope and divergence, by other means than the explorer's."""

import re

import numpy as np
import pytest
import torch
from pixels import sent
from scipy.stats import norm

from diffnotes.book.explorers import build_humps, humps
from diffnotes.book.explorers.humps import EPS, LEAST, X_0, density, kl_to_bell, look_back
from diffnotes.book.live import widgets as live

NOISES = (LEAST, 0.5, 0.8, 1.0)
NAMES = (
    "lines",
    "followed",
    "left",
    "right",
    "q",
    "seen",
    "log_q",
    "tangent",
    "there",
    "now",
    "likelihood",
    "posterior",
)


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_humps()


def put(explorer: live.Explorer, b: float) -> dict[str, live.Artist]:
    """Move the slider; returns the picture's lines by what they show."""
    explorer.controls["b"].value = b
    return dict(zip((*NAMES, "mean"), explorer.plot.artists, strict=True))


WHERE = np.linspace(-4, 4, 4001)  # x_0 may have been
CLEAN = 0.6 * norm.pdf(WHERE, -1, 0.3) + 0.4 * norm.pdf(WHERE, 1, 0.3)


def noisy(x_t: float, b: float) -> float:
    """q(x_t) as the integral over every x_0 that may have been there: no closed form is used."""
    return np.trapezoid(CLEAN * norm.pdf(x_t, np.sqrt(1 - b**2) * WHERE, b), WHERE)


# -- the numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("b", NOISES)
def test_the_noisy_density_is_the_clean_one_scaled_and_convolved(explorer, b):
    lines = put(explorer, b)
    x, q = lines["q"].get_data()
    for at in (-1.7, -0.4, 0.0, 0.9, 2.1):
        assert np.interp(at, x, q) == pytest.approx(noisy(at, b), rel=2e-3)
    np.testing.assert_allclose(lines["left"].get_ydata() + lines["right"].get_ydata(), q, rtol=1e-12)
    np.testing.assert_allclose(lines["log_q"].get_ydata(), np.log(q), rtol=1e-12)


def test_at_the_end_it_is_the_bell():
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(density(torch.as_tensor(x), 1).numpy(), norm.pdf(x), rtol=1e-12)
    assert kl_to_bell(1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("b", NOISES[:3])
def test_the_divergence_from_the_bell_is_an_integral(b):
    x = np.linspace(-6, 6, 241)
    q = np.array([noisy(at, b) for at in x])
    log_q = np.log(np.maximum(q, 1e-300))
    assert kl_to_bell(b) == pytest.approx(np.trapezoid(q * (log_q - norm.logpdf(x)), x), rel=1e-3)


@pytest.mark.parametrize("b", NOISES)
def test_the_way_back_is_bayes_rule_on_a_grid(explorer, b):
    lines, step = put(explorer, b), look_back(b)
    a = np.sqrt(1 - b**2)
    assert step.x_t == pytest.approx(a * X_0 + b * EPS)
    joint = CLEAN * norm.pdf(step.x_t, a * WHERE, b)
    by_grid = joint / np.trapezoid(joint, WHERE)
    x, posterior = lines["posterior"].get_data()
    np.testing.assert_allclose(posterior, np.interp(x, WHERE, by_grid), atol=2e-3)
    np.testing.assert_allclose(lines["likelihood"].get_ydata(), norm.pdf(step.x_t, a * x, b), rtol=1e-9, atol=1e-300)
    assert step.mean == pytest.approx(np.trapezoid(by_grid * WHERE, WHERE), abs=1e-6)
    assert step.right == pytest.approx(np.trapezoid(np.where(WHERE > 0, by_grid, 0), WHERE), abs=2e-3)
    assert list(lines["mean"].get_xdata()) == [step.mean, step.mean]


@pytest.mark.parametrize("b", NOISES)
def test_the_slope_is_that_of_the_logarithm(explorer, b):
    lines, step, h = put(explorer, b), look_back(b), 1e-3
    slope = (np.log(noisy(step.x_t + h, b)) - np.log(noisy(step.x_t - h, b))) / (2 * h)
    assert step.score == pytest.approx(slope, rel=1e-3)
    (left, right), (low, high) = lines["tangent"].get_data()
    assert (high - low) / (right - left) == pytest.approx(step.score)
    assert lines["there"].get_xydata()[0] == pytest.approx([step.x_t, np.log(noisy(step.x_t, b))], rel=1e-4)


# -- the picture and its reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("b", NOISES)
def test_the_draws_are_squeezed_then_noised(explorer, b):
    lines, a = put(explorer, b), np.sqrt(1 - b**2)
    segments = np.array(lines["lines"].get_segments())
    np.testing.assert_allclose(segments[:, 1, 0], a * segments[:, 0, 0], atol=1e-12)
    noise = (segments[:, 2, 0] - segments[:, 1, 0]) / b
    put(explorer, 0.34)  # the same draws and the same noises at every b
    again = np.array(lines["lines"].get_segments())
    np.testing.assert_allclose((again[:, 2, 0] - again[:, 1, 0]) / 0.34, noise, atol=1e-9)
    assert abs(noise.mean()) < 0.5 and 0.6 < noise.std() < 1.4


@pytest.mark.parametrize("b", NOISES)
def test_everything_that_moves_stays_inside_its_axes(explorer, b):
    for name, line in put(explorer, b).items():
        if name in ("lines", "log_q"):  # the logarithm may leave through the bottom
            continue
        points = np.asarray(line.get_xydata(), dtype=float)
        for value, (low, high) in zip(points.T, (line.axes.get_xlim(), line.axes.get_ylim()), strict=True):
            assert low <= value.min() and value.max() <= high, name


def test_the_reading_says_what_the_picture_shows(explorer):
    for b in NOISES:
        put(explorer, b)
        words, step = explorer.reading.value, look_back(b)
        form = r"b = ([\d.]+) and a = ([\d.]+).*= (-?[\d.]+)\. KL divergence from the bell: ([\d.]+) nats"
        noise, root, x_t, nats = map(float, re.search(form, words).groups())
        assert noise**2 + root**2 == pytest.approx(1, abs=0.02) and x_t == pytest.approx(step.x_t, abs=0.006)
        assert nats == pytest.approx(kl_to_bell(b), abs=6e-4)
        assert f"with probability {step.right:.0%}, and its mean is {step.mean:.2f}" in words


def test_the_story_that_the_chapter_tells():
    """One narrow peak near the draw; then two humps and a mean between them; at last the prior again."""
    assert look_back(LEAST).right > 0.999 and abs(look_back(LEAST).mean - X_0) < 0.3
    assert 0.2 < look_back(0.5).right < 0.8 and abs(look_back(0.5).mean) < 0.4
    assert look_back(0.54).right == pytest.approx(0.5, abs=0.05) and abs(look_back(0.54).mean) < 0.2
    assert look_back(1).right == pytest.approx(0.4) and look_back(1).mean == pytest.approx(-0.2)


def test_the_slider_moves_the_picture_and_reset_brings_it_back(explorer):
    first, reading = sent(explorer), explorer.reading.value
    put(explorer, 0.52)
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    assert explorer.controls["b"].description == "noise b"
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    humps(b=0.8)
    assert "spread by noise b = 0.8" in shown[0] and f"whose mean is {look_back(0.8).mean:.2f}" in shown[0]


@pytest.mark.parametrize("b", [0.1, 1.1])
def test_bad_first_values_are_refused(b):
    with pytest.raises(ValueError, match=f"b must lie in 0.2..1, got {b}"):
        build_humps(b)
