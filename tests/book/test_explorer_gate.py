"""The gate (chapter 2): the walkers are those of the forward process, and the curve is where those that pass have been."""

import math
import re

import numpy as np
import pytest
from pixels import sent

from diffnotes.book.explorers import build_gate, gate
from diffnotes.book.explorers.gate import DRAWN, LINE, WALKERS, WIDTH, bell, walk
from diffnotes.book.live import widgets as live
from diffnotes.process.schedules import Schedule

COARSE = Schedule.cosine(T=20)
PATHS = walk(COARSE, 0.8)


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_gate(COARSE)


# -- the walkers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 7, 20])
def test_the_walkers_have_the_distribution_of_the_closed_form(t):
    left = COARSE.alpha_bar[t].item()
    error = math.sqrt((1 - left) / WALKERS)
    assert PATHS.shape == (21, WALKERS) and (PATHS[0] == np.float32(0.8)).all()
    assert PATHS[t].mean() == pytest.approx(0.8 * math.sqrt(left), abs=4 * error)
    assert PATHS[t].var() == pytest.approx(1 - left, rel=4 * math.sqrt(2 / WALKERS))


@pytest.mark.parametrize(("t", "x_t"), [(2, 0.7), (5, 0.2), (10, -0.4), (15, 1.2), (20, -0.5)])
def test_those_that_pass_have_been_where_the_curve_is(t, x_t):
    there = PATHS[t - 1, np.abs(PATHS[t] - x_t) < WIDTH / 2]
    mean, variance = bell(COARSE, t, x_t, 0.8)
    error = math.sqrt(variance / len(there))
    assert len(there) > 1000 and there.mean() == pytest.approx(mean, abs=4 * error + 0.003)
    assert there.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / len(there)) + 0.03)


# -- what is shown ------------------------------------------------------------------------------------------------------


def test_it_begins_in_the_middle_of_the_chain(explorer):
    assert explorer.values() == {"t": 10, "x_t": -0.4}
    assert build_gate(COARSE, t=5, x_t=1.0, x_0=0.5).values() == {"t": 5, "x_t": 1.0}


@pytest.mark.parametrize(("t", "x_t"), [(10, -0.4), (15, 1.2)])
def test_the_orange_paths_go_through_the_gate(explorer, t, x_t):
    explorer.controls["t"].value, explorer.controls["x_t"].value = t, x_t
    passing, wall, *_ = explorer.plot.artists
    x, y = passing.get_data()
    assert len(x) == DRAWN * (t + 2) and np.isnan(x[t + 1 :: t + 2]).all()
    assert (x[t :: t + 2] == t).all() and (np.abs(y[t :: t + 2] - x_t) < WIDTH / 2).all()
    (low, left, _, right, high), columns = wall.get_ydata(), wall.get_xdata()
    assert (low, high) == LINE and right - left == pytest.approx(WIDTH) and left + right == pytest.approx(2 * x_t)
    assert columns[0] == columns[-1] == t


@pytest.mark.parametrize(("t", "x_t"), [(3, 0.6), (10, -0.4), (18, 1.0)])
def test_the_histograms_are_of_all_walkers_and_of_those_that_pass(explorer, t, x_t):
    explorer.controls["t"].value, explorer.controls["x_t"].value = t, x_t
    _, _, everyone, passed, level, curve = explorer.plot.artists
    mean, variance = bell(COARSE, t, x_t, 0.8)
    chosen = PATHS[t - 1, np.abs(PATHS[t] - x_t) < WIDTH / 2]
    for patch, walkers in ((everyone, PATHS[t - 1]), (passed, chosen)):
        shown, edges, _ = patch.get_data()
        inside = np.mean((walkers >= LINE[0]) & (walkers <= LINE[1]))
        assert (shown * np.diff(edges)).sum() == pytest.approx(math.sqrt(2 * math.pi * variance) * inside)
        middle = (edges[1:] + edges[:-1]) / 2
        assert (shown * middle).sum() / shown.sum() == pytest.approx(walkers.mean(), abs=0.03)
    assert set(level.get_ydata()) == {x_t}
    x, height = curve.get_ydata(), curve.get_xdata()
    np.testing.assert_allclose(height, np.exp(-((x - mean) ** 2) / (2 * variance)))


@pytest.mark.parametrize(("t", "x_t"), [(10, -0.4), (3, 0.6), (20, -1.5)])
def test_its_reading_is_true_of_walkers_and_curve(explorer, t, x_t):
    explorer.controls["t"].value, explorer.controls["x_t"].value = t, x_t
    pattern = (
        rf"at {x_t:.2f} at t = {t}; ([\d,]+) of 200,000 walkers pass. At t = {t - 1} all walkers have mean (\S+) and standard "
        r"deviation (\S+),<br>those that pass (\S+) and (\S+); computed: (\S+) and (\S+)\.$"
    )
    found = re.search(pattern, explorer.reading.value)
    assert found is not None, explorer.reading.value
    number, *values = (float(value.replace(",", "")) for value in found.groups())
    chosen = PATHS[t - 1, np.abs(PATHS[t] - x_t) < WIDTH / 2]
    mean, variance = bell(COARSE, t, x_t, 0.8)
    expected = [PATHS[t - 1].mean(), PATHS[t - 1].std(), chosen.mean(), chosen.std(), mean, math.sqrt(variance)]
    assert number == len(chosen) and values == pytest.approx(expected, abs=6e-4)


def test_where_no_path_leads_it_says_so_and_the_histogram_is_empty(explorer):
    explorer.controls["t"].value, explorer.controls["x_t"].value = 2, -1.0
    assert "; 0 of 200,000 walkers pass" in explorer.reading.value and "Too few pass" in explorer.reading.value
    assert not np.asarray(explorer.plot.artists[3].get_data().values).any()


@pytest.mark.parametrize(("name", "value"), [("t", 15), ("x_t", 0.5)])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    assert explorer.controls[name].description
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("end", ["min", "max"])
def test_it_works_at_both_ends_of_its_sliders(explorer, end):
    for control in explorer.controls.values():
        control.value = getattr(control, end)
        assert "nan" not in explorer.reading.value


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    gate(COARSE)
    assert "a wall with a gate at -0.4 stands at t = 10" in shown[0] and "around -0.15" in shown[0]
    assert "computed: -0.152 and 0.339" in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t": 1}, "t must lie in 2..20, got 1"),
        ({"x_t": 2.0}, "x_t must lie in -1.6..1.6, got 2.0"),
        ({"x_0": -1.2}, "x_0 must lie in -1..1, got -1.2"),
        ({"schedule": Schedule.linear()}, "schedule must have 2..50 steps, so that each can be seen, got 1000"),
    ],
)
def test_what_it_cannot_show_is_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_gate(**({"schedule": COARSE} | wrong))
