"""The water level and the codebook in the plane (chapter 17): what is drawn, what is read out, what is refused."""

import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes.book.explorers import build_codebook, build_water
from diffnotes.book.explorers.codebook import CODES, MOST, nearest, path, points
from diffnotes.book.explorers.water import components
from diffnotes.book.live import widgets as live
from diffnotes.book.proof.water import water_level
from diffnotes.training.data import load_images


def read(explorer: live.Explorer, pattern: str) -> float:
    return float(re.search(pattern, explorer.reading.value)[1])


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return load_images("digits", "train", size=28).x[:300]


def test_the_water_level_is_the_minimum_of_the_bargain():
    """Against a minimisation over encoder and decoder of one coordinate, on both sides of the level."""
    from scipy.optimize import minimize

    for variance, theta in ((3.0, 0.5), (0.8, 0.5), (0.3, 0.5)):

        def cost(p, variance=variance, theta=theta):
            v, s2, w = p[0], np.exp(p[1]), p[2]
            squared = variance * (1 - w * v) ** 2 + w**2 * s2
            return squared / theta + v**2 * variance + s2 - 1 - p[1]

        best = min((minimize(cost, [a, -0.5, a]) for a in (0.1, 1.0)), key=lambda found: found.fun).x
        v, s2, w = best[0], np.exp(best[1]), best[2]
        gain, rate, error = water_level(np.array([variance]), theta)
        assert (v**2 * variance + s2 - 1 - best[1]) / 2 == pytest.approx(rate[0], abs=1e-4)
        assert variance * (1 - w * v) ** 2 + w**2 * s2 == pytest.approx(error[0], abs=1e-3)
        assert w * v == pytest.approx(gain[0], abs=1e-3)


def test_the_components_are_those_of_scikit_learn(x):
    from sklearn.decomposition import PCA

    mean, spectrum, basis = components(x)
    theirs = PCA(10).fit(x.flatten(1).double().numpy())
    np.testing.assert_allclose(spectrum[:10] * 300 / 299, theirs.explained_variance_, rtol=1e-6)
    assert np.abs((basis[:, :10] * theirs.components_.T).sum(0)) == pytest.approx(np.ones(10), abs=1e-5)
    np.testing.assert_allclose(mean, theirs.mean_, atol=1e-12)


def test_raising_the_level_drowns_more_and_costs_less(x):
    explorer = build_water(x, x[0])
    first, rates, alive = sent(explorer), [], []
    for theta in (0.05, 0.5, 5.0, 50.0):
        explorer.controls["theta"].value = theta
        rates.append(read(explorer, r"Rate ([\d.]+) nats"))
        alive.append(read(explorer, r": (\d+) of 784"))
    assert sorted(rates, reverse=True) == rates and sorted(alive, reverse=True) == alive and alive[-1] == rates[-1] == 0
    mean = x.mean(0)[0].numpy()
    shown = explorer.plot.artists[5].get_array()
    np.testing.assert_allclose(shown, explorer.plot.artists[6].get_array())  # both are the mean
    assert np.abs(np.corrcoef(np.ravel(shown), mean.ravel())[0, 1]) > 0.999
    explorer.controls["theta"].value = 0.5
    before = sent(explorer)
    explorer.controls["draw"].value = 4
    assert (sent(explorer) != before).any()
    explorer.reset()
    assert (sent(explorer) == first).all()


def test_k_means_never_raises_the_distance_and_restarts_wake_codes():
    def distance(codes):
        return ((points() - codes[nearest(codes)]) ** 2).sum(1).mean()

    for start in ("far", "points"):
        walked = [distance(codes) for codes in path(0.0, start, "off")]
        assert all(b <= a + 1e-12 for a, b in zip(walked, walked[1:], strict=False))
    used = {dead: len(set(nearest(path(0.5, "far", dead)[MOST]).tolist())) for dead in ("off", "on")}
    assert used["off"] < CODES / 2 and used["on"] == CODES
    assert distance(path(0.5, "far", "on")[MOST]) < distance(path(0.5, "far", "off")[MOST]) / 2


def test_gamma_zero_is_k_means_of_scikit_learn():
    from sklearn.cluster import KMeans

    walked = path(0.0, "points", "off")
    theirs = KMeans(CODES, init=walked[0], n_init=1, max_iter=1, algorithm="lloyd").fit(points())
    np.testing.assert_allclose(walked[1], theirs.cluster_centers_, atol=1e-9)


def test_the_codebook_reads_out_what_is_drawn():
    explorer = build_codebook()
    first = sent(explorer)
    for step, dead in ((7, "off"), (20, "on")):
        explorer.controls["step"].value, explorer.controls["dead"].value = step, dead
        k = nearest(path(0.5, "far", dead)[step])
        assert read(explorer, r"; (\d+) of 16") == len(set(k.tolist()))
        drawn = [len(explorer.plot.artists[i].get_xdata()) for i in (1, 2)]
        assert drawn[0] == len(set(k.tolist())) and sum(drawn) == CODES
    explorer.reset()
    assert (sent(explorer) == first).all()


def test_what_is_refused(x):
    with pytest.raises(ValueError, match=r"^theta must lie in .*, got 100"):
        build_water(x, x[0], theta=100.0)
    with pytest.raises(ValueError, match=r"^start must be one of 'far', 'points', got 'near'$"):
        build_codebook(start="near")
    with pytest.raises(ValueError, match=r"^step must lie in 0\.\.30, got 31$"):
        build_codebook(step=31)
