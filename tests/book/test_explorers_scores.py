"""The two explorers of chapter 13: their paths are the package's, and their readings are true of what they show."""

import re

import numpy as np
import pytest
import torch
from pixels import sent
from scipy.stats import norm

from diffnotes.book.explorers import build_roads, build_walkers, roads, walkers
from diffnotes.book.explorers.roads import (
    BINS,
    DATA,
    FIRST,
    MANY,
    PATHS,
    by_chance,
    density,
    distance,
    drawn,
    final,
    quantiles,
    run,
    starts,
)  # fmt: skip
from diffnotes.book.explorers.walkers import EVERY, SD, STEPS, WALKERS, right_share, score, walk
from diffnotes.book.live import widgets as live
from diffnotes.process.schedules import Schedule
from diffnotes.process.sde import exponential_step


@pytest.fixture(scope="module")
def built() -> dict[str, live.Explorer]:
    return {"roads": build_roads(), "walkers": build_walkers()}


@pytest.fixture(params=["roads", "walkers"])
def explorer(request, built) -> live.Explorer:
    built[request.param].reset()
    return built[request.param]


# -- both ---------------------------------------------------------------------------------------------------------------


def test_every_control_moves_the_picture_and_has_a_name(explorer):
    other = {"lam": 0.3, "steps": 25, "how": "annealed Langevin", "noise": 3.0, "weight": 0.3, "m": 2.0}
    for name, control in explorer.controls.items():
        explorer.reset()
        before, reading = sent(explorer), explorer.reading.value
        control.value = other[name]
        assert (sent(explorer) != before).any() and explorer.reading.value != reading, name
        assert control.description


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer), explorer.reading.value
    for name, value in {"lam": 0.3, "steps": 50, "m": 2.0, "how": "probability flow"}.items():
        if name in explorer.controls:
            explorer.controls[name].value = value
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_each(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    roads(lam=0.5, steps=20)
    walkers(how="probability flow")
    assert "λ = 0.5" in shown[0] and "20 steps" in shown[0]
    assert "By probability flow the share on the left is" in shown[1]


@pytest.mark.parametrize(
    ("build", "wrong", "message"),
    [
        (build_roads, {"lam": 2}, "lam must lie in 0..1.5, got 2"),
        (build_roads, {"steps": 3}, "steps must lie in 5..200, got 3"),
        (build_walkers, {"m": 0}, "m must lie in 1..5, got 0"),
        (build_walkers, {"how": "Euler"}, "how must be one of 'Langevin', 'annealed Langevin', 'probability flow'"),
    ],
)
def test_they_refuse_values_that_no_control_has(build, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**wrong)


# -- every road from noise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.5])
def test_the_paths_take_the_steps_of_the_package(lam):
    path, times = run(lam, 6, starts(5), seed=3)
    schedule = Schedule.from_alpha_bar(np.cos(times[-2::-1] * np.pi / 2) ** 2)
    noise = np.random.default_rng(3)
    for i, t in enumerate(range(schedule.T, 0, -1)):
        a = schedule.alpha_bar[t].sqrt().item()
        x0_hat = torch.from_numpy(DATA.prediction(path[i] / a, np.tan(times[i] * np.pi / 2)))[:, None]
        z = torch.from_numpy(noise.standard_normal(5) if lam > 0 else np.zeros(5))[:, None]
        x_t = torch.from_numpy(path[i])[:, None]
        x_s = exponential_step(schedule, x0_hat, x_t, t, t - 1, z, lam)
        np.testing.assert_allclose(path[i + 1], x_s[:, 0].numpy(), rtol=1e-7, atol=1e-9)


def test_without_noise_no_two_paths_cross_and_they_end_at_their_quantiles():
    path, _ = drawn(0.0, 200)
    assert (np.diff(path, axis=1) > 0).all() and path.shape == (201, PATHS)
    exact = DATA.curves((np.arange(PATHS) + 0.5) / PATHS, np.zeros(1))[0]
    assert np.abs(path[-1] - exact).max() < 0.05
    crossing, _ = drawn(1.0, 200)
    assert (np.diff(crossing, axis=1) < 0).any()


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0, 1.5])
def test_every_lambda_ends_at_the_data(lam):
    assert distance(lam, 200) < 0.04 and distance(lam, 5) > 3 * distance(lam, 200)


@pytest.mark.parametrize("t", [0.0, 0.4, FIRST])
def test_the_heat_map_is_the_density_of_the_noised_mixture(t):
    x, a, b = np.linspace(-3, 3, 7), np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)
    spread = np.hypot(a * DATA.sd, b)
    exact = sum(w * norm.pdf(x, a * m, spread) for w, m in zip(DATA.weights, DATA.means, strict=True))
    np.testing.assert_allclose(density(x, t), exact)


