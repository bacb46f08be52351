"""A sum box by box, and the film of a model that fills masks (chapter 20): what is drawn, and what it reads out."""

import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes.book.explorers import build_reveal, build_unmasking
from diffnotes.book.explorers.words import LISTS, agreeing, at_once, probabilities, sums_model
from diffnotes.book.live import widgets as live
from diffnotes.process.discrete import unmask
from diffnotes.training.text import DIGITS


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_reveal()


def test_the_columns_are_those_of_the_sums_that_agree():
    row = sums_model().sentences[2304]  # 23+04=027
    p, found = probabilities(row, (0, 7)), agreeing(row, (0, 7))
    assert p.shape == (9, 12)
    for place in range(9):
        shares = torch.bincount(found[:, place], minlength=12) / len(found)
        np.testing.assert_allclose(p[place], shares, atol=1e-6)


def test_what_a_block_loses():
    row = sums_model().sentences[2304]
    lost, possible = at_once(row, (), tuple(range(9)))
    assert lost == pytest.approx(7.6438, abs=1e-4) and possible == pytest.approx(0.005, rel=1e-3)
    assert at_once(row, (), (0, 1, 3, 4)) == pytest.approx((0, 1), abs=1e-6)
    tens, _ = at_once(row, (0, 1), (3, 4, 6, 7, 8))
    assert tens > 3  # the result repeats what b says


def test_the_reading_says_what_is_framed(explorer):
    lost, possible = at_once(sums_model().sentences[2304], LISTS["signs"][:3], LISTS["signs"][3:7])
    assert f"{lost:.2f} bits lost" in explorer.reading.value and f"{possible:.3f}" in explorer.reading.value
    explorer.controls["together"].value = 1
    assert "nothing is lost" in explorer.reading.value
    explorer.controls["revealed"].value = 9
    assert "Every box is open" in explorer.reading.value


@pytest.mark.parametrize(("name", "value"), [("revealed", 5), ("together", 2), ("order", "left"), ("number", 9950)])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first = sent(explorer)
    explorer.controls[name].value = value
    assert (sent(explorer) != first).any()
    explorer.reset()
    assert (sent(explorer) == first).all()


def test_the_film_shows_the_drafts():
    start = torch.full((4, 9), 12)
    explorer = build_unmasking(sums_model(), start, DIGITS, calls=3)
    drafts = list(unmask(sums_model(), start, 3, "random", generator=torch.Generator().manual_seed(0)))
    first = sent(explorer)
    assert "this call has filled 12 masks, 0 are left" in explorer.reading.value
    explorer.controls["step"].value = 1
    left = int((drafts[1].tokens == 12).sum())
    assert re.search(rf"After 1 of 3 calls, random: .* {left} are left", explorer.reading.value)
    assert (sent(explorer) != first).any()
    explorer.controls["order"].value = "left"
    assert "left to right" in explorer.reading.value
    explorer.reset()
    assert (sent(explorer) == first).all()


def test_long_rows_are_broken_into_lines():
    start = torch.full((2, 9), 12)
    assert sent(build_unmasking(sums_model(), start, DIGITS, calls=1, width=4)).shape[0] >= 2 * 3 * 20


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_reveal(revealed=10), r"^revealed must lie in 0\.\.9, got 10$"),
        (lambda: build_reveal(order="up"), r"^order must be one of 'left', 'right', 'mixed', 'signs', got 'up'$"),
        (lambda: build_unmasking(sums_model(), torch.full((1, 9), 12), DIGITS, calls=10), r"^calls must lie in 1\.\.9"),
        (
            lambda: build_unmasking(sums_model(), torch.full((1, 9), 12), DIGITS, order="up"),
            r"^order must be one of 'random'",
        ),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
