"""The arrows turned along the chain (chapter 11): every stop is the same product, and the picture shows its factors."""

import math
from collections import Counter

import pytest
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text
from pixels import sent

from diffnotes.book.explorers.telescope import build_telescope, factors, label, telescope
from diffnotes.book.live import widgets as live
from diffnotes.book.proof import chain

STOPS = [(T, stop) for T in (2, 3, 4) for stop in range(2 * T)]
HIDDEN = {T: ", ".join(f"x{t}" for t in range(1, T + 1)) + " | x0" for T in (2, 3, 4)}


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_telescope()


def visible(explorer: live.Explorer, kind: type) -> list:
    return [artist for artist in explorer.plot.artists if isinstance(artist, kind) and artist.get_visible()]


# -- the factors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("T", "stop"), STOPS)
def test_at_every_stop_the_factors_make_up_the_same_distribution(T, stop):
    q = chain.Distribution.forward(chain.probabilities(2, seed=1), [chain.kernel(2, seed) for seed in range(2, T + 2)])
    left = [q(factor.words) ** factor.power for factor in factors(T, stop) if not factor.struck]
    assert (math.prod(left) == q(HIDDEN[T])).all()


@pytest.mark.parametrize(("T", "stop"), STOPS)
def test_what_is_struck_out_stands_once_above_a_line_and_once_below_one(T, stop):
    struck = [(factor.words, factor.power) for factor in factors(T, stop) if factor.struck]
    pairs = max(stop - (T - 1), 0) if stop < 2 * T - 1 else 0
    assert Counter(struck) == Counter((f"x{t} | x0", power) for t in range(1, pairs + 1) for power in (1, -1))


@pytest.mark.parametrize(("T", "stop"), STOPS)
def test_one_arrow_more_is_turned_at_every_stop(T, stop):
    turned = [factor for factor in factors(T, stop) if factor.words.endswith(", x0")]
    assert [factor.arrow for factor in turned] == list(range(2, min(stop, T - 1) + 2))


def test_a_factor_is_written_as_the_chapter_writes_it():
    assert label("x1 | x2, x0") == r"$q_\phi(\mathbf{z}_1|\mathbf{z}_2,\mathbf{x})$"
    assert label("x0 | x1", r"p_\theta") == r"$p_\theta(\mathbf{x}|\mathbf{z}_1)$"


# -- what is shown ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", range(8))
def test_the_picture_shows_the_factors_the_strikes_and_the_decoder(explorer, stop):
    explorer.controls["stop"].value = stop
    texts = Counter(text.get_text() for text in visible(explorer, Text))
    encoder = Counter(label(factor.words) for factor in factors(4, stop))
    decoder = Counter([label(f"x{t - 1} | x{t}", r"p_\theta") for t in range(1, 5)] + [label("x4", "p")])
    assert Counter({words: n for words, n in texts.items() if words.startswith("$q")}) == encoder
    assert Counter({words: n for words, n in texts.items() if words.startswith("$p")}) == decoder
    terms = [text for text in texts.elements() if not text.startswith("$")]
    assert sorted(terms) == (["denoising"] * 3 + ["prior matching", "reconstruction"] if stop == 7 else [])
    assert len(visible(explorer, Rectangle)) == (5 if stop == 7 else 0)


@pytest.mark.parametrize(("stop", "up", "down"), [(0, 4, 0), (1, 3, 1), (3, 1, 3), (4, 0, 3), (6, 0, 3), (7, 0, 3)])
def test_the_encoders_arrows_lead_up_or_down(explorer, stop, up, down):
    explorer.controls["stop"].value = stop
    arcs = [arrow for arrow in visible(explorer, FancyArrowPatch) if arrow.get_linestyle() in ("-", "solid")]
    ends = [arrow._posA_posB for arrow in arcs if arrow._posA_posB is not None]  # the jump has corners instead
    assert sum(a[0] < b[0] for a, b in ends) == up and sum(a[0] > b[0] for a, b in ends) == down
    assert len(arcs) - len(ends) == (stop == 7)


@pytest.mark.parametrize("T", [2, 5])
def test_all_of_it_stays_in_the_picture(T):
    explorer = build_telescope(T)
    renderer = explorer.plot.canvas.get_renderer()
    box = explorer.plot.figure.bbox
    for stop in range(2 * T):
        explorer.controls["stop"].value = stop
        for text in visible(explorer, Text):
            extent = text.get_window_extent(renderer)
            assert box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1


def test_the_reading_says_what_the_stop_does(explorer):
    readings = []
    for stop in range(8):
        explorer.controls["stop"].value = stop
        readings.append(explorer.reading.value)
    assert "q(z_3 | z_2) = q(z_2 | z_3, x) · q(z_3 | x) / q(z_2 | x)" in readings[2]
    assert readings[3].endswith("All but the first are turned.")
    assert readings[4].startswith("q(z_1 | x) stands once as the first arrow and once below a line")
    assert readings[6].startswith("q(z_3 | x)") and readings[6].endswith("only q(z_4 | x) is left.")
    assert len(set(readings)) == 8


def test_the_slider_moves_the_picture_and_reset_brings_it_back(explorer):
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls["stop"].value = 1
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading
    assert explorer.controls["stop"].value == 6 and explorer.controls["stop"].description


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (None, "3 of 3 pairs are struck out"),
        (0, "lead up"),
        (2, "2 of the encoder's 4 arrows are turned"),
        (7, "jumps"),
    ],
)
def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch, stop, words):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    telescope(stop=stop)
    assert words.replace("'", "&#x27;") in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"T": 1}, r"T must lie in 2\.\.5, got 1"), ({"T": 3, "stop": 6}, r"stop must lie in 0\.\.5, got 6")],
)
def test_chains_and_stops_that_there_are_not_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build_telescope(**wrong)
