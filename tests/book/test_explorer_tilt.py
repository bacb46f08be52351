"""Tilted, noised, drawn (chapter 9): two densities from their definitions, samples from the package's guided sampler."""

import re

import numpy as np
import pytest
import torch
from pixels import sent
from scipy.integrate import quad
from scipy.stats import norm

from diffnotes.book.explorers import build_tilt, tilt
from diffnotes.book.explorers.tilt import (
    BORDER,
    CENTRES,
    LINE,
    SCHEDULE,
    SD,
    STARTS,
    STEPS,
    WEIGHTS,
    clusters,
    noised_tilt,
    samples,
    shares_below,
    tilted,
)
from diffnotes.book.live import widgets as live
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.samplers import ddim_sample

BARS, FOLLOWED, AHEAD = slice(0, 2), slice(2, 4), slice(4, 6)  # of the artists: left and right panel


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_tilt()


def by_hand(x: float, s: float, t: int) -> float:
    """q(x_t) q(y|x_t)^s, not normalised."""
    bar = SCHEDULE.alpha_bar[t].item()
    parts = [
        w * norm.pdf(x, bar**0.5 * c, (bar * SD**2 + 1 - bar) ** 0.5) for w, c in zip(WEIGHTS, CENTRES, strict=True)
    ]
    q = sum(parts)
    return q * ((parts[1] + parts[2]) / q) ** s if q > 0 else 0.0


def integral(f) -> float:
    return quad(f, -4.5, 4.5, points=[-0.4, 0.3, 1.5], limit=200)[0]


# -- the densities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("s", "t"), [(0.0, 300), (0.5, 0), (1.0, 500), (3.0, 0), (3.0, 300), (7.0, 200)])
def test_both_sides_are_those_of_the_equation(s, t):
    Z = integral(lambda x: by_hand(x, s, t))
    Z_0 = integral(lambda x: by_hand(x, s, 0))
    bar = SCHEDULE.alpha_bar[t].item()
    for x in (-0.5, 0.2, 0.9, 1.6):
        at = int(np.abs(LINE - x).argmin())
        assert tilted(s, t)[at] == pytest.approx(by_hand(x, s, t) / Z, rel=1e-3)
        if t:
            left = integral(lambda x_0: by_hand(x_0, s, 0) / Z_0 * norm.pdf(x, bar**0.5 * x_0, (1 - bar) ** 0.5))  # noqa: B023
            assert noised_tilt(s, t)[at] == pytest.approx(left, rel=1e-3)


def test_they_agree_without_guidance_and_with_bayes_rule_and_nowhere_else():
    for t in (200, 500, 1000):
        apart = {s: np.abs(tilted(s, t) - noised_tilt(s, t)).max() for s in (0.0, 0.5, 1.0, 3.0)}
        assert apart[0.0] < 2e-3 and apart[1.0] < 2e-3
        assert t == 1000 or (apart[0.5] > 0.02 and apart[3.0] > 0.1)
    assert (noised_tilt(3.0, 0) == tilted(3.0, 0)).all()


# -- the samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("s", [0.0, 1.0, 2.5, 7.0])
def test_they_are_what_the_guided_sampler_draws(s):
    share = (torch.arange(STARTS) + 0.5) / STARTS
    starts = torch.from_numpy(norm.ppf(share.double().numpy()))[::100, None]
    guided, y = ClassifierFreeGuidance(clusters(), s), torch.ones(len(starts), dtype=torch.long)
    for frame in ddim_sample(guided, SCHEDULE, starts, steps=STEPS, y=y):
        assert samples(s, frame.t)[::100] == pytest.approx(frame.x_t[:, 0].numpy(), abs=1e-4)


def test_they_follow_the_density_at_0_and_1_and_leave_it_beyond():
    for s in (0.0, 1.0):
        below, share = shares_below(s)
        assert below == pytest.approx(share, abs=0.01)
    below, share = shares_below(3.0)
    assert below < 0.05 and share > 0.45
    assert samples(7.0, 0).mean() == pytest.approx(1.84, abs=0.02)


# -- the picture and its reading ----------------------------------------------------------------------------------------


def test_the_picture_shows_what_the_sliders_say(explorer):
    for s, t in ((3.0, 300), (0.5, 600), (7.0, 200)):
        explorer.controls["s"].value, explorer.controls["t"].value = s, t
        for i, time in enumerate((t, 0)):
            bars = explorer.plot.artists[BARS][i]
            values, edges, _ = bars.get_data()
            assert np.sum(values * np.diff(edges)) == pytest.approx(1, abs=0.02)  # all but a few are inside
            middle = (values * np.diff(edges)) @ ((edges[1:] + edges[:-1]) / 2)
            assert middle == pytest.approx(samples(s, time).mean(), abs=0.06)
            x, height = explorer.plot.artists[FOLLOWED][i].get_data()
            assert (height == tilted(s, time)[np.isin(LINE, x)]).all()
            x, height = explorer.plot.artists[AHEAD][i].get_data()
            assert (height == noised_tilt(s, time)[np.isin(LINE, x)]).all()


def test_everything_stays_inside_the_axes(explorer):
    for s in np.arange(0, 7.1, 0.5):
        for t in (200, 300, 500, 800):
            explorer.controls["s"].value, explorer.controls["t"].value = s, t
            for i in (0, 1):
                top = explorer.plot.artists[BARS][i].axes.get_ylim()[1]
                lines = [explorer.plot.artists[part][i].get_ydata().max() for part in (FOLLOWED, AHEAD)]
                assert max(explorer.plot.artists[BARS][i].get_data()[0].max(), *lines) < top


def test_the_reading_gives_moments_and_the_shares_of_the_inner_cluster(explorer):
    explorer.controls["s"].value, explorer.controls["t"].value = 2.0, 400
    text = re.sub("<br>", " ", explorer.reading.value)
    drawn, density = samples(2.0, 400), tilted(2.0, 400) / tilted(2.0, 400).sum()
    mean = density @ LINE
    assert text.startswith("s = 2.00, t = 400: ")
    assert f"{mean:.2f} and {(density @ (LINE - mean) ** 2) ** 0.5:.2f} for the density whose score is followed" in text
    assert f"{drawn.mean():.2f} and {drawn.std():.2f} for the samples" in text
    below, share = shares_below(2.0)
    assert f"{100 * below:.0f} % of the samples are below {BORDER}" in text and text.endswith(f"{100 * share:.0f} %.")


def test_reset_brings_the_first_picture_back(explorer):
    first, words = sent(explorer), explorer.reading.value
    explorer.controls["s"].value = 6.0
    assert (sent(explorer) != first).any() and explorer.reading.value != words
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == words


def test_the_static_picture_has_its_words_and_its_numbers(monkeypatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "show_widget", lambda widget, fallback: shown.append(fallback))
    tilt(s=5.0, t=500)
    below, share = shares_below(5.0)
    assert "s = 5" in shown[0] and "t = 500" in shown[0]
    assert f"{100 * below:.0f} per cent of the samples and {100 * share:.0f} of the distribution" in shown[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"s": 7.5}, r"s must lie in 0\.\.7, got 7\.5"),
        ({"t": 100}, r"t must lie in 200\.\.1000, got 100"),
        ({"s": 0.3}, r"s must be a multiple of 0\.25, got 0\.3"),
        ({"t": 305}, "t must be a multiple of 10, got 305"),
    ],
)
def test_what_the_sliders_cannot_show_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        build_tilt(**given)
