"""The meters on one digit, and the network that draws what is said (chapter 19)."""

import importlib
import re

import pytest
import torch
from pixels import sent

from diffnotes import Schedule, load_images
from diffnotes.book.explorers import build_meter, build_say_it
from diffnotes.book.explorers.meter import stroked
from diffnotes.book.explorers.say_it import AGAINST, caption_number, obeyed
from diffnotes.book.live import widgets as live
from diffnotes.process.exact import DatasetDenoiser
from diffnotes.training.attributes import attribute_words, readings, thickness
from diffnotes.training.captions import CAPTIONS, number_of_text, text_of
from diffnotes.training.pretrained import load_captioned


@pytest.fixture(scope="module")
def digit() -> torch.Tensor:
    return load_images("digits", "train", size=28).x[3]


@pytest.fixture
def meter(digit) -> live.Explorer:
    return build_meter(digit)


@pytest.mark.parametrize(("slider", "value"), [("shear", 0.3), ("zoom", 0.7), ("stroke", 0.6), ("stroke", -0.4)])
def test_a_moved_slider_moves_picture_and_reading(meter, slider, value):
    picture, words = sent(meter), meter.reading.value
    meter.controls[slider].value = value
    assert (sent(meter) != picture).any() and meter.reading.value != words
    meter.reset()
    assert (sent(meter) == picture).all() and meter.reading.value == words


def test_the_reading_says_that_a_shear_moves_the_slant_by_itself(meter):
    meter.controls["shear"].value = 0.4
    moved = re.search(r"slant has moved by ([+-][\d.]+)", meter.reading.value)
    assert moved is not None and float(moved[1]) == pytest.approx(0.4, abs=0.03)


def test_strokes_grow_and_shrink(digit):
    at = [thickness(stroked(digit[None], amount)).item() for amount in (-0.5, 0.0, 0.5, 1.0)]
    assert at == sorted(at) and torch.equal(stroked(digit[None], 0.0), digit[None])


def test_captions_of_the_menus_are_those_of_the_package():
    assert text_of(caption_number("seven", "thick", "leaning right")) == "a thick seven leaning right"
    assert text_of(caption_number(None, None, None)) == ""
    assert all(number == (number_of_text(text) if text else None) for text, number in AGAINST.items())


def test_what_is_counted_as_obeyed_is_what_the_meters_read(digit):
    x = digit[None].expand(2, -1, -1, -1)
    thick, _, lean = attribute_words(x)[0].tolist()
    for k in range(3):
        y = caption_number("one", ("thin", "medium", "thick")[k], None)
        assert obeyed(x, y).tolist() == [[k == thick, True]] * 2
        y = caption_number(None, None, ("leaning left", "standing upright", "leaning right")[k])
        assert obeyed(x, y).tolist() == [[True, k == lean]] * 2


def test_it_draws_and_reads_and_draws_anew():
    network, schedule = load_captioned()
    explorer = build_say_it(network, schedule, steps=3)
    first, words = sent(explorer), explorer.reading.value
    assert words.startswith("“a thick seven leaning right”, w = 2.0. By the meters ")
    explorer.controls["thickness"].value = "thin"
    assert "“a thin seven leaning right”" in explorer.reading.value and (sent(explorer) != first).any()
    explorer.controls["against"].value = "a one"
    assert "away from “a one”" in explorer.reading.value
    explorer.controls["scale"].value = 1.0
    assert "the negative caption does nothing" in explorer.reading.value
    explorer.reset()
    assert explorer.reading.value == words and (sent(explorer) == first).all()


def test_the_numbers_under_the_digits_are_the_meters(monkeypatch):
    module = importlib.import_module("diffnotes.book.explorers.say_it")

    drawn = {}
    draw = module.draw
    monkeypatch.setattr(module, "draw", lambda *given: drawn.setdefault("x", draw(*given)))
    network, schedule = load_captioned()
    explorer = module.build_say_it(network, schedule, steps=2)
    found = readings(drawn["x"].clamp(-1, 1))
    shown = [text.get_text() for text in explorer.plot.artists[8:]]
    assert shown[::2] == [f"{value:.1f} px" for value in found[:, 0].tolist()]
    assert shown[1::2] == [f"{value:+.2f}" for value in found[:, 2].tolist()]


def test_other_models_and_pictures_are_refused(digit):
    schedule = Schedule.cosine(20)
    with pytest.raises(ValueError, match="model must take captions, got num_classes"):
        build_say_it(DatasetDenoiser(schedule, digit[None]), schedule)
    with pytest.raises(ValueError, match=re.escape("image must be a grey picture (1, 28, 28), got (3, 28, 28)")):
        build_meter(digit.expand(3, -1, -1))
    with pytest.raises(ValueError, match=re.escape("shear must lie in -0.6..0.6, got 2")):
        build_meter(digit, shear=2)
    assert CAPTIONS == 704
