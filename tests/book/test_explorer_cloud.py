"""A data set under the forward process (chapter 1): points, paths and histogram are those of the chain, and so is the reading."""

import re

import numpy as np
import pytest
from pixels import sent

from diffnotes.book.explorers import build_cloud, cloud
from diffnotes.book.explorers.forward import BINS, MARKED, MOONS, POINTS, SHADES, SPIRAL, moons, spiral
from diffnotes.book.live import widgets as live
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.linear(T=40, beta_1=0.01, beta_T=0.4)
BETA = np.r_[0, np.linspace(0.01, 0.4, 40)]
ABAR = np.cumprod(1 - BETA)
DATA = {SPIRAL: spiral(), MOONS: moons()}


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_cloud(SCHEDULE, t=5)


def parts(explorer: live.Explorer) -> tuple:
    """What is drawn: the points (N, 2), the histogram's heights, the paths, and their ends."""
    bars, _, *lines = explorer.plot.artists
    points = np.concatenate([line.get_xydata() for line in lines[:SHADES]])
    return points, bars.get_data().values, [line.get_xydata() for line in lines[SHADES:-1]], lines[-1].get_xydata()


def noise(explorer: live.Explorer, data: str, t: int) -> np.ndarray:
    """The points without what is left of the data."""
    explorer.controls["data"].value, explorer.controls["t"].value = data, t
    return parts(explorer)[0] - np.sqrt(ABAR[t]) * DATA[data]


# -- the data -----------------------------------------------------------------------------------------------------------


def test_the_spiral_s_covariance_is_the_identity():
    x = spiral()
    assert x.shape == (POINTS, 2)
    assert x.mean(0) == pytest.approx([0, 0], abs=1e-12)
    assert x.T @ x / POINTS == pytest.approx(np.eye(2), abs=1e-12)


def test_the_moons_have_variance_1_and_are_correlated():
    x = moons()
    assert x.shape == (POINTS, 2) and x.mean(0) == pytest.approx([0, 0], abs=1e-12)
    assert (x**2).mean(0) == pytest.approx([1, 1])
    assert round((x[:, 0] * x[:, 1]).mean(), 2) == -0.45  # chapter 1 says so


def test_the_spiral_turns_outwards():
    distance = np.linalg.norm(spiral(), axis=1)
    assert distance[-1] > 3 * distance[0]
    assert np.linalg.norm(np.diff(spiral(), axis=0), axis=1).max() < 0.05  # one curve


# -- the points --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", DATA)
def test_at_the_beginning_they_are_the_data(explorer, data):
    assert np.abs(noise(explorer, data, 0)).max() < 1e-12


@pytest.mark.parametrize("t", [1, 6, 40])
def test_their_noise_is_standard_normal_with_its_weight(explorer, t):
    """Mean, variance and fourth moment of the accumulated noise over 2,400 numbers; 4 standard errors."""
    eps = noise(explorer, SPIRAL, t).ravel() / np.sqrt(1 - ABAR[t])
    for power, (moment, variance) in {1: (0, 1), 2: (1, 2), 4: (3, 96)}.items():
        assert (eps**power).mean() == pytest.approx(moment, abs=4 * np.sqrt(variance / eps.size))


def test_the_step_between_two_times_has_the_noise_of_one_step(explorer):
    """x_t - sqrt(alpha_t) x_{t-1} has variance beta_t and nothing of x_{t-1}: the points walk, they do not jump."""
    before, now = noise(explorer, SPIRAL, 19), noise(explorer, SPIRAL, 20)
    step = (now - np.sqrt(1 - BETA[20]) * before).ravel()
    assert step.var() == pytest.approx(BETA[20], rel=4 * np.sqrt(2 / step.size))
    assert abs(np.corrcoef(step, before.ravel())[0, 1]) < 4 / np.sqrt(step.size)


def test_both_data_sets_have_the_same_noise(explorer):
    assert noise(explorer, SPIRAL, 9) == pytest.approx(noise(explorer, MOONS, 9))


@pytest.mark.parametrize("data", DATA)
def test_three_paths_lead_from_the_data_to_the_marked_points(explorer, data):
    noise(explorer, data, 12)
    points, _, paths, ends = parts(explorer)
    assert len(paths) == len(MARKED) == len(ends)
    for k, path, end in zip(MARKED, paths, ends, strict=True):
        assert path.shape == (13, 2)
        assert path[0] == pytest.approx(DATA[data][k])
        assert path[-1] == pytest.approx(points[k]) and end == pytest.approx(points[k])


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("t", [0, 7, 40])
def test_the_histogram_is_that_of_the_first_coordinate(explorer, data, t):
    noise(explorer, data, t)
    points, heights, _, _ = parts(explorer)
    inside = [
        ((low <= points[:, 0]) & (points[:, 0] < high)).mean() for low, high in zip(BINS[:-1], BINS[1:], strict=True)
    ]
    assert heights == pytest.approx(np.array(inside) / np.diff(BINS), abs=2e-3)
    assert heights.max() < 0.8  # the axis


# -- the reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("t", [0, 4, 40])
def test_the_reading_has_both_sides_of_the_covariance_formula(explorer, data, t):
    noise(explorer, data, t)
    image, eps, *rest = map(float, re.findall(r"-?\d+\.\d+", explorer.reading.value.replace("(1.10)", "")))
    assert (image, eps) == (round(np.sqrt(ABAR[t]), 2), round(np.sqrt(1 - ABAR[t]), 2))
    for found, matrix in zip(
        (rest[:3], rest[3:]),
        (
            np.cov(parts(explorer)[0].T, bias=True),
            ABAR[t] * np.cov(DATA[data].T, bias=True) + (1 - ABAR[t]) * np.eye(2),
        ),
        strict=True,
    ):
        assert found == pytest.approx([matrix[0, 0], matrix[1, 1], matrix[0, 1]], abs=0.0051)
    assert rest[:3] == pytest.approx(rest[3:], abs=4 * np.sqrt(2 / POINTS))


def test_a_covariance_of_nothing_has_no_sign(explorer):
    noise(explorer, SPIRAL, 0)
    assert "-0.00" not in explorer.reading.value


# -- the controls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("t", 20), ("data", MOONS)])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_every_control_has_a_name(explorer):
    assert all(control.description for control in explorer.controls.values())


def test_it_begins_before_the_data_are_lost():
    assert build_cloud(SCHEDULE).values() == {"data": SPIRAL, "t": 3}


def test_a_picture_stands_behind_it(monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    cloud(SCHEDULE, t=2)
    assert 'alt="Left, 1,200 points of a spiral in the plane at t = 2' in shown[0]
    assert "the data enter with weight" in shown[0]


@pytest.mark.parametrize("t", [-1, 41])
def test_a_time_beyond_the_chain_is_refused(t):
    with pytest.raises(ValueError, match=rf"t must lie in 0..40, got {t}"):
        build_cloud(SCHEDULE, t=t)
