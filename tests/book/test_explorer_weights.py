import io
import itertools
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes.book.explorers.weights import build_weights, factors, one_error, weights
from diffnotes.book.live import widgets as live
from diffnotes.process.schedules import Schedule

LINEAR = np.r_[0, np.linspace(1e-4, 0.02, 1000)]  # beta_t
STATES = list(itertools.product(("linear", "cosine"), ("eps", "x0", "v"), ("beta", "beta_tilde")))


def cosine() -> np.ndarray:
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.r_[0, np.minimum(1 - f[1:] / f[:-1], 0.999)]


def tables(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """beta_t, alpha_bar_t and sigma_t^2 = beta-tilde_t (that of t = 2 at t = 1), from their definitions."""
    beta = LINEAR if kind == "linear" else cosine()
    left = np.cumprod(1 - beta)
    tilde = np.r_[0, (1 - left[:-1]) / (1 - left[1:]) * beta[1:]]
    tilde[1] = tilde[2]
    return beta, left, tilde


def by_table(kind: str, target: str, variance: str, t: int) -> tuple[float, float]:
    """The bound's factor and that of L_simple, by the table of section 4.5."""
    beta, left, tilde = tables(kind)
    sigma2 = (beta if variance == "beta" else tilde)[t]
    w = beta[t] ** 2 / (2 * sigma2 * (1 - beta[t]) * (1 - left[t]))
    image = left[t - 1] * beta[t] ** 2 / (2 * sigma2 * (1 - left[t]) ** 2)
    return {"eps": (w, 1), "x0": (image, left[t] / (1 - left[t])), "v": (left[t] * w, left[t])}[target]


def sent(explorer: live.Explorer) -> np.ndarray:
    """The pixels that the explorer's picture shows."""
    return np.asarray(Image.open(io.BytesIO(explorer.plot.image.value)).convert("RGB")).astype(int)


def number_after(words: str, reading: str) -> float:
    """The first number that follows `words` in a reading."""
    found = re.search(re.escape(words) + r"\s*(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)", reading)
    assert found is not None, reading
    return float(found[1])


def choose(explorer: live.Explorer, **values) -> str:
    """Set controls; returns the reading."""
    for name, value in values.items():
        explorer.controls[name].value = value
    return explorer.reading.value


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_weights()


# -- the numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "target", "variance"), STATES)
def test_the_factors_are_those_of_the_table_in_the_chapter(kind, target, variance):
    t = torch.tensor([1, 2, 3, 100, 349, 700, 999, 1000])
    bound, simple = factors(getattr(Schedule, kind)(1000), target, variance, t)
    expected = np.array([by_table(kind, target, variance, int(one)) for one in t])
    assert bound.numpy() == pytest.approx(expected[:, 0], rel=1e-6)
    assert simple.numpy() == pytest.approx(expected[:, 1], rel=1e-6)


def test_with_beta_tilde_the_image_s_factor_is_half_a_difference_of_SNRs():
    t = torch.arange(2, 1001)
    bound, _ = factors(Schedule.linear(1000), "x0", "beta_tilde", t)
    snr = (left := np.cumprod(1 - LINEAR))[1:] / (1 - left[1:])
    assert bound.numpy() == pytest.approx((snr[:-1] - snr[1:]) / 2, rel=1e-6)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_an_error_is_translated_by_the_exchange_rates(kind):
    left = tables(kind)[1]
    for t in (1, 300, 1000):
        rate, a, b = math.sqrt((1 - left[t]) / left[t]), math.sqrt(left[t]), math.sqrt(1 - left[t])
        expected = {
            "eps": {"eps": 1, "x0": rate, "v": 1 / a},
            "x0": {"eps": 1 / rate, "x0": 1, "v": 1 / b},
            "v": {"eps": a, "x0": b, "v": 1},
        }
        for target, errors in expected.items():
            found = one_error(getattr(Schedule, kind)(1000), target, torch.tensor([t]))
            assert {name: error.item() for name, error in found.items()} == pytest.approx(errors, rel=1e-6)


# -- the reading ------------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_image_where_no_curve_is_flat(explorer):
    assert explorer.values() == {"kind": "linear", "target": "x0", "variance": "beta", "t": 349}
    for curve in explorer.plot.artists[2:4]:
        assert curve.get_ydata()[0] > 1e8 * curve.get_ydata()[-1]


def test_with_the_noise_it_stands_at_the_bottom_of_the_U(explorer):
    choose(explorer, target="eps")
    assert "puts 0.00497 (0.0099 times its factor at t = 1); L_simple puts 1, as at every t." in explorer.reading.value


@pytest.mark.parametrize(("kind", "target", "variance"), STATES)
def test_its_reading_gives_both_factors_at_t(explorer, kind, target, variance):
    reading = choose(explorer, kind=kind, target=target, variance=variance, t=700)
    now, first = (by_table(kind, target, variance, t) for t in (700, 1))
    letter = {"eps": "ε", "x0": "x_0", "v": "v"}[target]
    assert reading.startswith(f"t = 700, {kind}: before the squared error in {letter} the bound")
    assert number_after({"beta": "σ_t² = β_t, puts", "beta_tilde": "σ_t² = β̃_t, puts"}[variance], reading) == (
        pytest.approx(now[0], rel=6e-3)
    )
    assert number_after("(", reading) == pytest.approx(now[0] / first[0], rel=0.06)
    assert number_after("L_simple puts", reading) == pytest.approx(now[1], rel=6e-3)
    assert number_after("L_simple puts", reading) == 1 or number_after(
        "(", reading.partition("L_simple")[2]
    ) == pytest.approx(now[1] / first[1], rel=0.06)


@pytest.mark.parametrize("t", [1, 100, 1000])
def test_its_reading_gives_the_exchange_rates(explorer, t):
    left = tables("linear")[1][t]
    reading = choose(explorer, target="eps", t=t)
    assert number_after("An error of 1 in ε is an error of", reading) == pytest.approx(
        math.sqrt((1 - left) / left), rel=6e-3
    )
    assert number_after("in x_0 and", reading) == pytest.approx(1 / math.sqrt(left), rel=6e-3)


def test_it_shows_the_difference_of_SNRs_where_the_factor_is_one(explorer):
    assert "SNR" not in choose(explorer, target="x0")
    reading = choose(explorer, variance="beta_tilde", t=50)
    before, now = (
        float(n) for n in re.search(r"half of SNR\(49\) - SNR\(50\) = ([\d.]+) - ([\d.]+)\.$", reading).groups()
    )
    left = tables("linear")[1]
    assert before == pytest.approx(left[49] / (1 - left[49]), rel=6e-4)
    assert now == pytest.approx(left[50] / (1 - left[50]), rel=6e-4)
    assert "SNR" not in choose(explorer, t=1)


def test_at_the_first_step_it_says_which_width_it_takes(explorer):
    assert "with σ_t² = β̃_2, since β̃_1 = 0, puts" in choose(explorer, variance="beta_tilde", t=1)
    assert "at t = 1)" not in explorer.reading.value


# -- the picture ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "target", "variance"), STATES)
def test_everything_is_inside_the_axes(explorer, kind, target, variance):
    for t in (1, 1000):
        choose(explorer, kind=kind, target=target, variance=variance, t=t)
        curves, dots = explorer.plot.artists[2:7], explorer.plot.artists[7:12]
        for curve, dot in zip(curves, dots, strict=True):
            y, (low, high) = np.asarray(curve.get_ydata(), dtype=float), curve.axes.get_ylim()
            assert len(y) == 1000 and np.isfinite(y).all() and low < y.min() and y.max() < high
            assert dot.axes is curve.axes and dot.get_ydata()[0] == y[t - 1]


@pytest.mark.parametrize(("target", "label"), [("eps", "ε"), ("x0", "$x_0$"), ("v", "v")])
def test_both_titles_name_the_target(explorer, target, label):
    choose(explorer, target=target)
    titles = [title.get_text() for title in explorer.plot.artists[12:]]
    assert titles == [f"factor before the squared error in {label}", f"an error of 1 in {label} is ..."]


@pytest.mark.parametrize(
    ("name", "value"), [("kind", "cosine"), ("target", "eps"), ("target", "v"), ("variance", "beta_tilde"), ("t", 350)]
)
def test_every_control_moves_the_picture(explorer, name, value):
    before = sent(explorer)
    choose(explorer, **{name: value})
    assert (sent(explorer) != before).any()


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer), explorer.reading.value
    choose(explorer, kind="cosine", target="v", variance="beta_tilde", t=2)
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_every_control_has_a_name(explorer):
    assert all(control.description for control in explorer.controls.values())


def test_a_picture_stands_behind_the_explorer(monkeypatch):
    lines = []
    monkeypatch.setattr(live, "display", lambda what, **_: lines.append(what["text/html"]))
    weights(t=300)
    left = tables("linear")[1][300]
    assert (
        f"at t = 300 it is {1 / math.sqrt(1 / left - 1):.3g} in the noise and {1 / math.sqrt(1 - left):.3g} in v."
        in lines[0]
    )
    assert "t = 300, linear" in lines[0]


@pytest.mark.parametrize("t", [0, 1001])
def test_a_time_beyond_the_chain_is_refused(t):
    with pytest.raises(ValueError, match=rf"t must lie in 1..1000, got {t}"):
        build_weights(t)
