"""Tweedie's formula (chapter 4): the slope of the density and Bayes' rule give one mean, in the picture and in the reading."""

import re

import numpy as np
import pytest
from pixels import sent
from scipy.integrate import quad
from scipy.stats import norm

from diffnotes.book.explorers import build_tweedie, tweedie
from diffnotes.book.explorers.tweedie import FIRST, LAST, density, posterior, score
from diffnotes.book.live import widgets as live

ABAR = np.r_[1, np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))]
STATES = [(t, x) for t in (FIRST, 150, 400, LAST) for x in (-2.0, -0.35, 0.0, 0.8, 2.0)]


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_tweedie()


def put(explorer: live.Explorer, t: int, x: float) -> dict[str, live.Artist]:
    """Move both sliders; returns the picture's lines by what they show."""
    explorer.controls["t"].value, explorer.controls["x_t"].value = t, x
    names = ("curve", "tangent", "drop", "dots", "shaft", "head", "here", "minus", "plus", "mean", "point")
    return dict(zip(names, explorer.plot.artists, strict=True))


def by_hand(t: int, x: float) -> tuple[float, float, float]:
    """Two bells, their slope, and the probability of +1, from their definitions."""
    root, spread = np.sqrt(ABAR[t]), np.sqrt(1 - ABAR[t])
    minus, plus = 0.3 * norm.pdf(x, -root, spread), 0.7 * norm.pdf(x, root, spread)
    slope = (minus * (-root - x) + plus * (root - x)) / spread**2 / (minus + plus)
    return minus + plus, slope, plus / (minus + plus)


# -- the numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "x"), STATES)
def test_density_slope_and_posterior_are_those_of_two_bells(t, x):
    q, slope, plus = by_hand(t, x)
    assert density(x, t) == pytest.approx(q, rel=1e-9)
    assert score(x, t) == pytest.approx(slope, rel=1e-5, abs=1e-6)
    assert posterior(x, t) == pytest.approx((1 - plus, plus), rel=1e-9)
    assert quad(lambda at: density(at, t), -9, 9, points=[-1, 1])[0] == pytest.approx(1, rel=1e-7)


# -- the picture and its reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "x"), STATES)
def test_the_arrow_ends_at_the_shrunken_mean_and_the_bars_are_the_posterior(explorer, t, x):
    q, slope, plus = by_hand(t, x)
    lines, root = put(explorer, t, x), np.sqrt(ABAR[t])
    mean = 2 * plus - 1
    assert list(lines["shaft"].get_xdata()) == pytest.approx([x, root * mean], abs=1e-6)
    assert lines["head"].get_xdata()[0] == lines["shaft"].get_xdata()[1]
    assert list(lines["dots"].get_xdata()) == pytest.approx([-root, root])
    assert [lines[name].get_ydata()[1] for name in ("minus", "plus")] == pytest.approx([1 - plus, plus], abs=1e-9)
    assert lines["mean"].get_xdata()[0] == lines["point"].get_xdata()[0] == pytest.approx(mean, abs=1e-5)
    at, heights = (np.asarray(values, dtype=float) for values in lines["tangent"].get_data())
    assert np.diff(np.log(heights))[0] / np.diff(at)[0] == pytest.approx(slope, rel=1e-5, abs=1e-6)
    assert np.interp(x, at, np.log(heights)) == pytest.approx(np.log(q), rel=1e-6)
    assert lines["here"].get_xydata()[0] == pytest.approx([x, q])


@pytest.mark.parametrize(("t", "x"), STATES)
def test_the_point_and_the_arrow_are_inside_the_axes(explorer, t, x):
    lines = put(explorer, t, x)
    for name in ("drop", "shaft", "dots", "here", "mean", "point"):
        axes, points = lines[name].axes, np.asarray(lines[name].get_xydata(), dtype=float)
        for value, (low, high) in zip(points.T, (axes.get_xlim(), axes.get_ylim()), strict=True):
            assert low <= value.min() and value.max() <= high


@pytest.mark.parametrize(("t", "x"), STATES)
def test_its_reading_reckons_the_same_mean_twice(explorer, t, x):
    put(explorer, t, x)
    form = (
        r"x_t = ([-\d.]+) is ([-\d.]+)\..*\(([-\d.]+) \+ ([\d.]+) × ([-\d.]+)\) / ([\d.]+) = ([-\d.]+)\.<br>"
        r".*probability ([\d.]+) and -1 with ([\d.]+): mean ([-\d.]+)\.$"
    )
    at, slope, x_t, noise, again, root, tweedies, plus, minus, bayes = map(
        float, re.search(form, explorer.reading.value).groups()
    )
    assert at == x_t == x and slope == again
    assert (x_t + noise * slope) / root == pytest.approx(tweedies, abs=0.05)
    assert tweedies == bayes == pytest.approx(plus - minus, abs=0.006)


@pytest.mark.parametrize(("name", "value"), [("t", 151), ("x_t", -0.25)])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading and explorer.controls[name].description
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    tweedie(t=150, x_t=0.1)
    plus = by_hand(150, 0.1)[2]
    assert "with its slope at x_t = 0.1 and an arrow to the right" in shown[0]
    assert f"a line at their mean, {2 * plus - 1:.2f}" in shown[0] and "t = 150" in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"t": 20}, "t must lie in 90..700, got 20"), ({"x_t": 2.5}, "x_t must lie in -2..2, got 2.5")],
)
def test_bad_first_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build_tweedie(**wrong)
