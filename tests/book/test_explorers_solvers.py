"""The race of the solvers (chapter 14): its exact curves, its solvers beside the package's, and what it reads out."""

import math
import re

import numpy as np
import pytest
import torch
from pixels import sent
from scipy.stats import norm

from diffnotes.book.explorers import build_solvers, solvers
from diffnotes.book.explorers.solvers import (
    COUNTS,
    DATA,
    ERRORS,
    GRIDS,
    HEIGHT,
    LOOKS,
    MOST,
    ZERO,
    by_chance,
    cost,
    error,
    errors,
    exact,
    fresh,
    grid_levels,
    run,
)
from diffnotes.book.live import widgets as live
from diffnotes.book.proof import line
from diffnotes.process.exact import MixtureDenoiser
from diffnotes.process.samplers import ddim_sample
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, dpm_solver_step, heun_sample, karras_times, noise_level

WHERE = ("karras 1", "karras 7", "karras 20", "t", "lambda")


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_solvers()


def put(explorer: live.Explorer, **values: object) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


def paths(explorer: live.Explorer) -> list[tuple[np.ndarray, np.ndarray]]:
    """The polygons of the left picture."""
    x, y = explorer.plot.artists[0].get_data()
    ends = np.flatnonzero(np.isnan(y))
    return [(x[i:j], y[i:j]) for i, j in zip([0, *(ends[:-1] + 1)], ends, strict=True)]


# -- the exact side -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.02, 0.3, 1.0, 80.0])
def test_the_prediction_is_bayes_rule_on_numbers(level):
    x0 = np.linspace(-4, 4, 80_001)
    density = sum(w * norm.pdf(x0, m, DATA.sd) for w, m in zip(DATA.weights, DATA.means, strict=True))
    x = np.array([-1.3, -0.2, 0.6, 1.4])
    for here, predicted in zip(x, DATA.prediction(x, level), strict=True):
        weight = density * norm.pdf(here, x0, level)
        assert predicted == pytest.approx((weight * x0).sum() / weight.sum(), abs=1e-6)


def test_far_away_the_prediction_is_a_number():
    assert np.isfinite(DATA.prediction(np.array([-1e4, 1e4]), 0.02)).all()


def test_the_curves_solve_the_differential_equation_and_keep_their_share():
    levels, shares = np.geomspace(80, 0.02, 4001), np.array([0.03, 0.4, 0.75])
    curves = DATA.curves(shares, levels)
    np.testing.assert_allclose(DATA.cdf(curves, levels[:, None] + np.zeros(3)), np.tile(shares, (4001, 1)), atol=1e-12)
    middle = levels[1:-1]
    slope = (curves[2:] - curves[:-2]) / (levels[2:] - levels[:-2])[:, None]
    predicted = np.array([DATA.prediction(x, level) for x, level in zip(curves[1:-1], middle, strict=True)])
    np.testing.assert_allclose(slope, (curves[1:-1] - predicted) / middle[:, None], atol=2e-4)


# -- its solvers are the package's --------------------------------------------------------------------------------------


