import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes.book.explorers import (
    build_chain,
    build_ddim,
    build_film,
    build_round_trip,
    chain,
    film,
    round_trip,
)
from diffnotes.book.explorers.forward import walk
from diffnotes.book.live import widgets as live
from diffnotes.process.samplers import Frame, initial_noise
from diffnotes.process.schedules import Schedule


def sent(explorer: live.Explorer) -> np.ndarray:
    """The pixels that the explorer's picture shows."""
    return np.asarray(Image.open(io.BytesIO(explorer.plot.image.value)).convert("RGB")).astype(int)


def numbers_after(words: str, reading: str) -> float:
    """The first number that follows `words` in a reading."""
    found = re.search(re.escape(words) + r"\s*(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)", reading)
    assert found is not None, reading
    return float(found[1])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The HTML that is displayed, for readers without a kernel too."""
    lines: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: lines.append(what["text/html"]))
    return lines


# -- films of samples, with and without the noise of the steps ----------------------------------------------------------

NOISE = initial_noise(seed=3, batch=4, shape=(1, 8, 8)).clamp(-1, 1)


def frames(scale: float, times=(8, 6, 4, 2, 0)) -> list[Frame]:
    """Frames whose pictures differ the less, the smaller `scale` is; x0_hat by half as much as x_t."""
    return [Frame(t=t, x_t=scale * NOISE * (9 + t) / 17, x0_hat=scale * NOISE / 2, eps_hat=NOISE) for t in times]


@pytest.fixture
def two_films() -> live.Explorer:
    return build_film({"on": frames(0.9), "off": frames(0.2)}, columns=2, menu="noise")


def test_two_films_begin_in_the_middle_of_the_first(two_films):
    assert two_films.values() == {"name": "on", "number": 2}
    assert two_films.reading.value.startswith("t = 4, noise on: on the left x_t")


def test_the_menu_changes_the_film_and_not_the_time(two_films):
    before = sent(two_films)
    two_films.controls["name"].value = "off"
    assert two_films.reading.value.startswith("t = 4, noise off:")
    off = build_film(frames(0.2), columns=2)
    assert (sent(two_films) != before).any() and (sent(two_films) == sent(off)).all()


def test_the_slider_moves_either_film(two_films):
    for name in ("on", "off"):
        two_films.controls["name"].value = name
        pictures = []
        for number in range(5):
            two_films.controls["number"].value = number
            assert f"t = {8 - 2 * number}, noise {name}:" in two_films.reading.value
            pictures.append(sent(two_films)[:, : 2 * 2 * 8 + 2])  # the left grid
        assert all((a != b).any() for a, b in zip(pictures[:-1], pictures[1:], strict=True))


@pytest.mark.parametrize(("name", "scale"), [("on", 0.9), ("off", 0.2)])
def test_the_reading_gives_the_spread_of_the_pictures(two_films, name, scale):
    two_films.controls["name"].value = name
    spread = scale * math.sqrt(NOISE.numpy().var(axis=0, ddof=1).mean())
    reading = two_films.reading.value
    assert numbers_after("from -1 to 1):", reading) == pytest.approx(spread * 13 / 17, rel=0.05)
    assert numbers_after("in x_t,", reading) == pytest.approx(spread / 2, rel=0.05)


def test_a_film_alone_has_no_menu():
    explorer = build_film(frames(0.9))
    assert list(explorer.controls) == ["number"]
    assert explorer.reading.value == "t = 4: on the left x_t, on the right the model's estimate of x_0."


def test_reset_goes_back_to_the_first_film(two_films):
    first, reading = sent(two_films), two_films.reading.value
    two_films.controls["name"].value, two_films.controls["number"].value = "off", 0
    two_films.reset()
    assert (sent(two_films) == first).all() and two_films.reading.value == reading


def test_a_picture_stands_behind_two_films(shown):
    film({"on": frames(0.9), "off": frames(0.2)}, start=4, menu="noise")
    assert 'alt="Two grids of 4 pictures.' in shown[0]
    assert "A menu changes between 2 films; here t = 0, noise on." in shown[0] and "in the estimates" in shown[0]


@pytest.mark.parametrize(
    ("films", "problem"),
    [
        ([], "at least one Frame in every film, got none"),
        ({}, "at least one Frame in every film, got none"),
        ({"on": frames(1), "off": []}, "at least one Frame in every film, got none"),
        ({"on": frames(1), "off": frames(1, times=(8, 6, 4, 2, 1))}, "of the same times and .* got 'off' unlike 'on'"),
        ({"on": frames(1), "off": [Frame(f.t, *3 * [f.x_t[:3]]) for f in frames(1)]}, "same shape, got 'off' unlike"),
        ({"on": [Frame(f.t, *3 * [f.x_t[:1]]) for f in frames(1)]}, "at least 2 pictures each"),
    ],
)
def test_films_that_do_not_go_together_are_refused(films, problem):
    with pytest.raises(ValueError, match=f"frames must .*{problem}"):
        build_film(films)


# -- DDIM by hand -------------------------------------------------------------------------------------------------------


class ByLabel:
    """A "network" whose image is known: grey at 0.5 for label 1, at -0.5 for label 0, at 0 without a label."""

    target = "x0"

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        grey = torch.zeros(len(x_t)) if y is None else y - 0.5
        return grey.reshape(-1, 1, 1, 1).expand_as(x_t)


@pytest.mark.parametrize(("y", "greys"), [(None, (0, 0, 0, 0)), (torch.tensor([0, 1, 1, 0]), (-0.5, 0.5, 0.5, -0.5))])
def test_the_labels_reach_the_model(y, greys):
    explorer = build_ddim(ByLabel(), Schedule.linear(T=40, beta_1=0.01, beta_T=0.4), NOISE, steps=5, y=y)
    sheet = sent(explorer)
    side = (sheet.shape[1] - 7 * 2) // 8  # eight columns, with gaps of 2 pixels
    for i, grey in enumerate(greys):
        middle = sheet[side // 2, i * (side + 2) + side // 2, 0]
        assert abs(middle - (grey + 1) * 127.5) <= 1.5


# -- to the noise and back ------------------------------------------------------------------------------------------------

IMAGES = initial_noise(seed=5, batch=3, shape=(1, 8, 8)).clamp(-0.8, 0.8)
TRIPS = {steps: (steps / 100 * NOISE[:3], IMAGES + 2 / steps * NOISE[1:4]) for steps in (5, 10, 100)}


@pytest.fixture
def trip() -> live.Explorer:
    return build_round_trip(IMAGES, TRIPS)


def test_it_begins_with_the_fewest_steps(trip):
    assert trip.values() == {"steps": 5} and trip.reading.value.startswith("5 steps up and 5 down:")
    assert build_round_trip(IMAGES, dict(reversed(TRIPS.items()))).values() == {"steps": 5}


@pytest.mark.parametrize("steps", TRIPS)
def test_its_reading_gives_the_mean_squared_difference(trip, steps):
    trip.controls["steps"].value = steps
    noise, back = (x.numpy().astype(float) for x in TRIPS[steps])
    error = ((back - IMAGES.numpy()) ** 2).mean()
    reading = trip.reading.value
    assert numbers_after("the mean squared difference is", reading) == pytest.approx(error, rel=0.06)
    assert numbers_after("its root", reading) == pytest.approx(math.sqrt(error), rel=0.06)
    assert numbers_after("The noise has variance", reading) == pytest.approx(noise.var(), abs=0.006)


def test_its_four_rows_are_image_noise_return_and_difference(trip):
    trip.controls["steps"].value = 10
    sheet = np.asarray(trip.plot.artists[0].get_array()).astype(float)
    noise, back = (x.numpy() for x in TRIPS[10])
    for row, wanted in enumerate((IMAGES.numpy(), noise, back, back - IMAGES.numpy())):
        for i in range(3):
            there = sheet[10 * row : 10 * row + 8, 10 * i : 10 * i + 8]
            assert np.abs(there - (wanted[i, 0].clip(-1, 1) + 1) * 127.5).max() <= 0.51


def test_every_number_of_steps_has_its_picture(trip):
    pictures = []
    for steps in TRIPS:
        trip.controls["steps"].value = steps
        pictures.append(sent(trip))
    assert all((a != b).any() for a, b in zip(pictures, pictures[1:] + pictures[:1], strict=True))


def test_reset_goes_back_to_the_fewest_steps(trip):
    first, reading = sent(trip), trip.reading.value
    trip.controls["steps"].value = 100
    trip.reset()
    assert (sent(trip) == first).all() and trip.reading.value == reading


def test_a_picture_stands_behind_the_round_trip(shown):
    round_trip(IMAGES, TRIPS)
    assert 'alt="Four rows of 3 pictures: images; the noise that DDIM takes each back to in 5 steps' in shown[0]


def test_a_round_trip_of_one_length_is_refused():
    with pytest.raises(ValueError, match="trips must hold at least 2 numbers of steps, got 1"):
        build_round_trip(IMAGES, {5: TRIPS[5]})


def test_a_round_trip_of_other_pictures_is_refused():
    with pytest.raises(ValueError, match=r"of shape \(3, 1, 8, 8\), got \(3, 1, 8, 8\) and \(2, 1, 8, 8\) for 9 steps"):
        build_round_trip(IMAGES, TRIPS | {9: (IMAGES, IMAGES[:2])})


# -- the whole chain --------------------------------------------------------------------------------------------------------

SCHEDULE = Schedule.linear(T=40, beta_1=0.01, beta_T=0.4)
DIGITS = initial_noise(seed=8, batch=4, shape=(1, 16, 16)).clamp(-1, 1)
PIXELS = DIGITS.numel()


@pytest.fixture
def walked() -> live.Explorer:
    return build_chain(SCHEDULE, DIGITS)


def row(explorer: live.Explorer, number: int) -> np.ndarray:
    """The grey values of the images in one row of the picture, 0..255."""
    sheet = np.asarray(explorer.plot.artists[0].get_array()).astype(float)[18 * number :]
    return np.stack([sheet[:16, 18 * i : 18 * i + 16] for i in range(4)])


def beta_and_left() -> tuple[np.ndarray, np.ndarray]:
    """beta_t, and the products of 1 - beta, for t = 0..40, from the definition of the schedule."""
    beta = np.r_[0, np.linspace(0.01, 0.4, 40)]
    return beta, np.cumprod(1 - beta)


def test_a_walk_takes_single_steps():
    noises = torch.randn(41, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    path = walk(SCHEDULE, noises[0], noises).numpy()
    beta, _ = beta_and_left()
    x = noises[0].numpy()
    for t in range(1, 41):
        x = np.sqrt(1 - beta[t]) * x + np.sqrt(beta[t]) * noises[t].numpy()
        assert np.abs(path[t] - x).max() < 1e-12


def test_it_begins_at_three_tenths_of_the_chain(walked):
    assert walked.values() == {"film": "walked", "t": 12}
    assert build_chain(SCHEDULE, DIGITS, t=3).values() == {"film": "walked", "t": 3}


@pytest.mark.parametrize("t", [1, 7, 40])
def test_its_reading_gives_the_weights(walked, t):
    walked.controls["t"].value = t
    left = beta_and_left()[1][t]
    assert numbers_after("the image enters with weight", walked.reading.value) == pytest.approx(left**0.5, abs=6e-3)
    assert numbers_after("the noise with", walked.reading.value) == pytest.approx((1 - left) ** 0.5, abs=6e-3)


@pytest.mark.parametrize("t", [2, 5, 30])
def test_frames_that_walked_share_their_noise_and_frames_that_jumped_do_not(walked, t):
    """Cov(x_s, x_t | x_0) = sqrt(abar_t / abar_s) (1 - abar_s), (1.8), divided by the two standard deviations."""
    walked.controls["t"].value = t
    beta, left = beta_and_left()
    expected = math.sqrt((1 - beta[t]) * (1 - left[t - 1]) / (1 - left[t]))
    read = numbers_after("have correlation", walked.reading.value)
    assert read == pytest.approx(expected, abs=4 * (1 - expected**2) / math.sqrt(PIXELS) + 0.006)
    walked.controls["film"].value = "jumped"
    assert abs(numbers_after("have correlation", walked.reading.value)) < 4 / math.sqrt(PIXELS)


@pytest.mark.parametrize("made", ["walked", "jumped"])
def test_both_films_have_the_distribution_of_a_single_frame(made):
    """Without an image, x_t is noise of variance 1 - abar_t; 4 standard errors."""
    explorer = build_chain(SCHEDULE, torch.zeros_like(DIGITS), t=4)
    explorer.controls["film"].value = made
    noise = row(explorer, 0) / 127.5 - 1
    assert noise.var() == pytest.approx(1 - beta_and_left()[1][4], rel=4 * math.sqrt(2 / PIXELS))


def test_what_is_left_has_its_weight(walked):
    walked.controls["t"].value = 9
    expected = math.sqrt(beta_and_left()[1][9]) * DIGITS.numpy()[:, 0]
    assert np.abs(row(walked, 1) - (expected + 1) * 127.5).max() <= 0.51


def test_the_first_frames_have_no_noise_to_compare(walked):
    walked.controls["t"].value = 0
    assert "weight 1.00, the noise with 0.00.<br>There is no noise yet." in walked.reading.value
    walked.controls["t"].value = 1
    assert "Here is the first noise." in walked.reading.value


@pytest.mark.parametrize(("name", "value"), [("t", 20), ("film", "jumped")])
def test_every_control_moves_the_chain(walked, name, value):
    before = sent(walked)
    walked.controls[name].value = value
    assert (sent(walked) != before).any()


def test_the_same_frame_is_the_same_picture_again(walked):
    walked.controls["film"].value = "jumped"
    before = sent(walked)
    walked.controls["t"].value = 20
    walked.controls["t"].value = 12
    assert (sent(walked) == before).all()


def test_reset_goes_back_to_the_first_frame(walked):
    first, reading = sent(walked), walked.reading.value
    walked.controls["film"].value, walked.controls["t"].value = "jumped", 40
    walked.reset()
    assert (sent(walked) == first).all() and walked.reading.value == reading


@pytest.mark.parametrize("explorer", ["two_films", "trip", "walked"])
def test_every_control_has_a_name(explorer, request):
    assert all(control.description for control in request.getfixturevalue(explorer).controls.values())


def test_a_picture_stands_behind_the_chain(shown):
    chain(SCHEDULE, DIGITS)
    assert 'alt="Above, 4 images at t = 12, noisy' in shown[0] and "the image enters with weight" in shown[0]


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (2, 2, 28, 28), (9, 1, 28, 28), (0, 1, 28, 28)])
def test_the_chain_takes_a_few_images(shape):
    with pytest.raises(ValueError, match=r"x0 must be 1 to 8 images \(B, C, H, W\) with C = 1 or 3, got shape"):
        build_chain(SCHEDULE, torch.zeros(shape))


@pytest.mark.parametrize("t", [-1, 41])
def test_a_time_beyond_the_chain_is_refused(t):
    with pytest.raises(ValueError, match=rf"t must lie in 0..40, got {t}"):
        build_chain(SCHEDULE, DIGITS, t=t)
