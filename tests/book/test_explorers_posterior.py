import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes.book.explorers.posterior import (
    build_posterior,
    build_reverse_step,
    coin_divergence,
    coin_step,
    posterior,
    reverse_step,
)
from diffnotes.book.live import widgets as live
from diffnotes.process.forward import q_posterior
from diffnotes.process.schedules import Schedule

COARSE = Schedule.cosine(T=20)


def sent(explorer: live.Explorer) -> np.ndarray:
    """The pixels that the explorer's picture shows."""
    return np.asarray(Image.open(io.BytesIO(explorer.plot.image.value)).convert("RGB"))


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
    return build_posterior(COARSE)


# -- with the start known ---------------------------------------------------------------------------------------------


def test_it_begins_in_the_middle_of_the_chain(explorer):
    assert explorer.values() == {"t": 10, "x_t": -0.4, "x_0": 0.8}
    assert build_posterior(COARSE, t=3, x_t=0.5, x_0=-1).values() == {"t": 3, "x_t": 0.5, "x_0": -1}


@pytest.mark.parametrize(("t", "x_t", "x_0"), [(2, 0.6, 0.5), (10, -0.4, 0.8), (20, 1.5, -1)])
def test_its_reading_gives_the_posterior(t, x_t, x_0):
    reading = build_posterior(COARSE, t, x_t, x_0).reading.value
    mean, variance = q_posterior(
        COARSE, torch.tensor([x_0], dtype=torch.float64), torch.tensor([x_t], dtype=torch.float64), t
    )
    weights = re.search(r"μ̃ = (-?[\d.]+) x_t \+ (-?[\d.]+) x_0 = (-?[\d.]+)", reading)
    assert weights is not None
    assert float(weights[1]) * x_t + float(weights[2]) * x_0 == pytest.approx(mean.item(), abs=2e-3)
    assert float(weights[3]) == pytest.approx(mean.item(), abs=6e-4)
    assert numbers_after("β̃_t =", reading) == pytest.approx(variance.item(), rel=5e-3)


def test_its_reading_gives_the_two_estimates_and_their_shares(explorer):
    reading = explorer.reading.value
    before, alpha, beta = COARSE.alpha_bar[9].item(), COARSE.alpha[10].item(), COARSE.beta[10].item()
    assert numbers_after("x_0 gives", reading) == pytest.approx(0.8 * math.sqrt(before), abs=6e-4)
    assert numbers_after("x_t gives", reading) == pytest.approx(-0.4 / math.sqrt(alpha), abs=6e-4)
    precisions = alpha / beta, 1 / (1 - before)
    assert numbers_after("Of the precision 1/β̃_t", reading) == pytest.approx(
        100 * precisions[0] / sum(precisions), abs=0.06
    )
    assert numbers_after("from x_t,", reading) == pytest.approx(100 * precisions[1] / sum(precisions), abs=0.06)


def test_its_reading_gives_the_noise_since_the_start(explorer):
    eps = (-0.4 - COARSE.alpha_bar[10].sqrt() * 0.8) / (1 - COARSE.alpha_bar[10]).sqrt()
    assert f"The noise since the start is ε = {eps.item():.2f}" in explorer.reading.value


def test_at_the_first_step_nothing_is_uncertain(explorer):
    explorer.controls["t"].value = 1
    assert "β̃_t = 0 " in explorer.reading.value and "1.000 x_0 = 0.800" in explorer.reading.value
    assert "the image before is x_0 itself" in explorer.reading.value


def test_it_warns_of_what_hardly_ever_happens(explorer):
    assert "Hardly ever seen" not in explorer.reading.value
    explorer.controls["t"].value = 3
    explorer.controls["x_t"].value = -2
    assert "Hardly ever seen" in explorer.reading.value


@pytest.mark.parametrize(("name", "value"), [("t", 4), ("x_t", 1.2), ("x_0", -0.3)])
def test_every_control_moves_the_picture(explorer, name, value):
    before = sent(explorer)
    explorer.controls[name].value = value
    assert (sent(explorer) != before).any()


def test_the_bells_are_where_the_formulas_put_them(explorer):
    prior, likelihood, both = explorer.plot.artists[:3]
    mean, variance = q_posterior(
        COARSE, torch.tensor([0.8], dtype=torch.float64), torch.tensor([-0.4], dtype=torch.float64), 10
    )
    tops = {line: line.get_xdata()[np.argmax(line.get_ydata())] for line in (prior, likelihood, both)}
    assert tops[both] == pytest.approx(mean.item(), abs=1e-9)
    assert tops[likelihood] < tops[both] < tops[prior]
    x, y = both.get_xdata(), both.get_ydata()
    one_deviation_away = np.interp(mean.item() + math.sqrt(variance.item()), x, y)
    assert one_deviation_away == pytest.approx(math.exp(-0.5), abs=1e-3) and y.max() == 1