def of_the_package(levels: np.ndarray, start: np.ndarray, sample, **settings) -> np.ndarray:
    """x_t / a of a sampler of the package on a schedule that has these levels and no others."""
    schedule = Schedule.from_alpha_bar(1 / (1 + levels[-2::-1].copy() ** 2))
    means = torch.tensor(DATA.means, dtype=torch.float64)[:, None]
    model = MixtureDenoiser(schedule, means, DATA.sd**2, torch.tensor(DATA.weights, dtype=torch.float64))
    x_T = torch.from_numpy(start)[:, None] * schedule.alpha_bar[-1].sqrt()
    frames = list(sample(model, schedule, x_T, times=range(schedule.T, -1, -1), **settings))
    return np.array([(frame.x_t / schedule.alpha_bar[frame.t].sqrt())[:, 0].numpy() for frame in frames])


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("solver", "sample", "settings"),
    [
        ("DDIM", ddim_sample, {}),
        ("DDIM", dpm_solver_sample, {"order": 1}),
        ("2M", dpm_solver_sample, {}),
        ("Heun", heun_sample, {}),
    ],
)
def test_each_solver_takes_the_steps_of_the_package(where, solver, sample, settings):
    path, levels = run(solver, 9, where)
    np.testing.assert_allclose(path, of_the_package(levels, path[0], sample, **settings), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("where", WHERE)
def test_the_stochastic_solver_takes_the_steps_of_the_package(where):
    path, levels = run("SDE-2M", 9, where)
    schedule = Schedule.from_alpha_bar(1 / (1 + levels[-2::-1].copy() ** 2))
    a, before = schedule.alpha_bar.sqrt(), None
    for i, t in enumerate(range(schedule.T, 0, -1)):
        x0_hat = torch.from_numpy(DATA.prediction(path[i], levels[i]))[:, None]
        x_t, z = (torch.from_numpy(values)[:, None] for values in (path[i], fresh(15)[i]))
        x_s = dpm_solver_step(schedule, x0_hat, a[t] * x_t, t, t - 1, z, eta=1, before=before)
        np.testing.assert_allclose(path[i + 1], (x_s / a[t - 1])[:, 0].numpy(), rtol=1e-7, atol=1e-7)
        before = (x0_hat, t)


def test_upside_down_is_another_solver_where_the_steps_are_uneven_and_the_same_where_they_are_even():
    (right, _), (wrong, _) = run("2M", 9, "karras 7"), run("2M with 1/r", 9, "karras 7")
    assert np.abs(right[-1] - wrong[-1]).max() > 0.05
    (right, _), (wrong, _) = run("2M", 9, "lambda"), run("2M with 1/r", 9, "lambda")
    np.testing.assert_allclose(right, wrong, atol=1e-9)


def test_the_grids():
    assert grid_levels(10, "karras 7")[[0, -2, -1]] == pytest.approx([80, 0.02, 0])
    np.testing.assert_allclose(np.diff(np.log(grid_levels(10, "lambda")[:-1])), math.log(0.02 / 80) / 9)
    np.testing.assert_allclose(np.diff(grid_levels(10, "karras 1")[:-1]), (0.02 - 80) / 9)
    schedule = Schedule.cosine()
    levels = noise_level(schedule)
    times = [int((levels - level).abs().argmin()) for level in grid_levels(8, "t")]
    assert times == [992, 868, 744, 620, 496, 372, 248, 124, 0] and times[0] == int(karras_times(schedule, 8)[0])


def calls_of(solver: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> int:
    made: list[float] = []
    predict = line.Mixture.prediction
    monkeypatch.setattr(line.Mixture, "prediction", lambda *given: made.append(given[2]) or predict(*given))
    run(solver, calls, "karras 7")
    return len(made)


@pytest.mark.parametrize("solver", LOOKS)
@pytest.mark.parametrize("calls", [2, 3, 8, 40])
def test_the_calls_are_those_that_were_made(solver, calls, monkeypatch):
    assert calls_of(solver, calls, monkeypatch) == cost(solver, calls) <= calls


# -- what is shown ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", LOOKS)
@pytest.mark.parametrize(
    ("calls", "grid", "rho"), [(8, "karras", 7), (3, "karras", 20), (20, "t", 7), (11, "lambda", 7)]
)
def test_reading_and_point_are_true_of_the_polygons(explorer, solver, calls, grid, rho):
    put(explorer, solver=solver, calls=calls, grid=grid, rho=rho)
    words, polygons = explorer.reading.value, paths(explorer)
    off = float(re.search(r"are (\d[\d.e-]*) away", words)[1])
    made = int(re.search(r"(\d+) calls?,", words)[1])
    here, ends = explorer.plot.artists[-1], np.array([y[-1] for _, y in polygons])
    assert len(polygons) == 15 and made == cost(solver, calls)
    assert made == (2 * (len(polygons[0][0]) - 1) - 1 if solver == "Heun" else len(polygons[0][0]) - 1)
    assert (float(here.get_xdata()[0]), float(here.get_ydata()[0])) == pytest.approx((made, off), rel=0.06)
    if solver == "SDE-2M":
        assert "no path follows a curve" in words
        assert float(re.findall(r"0\.\d+", words)[-1]) == pytest.approx(by_chance(), abs=1e-3)
    else:
        exact_ends = DATA.curves((np.arange(15) + 0.5) / 15, np.zeros(1))[0]
        assert np.abs(ends - exact_ends).mean() == pytest.approx(off, rel=0.06)
        assert ("leave the picture" in words) == any((np.abs(y) > HEIGHT).any() for _, y in polygons)
    assert (f"ρ = {rho}" in words) == (grid == "karras") and (GRIDS[grid] in words)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("solver", LOOKS)
def test_the_polygons_start_on_the_exact_curves_and_the_errors_stay_in_the_picture(solver, where):
    path, levels = run(solver, 8, where)
    np.testing.assert_allclose(path[0], DATA.curves((np.arange(15) + 0.5) / 15, levels[:1])[0])
    for calls, off in errors(solver, where):
        assert ERRORS[0] < off < ERRORS[1] and 1 <= calls <= MOST


def test_the_errors_of_the_right_picture_are_those_of_the_reading(explorer):
    for name, drawn in zip(LOOKS, explorer.plot.artists[1:-1], strict=True):
        if name == "SDE-2M":
            assert not drawn.get_visible()
            continue
        calls, off = drawn.get_data()
        assert list(calls) == [cost(name, count) for count in COUNTS]
        assert list(off) == [error(name, count, "karras 7") for count in COUNTS]


def test_the_errors_fall_with_the_order_of_the_solver():
    """Even in lambda: from 20 to 40 calls DDIM's is halved, those of second order are quartered."""
    fall = {solver: error(solver, 20, "lambda") / error(solver, 40, "lambda") for solver in LOOKS}
    assert 1.6 < fall["DDIM"] < 3 < fall["2M"] < 8 and fall["2M with 1/r"] == pytest.approx(fall["2M"])
    assert fall["Heun"] > 3.5


def test_with_few_calls_heun_is_the_worst():
    for where in ("karras 7", "lambda"):
        heun, ddim, two_m = (error(solver, 6, where) for solver in ("Heun", "DDIM", "2M"))
        assert heun > 4 * ddim and ddim > 1.5 * two_m


def test_the_distance_by_chance_is_that_of_draws_from_the_data():
    g = np.random.default_rng(1)
    draws = []
    for _ in range(100):
        parts = g.choice(len(DATA.means), 1000, p=DATA.weights)
        draws.append(np.sort(np.array(DATA.means)[parts] + DATA.sd * g.standard_normal(1000)))
    away = np.abs(np.array(draws) - exact(1000, 0.0)).mean(1)
    assert abs(away.mean() - by_chance()) < 4 * away.std() / 10


def test_the_levels_stand_where_the_axis_says(explorer):
    x, _ = paths(explorer)[0]
    assert x[:-1] == pytest.approx(grid_levels(8, "karras 7")[:-1]) and x[-1] == ZERO
    axis = explorer.plot.figure.axes[0]
    assert dict(zip(axis.get_xticks(), (t.get_text() for t in axis.get_xticklabels()), strict=True))[ZERO] == "0"


def test_rho_is_for_karras_grid_only(explorer):
    assert not explorer.controls["rho"].disabled
    for grid in ("t", "lambda"):
        put(explorer, grid=grid)
        assert explorer.controls["rho"].disabled and "ρ" not in explorer.reading.value


@pytest.mark.parametrize(
    ("name", "value"), [("solver", "Heun"), ("solver", "SDE-2M"), ("calls", 12), ("grid", "lambda"), ("rho", 3)]
)
def test_every_control_moves_the_picture_and_has_a_name(explorer, name, value):
    before, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != before).any() and explorer.reading.value != reading
    assert explorer.controls[name].description


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer), explorer.reading.value
    put(explorer, solver="SDE-2M", calls=30, grid="t")
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    solvers(solver="Heun", calls=5)
    assert "the steps of Heun with 5 calls" in shown[0] and f"end {error('Heun', 5, 'karras 7'):.2g} away" in shown[0]
    assert "Heun, 3 steps, 5 calls, Karras' grid" in shown[0].replace("&#x27;", "'")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"calls": 1}, "calls must lie in 2..40, got 1"),
        ({"rho": 0.5}, "rho must lie in 1..20, got 0.5"),
        ({"solver": "Euler"}, "solver must be one of 'DDIM', 'Heun', '2M', '2M with 1/r', 'SDE-2M', got 'Euler'"),
    ],
)
def test_it_refuses_values_that_no_control_has(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_solvers(**wrong)