@pytest.mark.parametrize(("lam", "steps"), [(0.0, 200), (1.0, 100), (1.5, 20)])
def test_the_reading_of_the_roads_is_true_of_the_histogram(built, lam, steps):
    explorer = built["roads"]
    explorer.controls["lam"].value, explorer.controls["steps"].value = lam, steps
    off, chance = map(float, re.findall(r"0\.\d{3}", explorer.reading.value))
    assert off == pytest.approx(np.abs(np.sort(final(lam, steps)) - quantiles()).mean(), abs=1e-3)
    assert chance == pytest.approx(by_chance(), abs=1e-3)
    share, heights = explorer.plot.artists[2].get_data()
    counts, _ = np.histogram(final(lam, steps), BINS)
    np.testing.assert_allclose(share[::2] * MANY * np.diff(BINS), counts, rtol=1e-6, atol=2)
    assert len(heights) == len(share)


def test_the_distance_by_chance_is_that_of_draws_from_the_data():
    g = np.random.default_rng(1)
    off = []
    for _ in range(60):
        parts = g.choice(len(DATA.means), MANY, p=DATA.weights)
        off.append(
            np.abs(np.sort(np.array(DATA.means)[parts] + DATA.sd * g.standard_normal(MANY)) - quantiles()).mean()
        )
    assert abs(np.mean(off) - by_chance()) < 4 * np.std(off) / np.sqrt(60)


# -- two clusters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.05, 1.0, 20.0])
def test_the_arrows_are_the_gradient_of_the_log_density(sigma):
    x, m, w, h = np.random.default_rng(0).normal(size=(8, 2)) * 3, 2.5, 0.7, 1e-5

    def log_density(x: np.ndarray) -> np.ndarray:
        spread = np.hypot(SD, sigma)
        clusters = [np.log(s) + norm.logpdf(x[:, 0], c, spread) for s, c in ((w, -m), (1 - w, m))]
        return np.asarray(np.logaddexp(*clusters) + norm.logpdf(x[:, 1], 0, spread))

    numeric = np.stack([(log_density(x + h * e) - log_density(x - h * e)) / (2 * h) for e in np.eye(2)], 1)
    np.testing.assert_allclose(score(x, sigma, w, m), numeric, rtol=1e-4, atol=1e-4)


def test_plain_langevin_keeps_half_and_half_and_the_others_find_the_shares():
    left = {
        how: float((walk(how, 0.05, 0.8, 4.0)[0][-1][:, 0] < 0).mean()) for how in ("Langevin", "annealed Langevin")
    }
    flow = float((walk("probability flow", 0.05, 0.8, 4.0)[0][-1][:, 0] < 0).mean())
    assert abs(left["Langevin"] - 0.5) < 0.1 < 0.2 < abs(left["Langevin"] - 0.8)
    assert abs(left["annealed Langevin"] - 0.8) < 0.07 and abs(flow - 0.8) < 0.07
    noisy = float((walk("Langevin", 2.0, 0.8, 4.0)[0][-1][:, 0] < 0).mean())
    assert abs(noisy - right_share(2.0, 0.8, 4.0)) < 0.07


def test_the_exact_share_is_that_of_draws():
    g = np.random.default_rng(0)
    x = np.where(g.random(200_000) < 0.7, -2.0, 2.0) + np.hypot(SD, 1.5) * g.standard_normal(200_000)
    assert right_share(1.5, 0.7, 2.0) == pytest.approx((x < 0).mean(), abs=0.005)


@pytest.mark.parametrize("how", ["Langevin", "annealed Langevin", "probability flow"])
@pytest.mark.parametrize("steps", [0, 250, 500])
def test_the_reading_of_the_walkers_is_true_of_points_and_bars(built, how, steps):
    explorer = built["walkers"]
    explorer.reset()
    explorer.controls["how"].value, explorer.controls["steps"].value = how, steps
    _, points, now, truth = explorer.plot.artists
    x = points.get_xdata()
    left, at_level, of_data = map(float, re.findall(r"(?<=[ :])0\.\d\d(?= of| \(|,|\.)", explorer.reading.value)[-3:])
    assert len(x) == WALKERS and (x < 0).mean() == pytest.approx(left, abs=0.006)
    assert now.get_ydata()[1] == pytest.approx(left, abs=0.006) and of_data == 0.8
    assert truth.get_ydata()[1] == pytest.approx(at_level, abs=0.006)
    assert explorer.controls["noise"].disabled == (how != "Langevin")
    states, levels = walk(how, 0.05, 0.8, 4.0)
    assert len(states) == len(levels) == STEPS // EVERY + 1
