import math
import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes.book.explorers.posterior import (
    STARTS,
    UNKNOWN,
    build_posterior,
    coin_divergence,
    coin_step,
    humps,
    posterior,
    slice_and_multiply,
)
from diffnotes.book.live import widgets as live
from diffnotes.process.forward import q_posterior
from diffnotes.process.schedules import Schedule

HUNDRED = Schedule.cosine(T=100)


def numbers_after(words: str, reading: str) -> float:
    """The first number that follows `words` in a reading."""
    found = re.search(re.escape(words) + r"\s*(-?[\d.]+(?:e-?\d+)?)", reading)
    assert found is not None, reading
    return float(found[1])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The HTML that is displayed, for readers without a kernel too."""
    lines: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: lines.append(what["text/html"]))
    return lines


@pytest.fixture
def explorer() -> live.Explorer:
    return build_posterior(HUNDRED, back=20)


def bell(x, mean, variance):
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


# -- the product -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [HUNDRED, Schedule.linear(T=1000)])
@pytest.mark.parametrize(("t", "s", "x_t"), [(40, 20, 0.2), (40, 39, -1.0), (100, 1, 2.0), (2, 1, 0.0), (90, 30, -2.0)])
@pytest.mark.parametrize("start", ["+1", "-1"])
def test_with_a_start_the_product_is_the_posterior_of_the_package(schedule, t, s, x_t, start):
    step = slice_and_multiply(schedule, t, s, x_t, start)
    x_0, here = torch.tensor(STARTS[start], dtype=torch.float64), torch.tensor([x_t], dtype=torch.float64)
    mean, variance = (value.item() for value in q_posterior(schedule, x_0, here, t, s))
    assert (step.mean, step.variance) == (pytest.approx(mean, abs=1e-4), pytest.approx(variance, rel=2e-3))
    expected = bell(step.x, mean, variance)
    np.testing.assert_allclose(step.posterior, expected, atol=2e-3 * expected.max())
    assert humps(step.posterior) == 1


@pytest.mark.parametrize(
    ("t", "s", "x_t"), [(40, 20, 0.2), (40, 39, -1.0), (90, 30, -2.0), (10, 5, 0.0), (100, 99, 1.5)]
)
def test_without_a_start_the_product_is_the_mixture(t, s, x_t):
    step = slice_and_multiply(HUNDRED, t, s, x_t)
    before, now = HUNDRED.alpha_bar[s].item(), HUNDRED.alpha_bar[t].item()
    coin = coin_step(before, 1 - now / before, x_t)
    parts = [share * bell(step.x, m, coin.beta_tilde) for share, m in zip(coin.shares, coin.means, strict=True)]
    np.testing.assert_allclose(step.posterior, sum(parts), atol=2e-3 * sum(parts).max())
    assert (step.mean, step.variance) == (pytest.approx(coin.mean, abs=1e-4), pytest.approx(coin.variance, rel=2e-3))


def test_a_long_step_back_has_two_humps_and_a_short_one_has_one():
    assert [humps(slice_and_multiply(HUNDRED, 40, s, 0.2).posterior) for s in (20, 39)] == [2, 1]


@pytest.mark.parametrize("t", [10, 20, 40])
def test_its_humps_meet_where_exercise_4_says(t):
    for s in range(1, t):
        before = HUNDRED.alpha_bar[s].item()
        beta, border = 1 - HUNDRED.alpha_bar[t].item() / before, ((1 - before) / before) ** 2
        if abs(beta / border - 1) > 0.01:
            assert humps(slice_and_multiply(HUNDRED, t, s, 0.0).posterior) == (2 if beta > border else 1)


# -- the explorer ----------------------------------------------------------------------------------------------------------


def test_it_begins_a_step_before_two_fifths_of_the_chain_with_the_start_unknown():
    assert build_posterior(HUNDRED).values() == {"t": 40, "back": 1, "x_t": 0.2, "start": UNKNOWN}
    chosen = {"t": 3, "back": 2, "x_t": 0.5, "start": "-1"}
    assert build_posterior(HUNDRED, **chosen).values() == chosen


def test_the_lines_in_the_map_are_where_the_sliders_stand(explorer):
    explorer.controls["t"].value, explorer.controls["back"].value, explorer.controls["x_t"].value = 70, 30, -1.5
    _, cut, now, dot, *_ = explorer.plot.artists
    assert list(cut.get_xdata()) == [40, 40] and list(now.get_xdata()) == [70, 70]
    assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([70], [-1.5])
    explorer.controls["back"].value = 90
    assert list(cut.get_xdata()) == [1, 1] and "back to s = 1 " in explorer.reading.value


def test_the_map_is_of_the_chosen_start(explorer):
    heat, size = explorer.plot.artists[0], 240
    for start, places in (("+1", {1}), ("-1", {-1}), (UNKNOWN, {1, -1})):
        explorer.controls["start"].value = start
        column = np.asarray(heat.get_array())[:, 0]  # t = 1
        x = np.linspace(-2.6, 2.6, size)
        assert {round(value) for value in x[column > 0.9].tolist()} == places


@pytest.mark.parametrize("start", STARTS)
def test_the_curves_are_slice_likelihood_and_product(explorer, start):
    explorer.controls["start"].value = start
    prior, likelihood, product, gaussian = explorer.plot.artists[4:]
    step = slice_and_multiply(HUNDRED, 40, 20, 0.2, start)
    for line, y in ((prior, step.prior), (likelihood, step.likelihood), (product, step.posterior)):
        np.testing.assert_allclose(line.get_ydata(), step.x)
        np.testing.assert_allclose(line.get_xdata(), y / y.max())
    multiplied = step.prior * step.likelihood
    np.testing.assert_allclose(product.get_xdata(), multiplied / multiplied.max(), atol=1e-12)
    assert gaussian.get_visible() == (start == UNKNOWN)


@pytest.mark.parametrize("x_t", [-2.0, 0.0, 0.35, 2.0])
@pytest.mark.parametrize(("t", "back"), [(2, 1), (10, 5), (40, 20), (40, 1), (60, 59), (100, 30)])
def test_the_curves_stay_in_the_picture(t, back, x_t):
    explorer = build_posterior(HUNDRED, t, back, x_t)
    for line in explorer.plot.artists[4:]:
        assert 0 <= np.min(line.get_xdata()) and np.max(line.get_xdata()) < 1.25


def test_its_reading_gives_the_mixture(explorer):
    reading = explorer.reading.value
    before, now = HUNDRED.alpha_bar[20].item(), HUNDRED.alpha_bar[40].item()
    coin = coin_step(before, 1 - now / before, 0.2)
    assert numbers_after("ᾱ_s =", reading) == pytest.approx(before, abs=6e-4)
    assert numbers_after("with β =", reading) == pytest.approx(1 - now / before, abs=6e-4)
    assert numbers_after("+1 with", reading) == pytest.approx(100 * coin.shares[1], abs=0.06)
    assert numbers_after("Gaussian with these two is", reading) == pytest.approx(coin.kl, rel=0.05)
    assert "two humps" in reading
    explorer.controls["back"].value = 1
    assert "one hump" in explorer.reading.value


@pytest.mark.parametrize(("t", "back", "x_t", "start"), [(2, 1, 0.6, "+1"), (40, 20, -0.4, "+1"), (100, 60, 1.5, "-1")])
def test_its_reading_gives_the_posterior(t, back, x_t, start):
    reading = build_posterior(HUNDRED, t, back, x_t, start).reading.value
    x_0, here = torch.tensor(STARTS[start], dtype=torch.float64), torch.tensor([x_t], dtype=torch.float64)
    mean, variance = q_posterior(HUNDRED, x_0, here, t, t - back)
    found = re.search(r"together (-?[\d.]+) x_t \+ (-?[\d.]+) x_0 = (-?[\d.]+), variance ([\d.e-]+)\.", reading)
    assert found is not None, reading
    assert float(found[1]) * x_t + float(found[2]) * x_0.item() == pytest.approx(mean.item(), abs=2e-3)
    assert float(found[3]) == pytest.approx(mean.item(), abs=6e-4)
    assert float(found[4]) == pytest.approx(variance.item(), rel=6e-3)


def test_it_warns_of_what_hardly_ever_happens(explorer):
    explorer.controls["start"].value = "+1"
    assert "Hardly ever seen" not in explorer.reading.value
    explorer.controls["t"].value, explorer.controls["x_t"].value = 10, -2
    assert "Hardly ever seen" in explorer.reading.value


@pytest.mark.parametrize(("name", "value"), [("t", 60), ("back", 5), ("x_t", 1.2), ("start", "-1")])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    assert explorer.controls[name].description
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


@pytest.mark.parametrize("schedule", [HUNDRED, Schedule.linear(T=1000), Schedule.from_betas([0.3, 0.5])])
@pytest.mark.parametrize("end", ["min", "max"])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_it_works_at_both_ends_of_its_sliders(schedule, end, start):
    explorer = build_posterior(schedule, start=start)
    for name in ("t", "back", "x_t"):
        explorer.controls[name].value = getattr(explorer.controls[name], end)
        assert "nan" not in explorer.reading.value


def test_a_picture_stands_behind_it(shown):
    posterior(HUNDRED, t=40, back=20)
    assert "two branches begin narrow" in shown[0] and "t = 40, a line the slice at s = 20" in shown[0]
    assert "From t = 40 back to s = 20" in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t": 1}, "t must lie in 2..100, got 1"),
        ({"back": 100}, "back must lie in 1..99, got 100"),
        ({"x_t": 3.5}, "x_t must lie in -2..2, got 3.5"),
        ({"start": "0"}, "start must be one of 'unknown', '+1', '-1', got '0'"),
        ({"schedule": Schedule.from_betas([0.3])}, "schedule must have 2 steps or more, got 1"),
    ],
)
def test_it_refuses_what_no_control_has(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_posterior(**({"schedule": HUNDRED} | wrong))


# -- the coin --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("abar_prev", "beta", "x_t"), [(0.8, 0.3, 0.2), (0.5, 0.9, -1.0), (0.9, 0.02, 0.0)])
def test_the_step_of_the_coin_is_what_bayes_rule_gives(abar_prev, beta, x_t):
    step = coin_step(abar_prev, beta, x_t)
    x = np.linspace(-6, 6, 20001)
    prior = bell(x, -math.sqrt(abar_prev), 1 - abar_prev) + bell(x, math.sqrt(abar_prev), 1 - abar_prev)
    q = bell(x_t, math.sqrt(1 - beta) * x, beta) * prior
    q /= q.sum() * (x[1] - x[0])
    mean = (q * x).sum() * (x[1] - x[0])
    variance = (q * (x - mean) ** 2).sum() * (x[1] - x[0])
    kl = (q * np.log(np.maximum(q, 1e-300) / bell(x, mean, variance))).sum() * (x[1] - x[0])
    parts = sum(s * bell(x, m, step.beta_tilde) for s, m in zip(step.shares, step.means, strict=True))
    assert parts == pytest.approx(q, abs=1e-9)
    assert (step.mean, step.variance, step.kl) == pytest.approx((mean, variance, kl), abs=1e-9)
    assert step.shares.sum() == pytest.approx(1)


def test_a_small_step_is_nearly_gaussian_and_a_large_one_is_not():
    assert coin_step(0.8, 0.001, 0.2).kl < 1e-6 < 0.05 < coin_step(0.8, 0.3, 0.2).kl


@pytest.mark.parametrize(("abar_prev", "beta"), [(0.8, 0.3), (0.5, 0.9), (0.95, 0.01), (0.2, 0.05)])
def test_its_divergence_is_the_mean_over_x_t_of_that_of_single_steps(abar_prev, beta):
    x, abar = np.linspace(-5, 5, 401), abar_prev * (1 - beta)
    drawn = sum(np.exp(-((x - sign * math.sqrt(abar)) ** 2) / (2 - 2 * abar)) for sign in (-1, 1))
    single = [coin_step(abar_prev, beta, x_t).kl for x_t in x.tolist()]
    assert coin_divergence(abar_prev, beta) == pytest.approx(float(drawn @ single / drawn.sum()), rel=1e-3)


@pytest.mark.parametrize(("beta", "humps"), [(0.05, 1), (0.06, 1), (0.065, 2), (0.3, 2)])
def test_the_border_between_one_hump_and_two_is_where_exercise_4_says(beta, humps):
    step = coin_step(0.8, beta, 0.0)  # two humps from beta = (1 / 0.8 - 1)^2 = 0.0625 on
    q = sum(
        s * np.exp(-((step.grid - m) ** 2) / (2 * step.beta_tilde))
        for s, m in zip(step.shares, step.means, strict=True)
    )
    tops = (q[1:-1] > q[:-2]) & (q[1:-1] > q[2:])
    assert tops.sum() == humps
