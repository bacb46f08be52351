"""Which variance (chapter 12): its curves against the true step of Gaussian data, and the reading is the sum of its costs."""

import math
import re

import numpy as np
import pytest
from pixels import sent

from diffnotes.book.explorers import build_variances, variances
from diffnotes.book.explorers.variances import SCHEDULE, table
from diffnotes.book.live import widgets as live


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_variances()


@pytest.mark.parametrize("s", [0.02, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("steps", [5, 50])
def test_the_best_variance_is_that_of_the_true_step(s, steps):
    """x_s and x_t are jointly Gaussian: Var(x_s) - Cov^2 / Var(x_t)."""
    t, found = table(s, steps, 0.3)
    before = SCHEDULE.subsequence(steps)[1:-1]
    bar_t, bar_s = SCHEDULE.alpha_bar[t], SCHEDULE.alpha_bar[before]
    v_t, v_s = (bar * s**2 + 1 - bar for bar in (bar_t, bar_s))
    np.testing.assert_allclose(found["best"], v_s - bar_t / bar_s * v_s**2 / v_t, rtol=1e-6)
    if s <= 1:
        assert bool(
            (found["best"] <= found["β'"] * (1 + 1e-9)).all() and (found["best"] >= found["β̃'"] * (1 - 1e-9)).all()
        )


@pytest.mark.parametrize(("s", "steps", "nu"), [(0.3, 25, 0.5), (1.0, 50, 0.8), (0.02, 10, 0.0)])
def test_the_reading_is_the_sum_of_the_costs(explorer, s, steps, nu):
    for name, value in (("s", s), ("steps", steps), ("nu", nu)):
        explorer.controls[name].value = value
    _, found = table(s, steps, nu)
    for name in ("β'", "β̃'", "ν"):
        rho = found["best"] / found["learned, ν" if name == "ν" else name]
        bits = ((rho - 1 - rho.log()) / 2).sum().item() / math.log(2)
        told = float(re.search(rf"[ ,]{name} ([\d.e-]+)(?:,|\.$)", explorer.reading.value)[1].rstrip("."))
        assert told == pytest.approx(bits, rel=0.02, abs=1e-6)


@pytest.mark.parametrize(("name", "value"), [("s", 1.0), ("steps", 100), ("nu", 0.9)])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading and explorer.controls[name].description
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    variances(s=0.5, steps=10)
    assert 'alt="Left, over t on a logarithmic axis' in shown[0] and "10 strides, s = 0.50" in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"s": 3}, "s must lie in 0.02..2, got 3"),
        ({"steps": 2}, "steps must lie in 5..200, got 2"),
        ({"nu": 1.5}, "nu must lie in 0..1"),
    ],
)
def test_bad_first_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build_variances(**wrong)