def test_the_magnified_bell_is_centred_and_measured_in_steps(explorer):
    both = explorer.plot.artists[5]
    x, y = both.get_xdata(), both.get_ydata()
    assert x[np.argmax(y)] == pytest.approx(0, abs=1e-9)
    sigma = math.sqrt((COARSE.posterior_variance[10] / COARSE.beta[10]).item())
    assert np.interp(sigma, x, y) == pytest.approx(math.exp(-0.5), abs=1e-3)


@pytest.mark.parametrize("schedule", [COARSE, Schedule.linear(T=1000), Schedule.from_betas([0.3])])
@pytest.mark.parametrize("end", ["min", "max"])
def test_it_works_at_both_ends_of_its_sliders(schedule, end):
    explorer = build_posterior(schedule)
    for control in explorer.controls.values():
        control.value = getattr(control, end)
        assert "nan" not in explorer.reading.value


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls["t"].value, explorer.controls["x_0"].value = 3, -1
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_every_control_has_a_name(explorer):
    every = [*explorer.controls.values(), *build_reverse_step().controls.values()]
    assert all(control.description for control in every)


def test_a_picture_stands_behind_it(shown):
    posterior(COARSE)
    assert "Three bells over x_(t-1) at t = 10" in shown[0] and "Of the precision 1/β̃_t 73.1 %" in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t": 0}, "t must lie in 1..20, got 0"),
        ({"t": 21}, "t must lie in 1..20, got 21"),
        ({"x_t": 3.5}, "x_t must lie in -3..3, got 3.5"),
        ({"x_0": -1.2}, "x_0 must lie in -1..1, got -1.2"),
    ],
)
def test_it_refuses_values_that_no_slider_has(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_posterior(COARSE, **wrong)


# -- with the start unknown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("abar_prev", "beta", "x_t"), [(0.8, 0.3, 0.2), (0.5, 0.9, -1.0), (0.9, 0.02, 0.0)])
def test_the_step_of_the_coin_is_what_bayes_rule_gives(abar_prev, beta, x_t):
    step = coin_step(abar_prev, beta, x_t)
    x = np.linspace(-6, 6, 20001)

    def bell(x, mean, variance):
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

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


def test_the_reading_says_whether_a_gaussian_will_do():
    explorer = build_reverse_step()
    assert "No Gaussian can be right here" in explorer.reading.value and "0.096 nats" in explorer.reading.value
    explorer.controls["beta"].value = 0.001
    assert "A Gaussian can do this step" in explorer.reading.value


@pytest.mark.parametrize(("name", "value"), [("beta", 0.7), ("x_t", -1.0), ("abar_prev", 0.4)])
def test_every_control_moves_the_mixture(name, value):
    explorer = build_reverse_step()
    before = sent(explorer)
    explorer.controls[name].value = value
    assert (sent(explorer) != before).any()


def test_the_whole_is_the_sum_of_its_parts_and_its_highest_point_is_at_1():
    minus, plus, both, gaussian = (line.get_ydata() for line in build_reverse_step().plot.artists)
    assert both == pytest.approx(minus + plus) and both.max() == pytest.approx(1)
    assert gaussian.max() < 1


@pytest.mark.parametrize("end", ["min", "max"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_mixture_works_at_both_ends_of_its_sliders(end):
    explorer = build_reverse_step()
    for control in explorer.controls.values():
        limit = getattr(control, end)
        control.value = 10**limit if control is explorer.controls["beta"] else limit
        assert "nan" not in explorer.reading.value


def test_the_first_values_lie_on_the_sliders_steps():
    beta = build_reverse_step().controls["beta"]
    steps = (math.log10(beta.value) - beta.min) / beta.step
    assert steps == pytest.approx(round(steps), abs=1e-9) and 0.001 <= 10**beta.min < 10**beta.max <= 0.9


def test_a_picture_stands_behind_the_mixture(shown):
    reverse_step()
    assert "two bells, one for each possible x_0" in shown[0] and "33.6 %" in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta": 0.0}, "beta must lie in 0.001..0.9, got 0.0"),
        ({"x_t": 4}, "x_t must lie in -3..3, got 4"),
        ({"abar_prev": 1.0}, "abar_prev must lie in 0.05..0.99, got 1.0"),
    ],
)
def test_the_mixture_refuses_values_that_no_slider_has(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_reverse_step(**wrong)
