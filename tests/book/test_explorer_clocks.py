"""The clocks of chapter 5: what is drawn, and what is read out."""

import math
import re

import numpy as np
import pytest
from pixels import sent

from diffnotes.book.explorers import build_clocks, clocks
from diffnotes.book.live import widgets as live


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_clocks(t=40, later=10, hands=3, T=200)


def angles(explorer: live.Explorer) -> tuple[list[float], list[float]]:
    """Of the orange hands, and of the blue ones."""
    ends = [np.array(hand.get_data())[:, 1] for hand in explorer.plot.artists[:6]]
    assert np.allclose([np.hypot(*end) for end in ends], 1)
    turned = [math.atan2(y, x) for x, y in ends]
    return turned[:3], turned[3:]


def test_the_hands_stand_where_the_frequencies_turn_them(explorer):
    for values in ({"t": 40, "later": 10}, {"t": 77, "later": 23}):
        for name, value in values.items():
            explorer.controls[name].value = value
        later, now = angles(explorer)
        for k in range(3):
            speed = 10000 ** (-2 * k / 6)
            for turned, at in ((now[k], values["t"]), (later[k], values["t"] + values["later"])):
                assert math.cos(turned - speed * at) == pytest.approx(1, abs=1e-6)
    assert [line.get_xdata()[0] for line in explorer.plot.artists[6:]] == [100, 77]


def test_the_angles_between_the_hands_and_the_inner_product_do_not_depend_on_t(explorer):
    seen, read = [], []
    for t in (1, 55, 100):
        explorer.controls["t"].value = t
        seen.append([math.cos(a - b) for a, b in zip(*angles(explorer), strict=True)])
        read.append(re.findall(r"embeddings (\S+), of at most 3; distance (\S+)\.", explorer.reading.value))
    assert np.allclose(seen, seen[0], atol=1e-5) and read[0] == read[1] == read[2]
    inner = sum(math.cos(10 * 10000 ** (-2 * k / 6)) for k in range(3))
    assert [float(x) for x in read[0][0]] == pytest.approx([inner, math.sqrt(2 * (3 - inner))], abs=6e-3)


def test_faces_are_named_by_the_steps_of_a_turn(explorer):
    titles = [ax.get_title("center") for ax in explorer.plot.figure.axes[:3]]
    assert titles == ["6 steps", "135 steps", "2,916 steps"]


@pytest.mark.parametrize(("name", "value"), [("t", 90), ("later", 40)])
def test_every_slider_moves_the_picture_and_the_reading_and_reset_brings_them_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_every_control_has_a_name_and_a_picture_stands_behind(explorer, monkeypatch):
    assert [control.description for control in explorer.controls.values()] == ["t", "δ"]
    lines: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: lines.append(what["text/html"]))
    clocks()
    assert "A row of 6 clock faces" in lines[0] and "Blue: t = 300. Orange: t + δ = 320." in lines[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"t": 0}, "t must lie in 1..900, got 0"),
        ({"later": 101}, "later must lie in 0..100, got 101"),
        ({"hands": 0}, "hands must be an integer >= 1, got 0"),
        ({"T": 100}, "T must be an integer >= 101, got 100"),
    ],
)
def test_it_refuses_what_it_cannot_show(wrong, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_clocks(**wrong)
