"""The scale of latents, and the same noise in code and pixels (chapter 18): what is drawn, what is read out, what is refused."""

import math
import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes import Schedule, ddim_sample, load_images
from diffnotes.book.explorers import build_scale, build_two_noises
from diffnotes.book.explorers.scale import POINTS, UNIT, density, draws, quantiles, spread
from diffnotes.book.explorers.two_noises import board
from diffnotes.book.live import widgets as live
from diffnotes.process.exact import MixtureDenoiser
from diffnotes.process.latent import rescaled
from diffnotes.training.pretrained import load_latent


def read(explorer: live.Explorer, pattern: str) -> float:
    return float(re.search(pattern, explorer.reading.value)[1])


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return load_images("digits", "train", size=28).x[:5]


def test_the_data_have_variance_1_and_the_densities_are_densities():
    assert sum(w * m**2 for w, m in zip(UNIT.weights, UNIT.means, strict=True)) + UNIT.sd**2 == pytest.approx(1)
    grid = np.linspace(-8, 8, 4001)
    assert np.trapezoid(density(grid, 0.3), grid) == pytest.approx(1)
    columns = spread(grid, np.array([0.9, 0.1]))
    np.testing.assert_allclose(np.trapezoid(columns, grid, axis=0), 1, rtol=1e-9)
    np.testing.assert_allclose(np.trapezoid(columns * grid[:, None] ** 2, grid, axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.18, 1.0, 5.5])
def test_what_is_drawn_is_what_the_package_draws_with_an_exact_denoiser(sigma: float):
    schedule = Schedule.cosine(T=1000)
    means = sigma * torch.tensor(UNIT.means, dtype=torch.float64)[:, None]
    start = torch.from_numpy(quantiles()[::40, None])
    *_, last = ddim_sample(MixtureDenoiser(schedule, means, sigma**2 * UNIT.sd**2), schedule, start, steps=20)
    np.testing.assert_allclose(draws(sigma, "cosine")[::40], last.x_t[:, 0].numpy(), rtol=1e-6, atol=1e-9)
    assert len(quantiles()) == POINTS


def test_the_scale_is_read_out_as_a_shift():
    explorer = build_scale()
    first = sent(explorer)
    for sigma, schedule in ((0.18, "cosine"), (30.0, "linear")):
        explorer.controls["sigma"].value, explorer.controls["schedule"].value = sigma, schedule
        assert read(explorer, r"shifted by ([+-][\d.]+),") == pytest.approx(2 * math.log(sigma), abs=0.01)
        table = Schedule.cosine(T=1000) if schedule == "cosine" else Schedule.linear(T=1000)
        snr = rescaled(table, sigma).snr[1:].numpy()
        share = ((snr > 0.05) & (snr < 20)).mean()
        assert read(explorer, r"powers of ten; (\d+)% of the times") == pytest.approx(100 * share, abs=0.51)
        assert read(explorer, r"draw has ([\d.]+)") == pytest.approx(draws(sigma, schedule).std() / sigma, abs=0.006)
        line = explorer.plot.artists[1].get_ydata()
        np.testing.assert_allclose(line, np.log10(snr), rtol=1e-6, atol=1e-6)
    assert (sent(explorer) != first).any()
    explorer.reset()
    assert (sent(explorer) == first).all()


def test_the_same_noise_in_code_and_pixels(x: torch.Tensor):
    explorer = build_two_noises(x, t=0)
    autoencoder, _, _, schedule = load_latent()
    decoded, noisy = (explorer.plot.artists[i].get_array() for i in (3, 4))
    np.testing.assert_allclose(noisy, x[0, 0].numpy())  # no noise at t = 0
    expected = autoencoder.decode(autoencoder.encode(x[:1])[0])[0, 0]
    np.testing.assert_allclose(decoded, expected.numpy(), atol=1e-4)
    first = sent(explorer)
    explorer.controls["t"].value, explorer.controls["image"].value = 500, 3
    abar = float(schedule.alpha_bar[500])
    assert read(explorer, r"signal ([\d.]+)") == pytest.approx(abar**0.5, abs=0.006)
    error = np.square(explorer.plot.artists[4].get_array() - x[3, 0].numpy()).mean()
    assert read(explorer, r"code, ([\d.]+) in the noisy pixels") == pytest.approx(error, abs=0.001)
    assert np.abs(explorer.plot.artists[3].get_array()).max() <= 1
    before = sent(explorer)
    explorer.controls["draw"].value = 4
    assert (sent(explorer) != before).any()
    explorer.reset()
    assert (sent(explorer) == first).all()


def test_the_four_channels_lie_two_by_two():
    picture = board(torch.arange(4.0)[:, None, None].expand(4, 7, 7) + 1)
    assert picture.shape == (16, 16) and picture[0, 0] == 1 and picture[0, 8] == 2 and picture[8, 0] == 3
    assert picture[14, 14] == 4 and picture[7].abs().sum() == 0 and picture[:, 15].abs().sum() == 0


def test_what_is_refused(x: torch.Tensor):
    with pytest.raises(ValueError, match=r"^sigma must lie in .*, got 0\.001"):
        build_scale(0.001)
    with pytest.raises(ValueError, match=r"^schedule must be one of 'cosine', 'linear', got 'sigmoid'$"):
        build_scale(1.0, "sigmoid")
    with pytest.raises(ValueError, match=r"^t must lie in 0\.\.1000, got 1001$"):
        build_two_noises(x, t=1001)
    with pytest.raises(ValueError, match=r"^image must lie in 0\.\.4, got 5$"):
        build_two_noises(x, image=5)
