"""A hole and its answers, and the pasted Gaussian (chapter 22): what is drawn, and what it reads out."""

import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes.book.explorers import build_answers, build_pasting
from diffnotes.book.explorers.answers import HOLES, METHODS, complete, nearest, seen_of
from diffnotes.book.proof import pasted
from diffnotes.process.exact import DatasetDenoiser
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.cosine(T=40)
PICTURES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
MODEL = DatasetDenoiser(SCHEDULE, PICTURES)


@pytest.mark.parametrize("hole", HOLES)
def test_holes_hide_the_share_that_is_asked_for(hole):
    for hidden in (0.25, 0.5, 0.8):
        seen = seen_of(hole, hidden, (1, 28, 28))
        assert seen.shape == (1, 28, 28) and float((~seen).float().mean()) == pytest.approx(hidden, abs=0.08)


@pytest.mark.parametrize("method", METHODS)
def test_completions_agree_with_what_is_seen(method):
    seen = seen_of("lower", 0.5, (1, 8, 8))
    drawn = complete(MODEL, SCHEDULE, PICTURES[:1], seen, method, 20)
    assert drawn.shape == (8, 1, 8, 8)
    assert float((drawn - PICTURES[0])[:, seen].abs().mean()) < (0.3 if method == "guided" else 1e-5)


def test_the_nearest_is_the_picture_itself():
    seen = seen_of("right", 0.5, (1, 8, 8))
    assert torch.equal(nearest(PICTURES, PICTURES[3:4], seen)[0], PICTURES[3])


def test_the_explorer_of_answers_moves_and_comes_back():
    explorer = build_answers(MODEL, SCHEDULE, PICTURES[:3], PICTURES, steps=4)
    first, reading = sent(explorer), explorer.reading.value
    for name, value in (("digit", 1), ("hole", "box"), ("hidden", 0.8), ("method", "nullspace")):
        explorer.controls[name].value = value
        assert (sent(explorer) != first).any() and explorer.reading.value != reading
        explorer.reset()
        assert (sent(explorer) == first).all() and explorer.reading.value == reading
    explorer.controls["method"].value = "replacement"
    assert "off by 0.000" in explorer.reading.value


def test_the_pasted_gaussian_says_what_the_recursion_says():
    explorer = build_pasting()
    found = [float(n) for n in re.findall(r"\d\.\d{3}", explorer.reading.value)]
    mean, variance = pasted.pasted(0.8, pasted.cosine(250))
    np.testing.assert_allclose(found, [0.8, mean, 0.36, variance, *pasted.limit(0.8)], atol=6e-4)
    first = sent(explorer)
    for name, value in (("rho", 0.3), ("T", 20), ("repeats", 10)):
        explorer.controls[name].value = value
        assert (sent(explorer) != first).any()
        explorer.reset()
        assert (sent(explorer) == first).all()
    explorer.controls["repeats"].value = 10
    assert "2,500 calls" in explorer.reading.value and "infinitely" not in explorer.reading.value


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_pasting(rho=1.0), r"^rho must lie in 0\.\.0\.95, got 1\.0$"),
        (lambda: build_answers(MODEL, SCHEDULE, PICTURES, PICTURES, hole="left"), r"^hole must be one of 'lower'"),
        (
            lambda: build_answers(MODEL, SCHEDULE, PICTURES, PICTURES[:4]),
            r"^training must hold at least 8 images, got 4$",
        ),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
