"""Shift and scale of codes, the schedule that a scale stands for, principal components of embeddings."""

import math

import numpy as np
import pytest
import torch

from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.latent import Latents, Projection, rescaled
from diffnotes.process.samplers import ddim_sample
from diffnotes.process.schedules import Schedule


def test_draws_have_mean_0_and_variance_1_and_come_back(generator):
    mean = 3 * torch.randn(400, 2, 5, 5, generator=generator) + torch.tensor([1.0, -4.0])[:, None, None]
    deviation = torch.rand(400, 2, 5, 5, generator=generator)
    latents = Latents.measure(mean, deviation)
    z = mean + deviation * torch.randn(mean.shape, generator=generator)
    away = latents.into(z)
    assert away.mean((0, 2, 3)).abs().max() < 0.02 and away.square().mean() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(latents.back(away), z, rtol=1e-5, atol=1e-5)
    assert Latents.measure(mean).scale < latents.scale  # the means alone have less
    assert Latents.measure(mean).scale == pytest.approx(
        (mean - mean.mean((0, 2, 3), keepdim=True)).std(correction=0).item(), 1e-5
    )


def test_a_scale_is_another_schedule(generator):
    """Data of deviation s through a schedule, and divided by the deviation of z_t: data of deviation 1 through the other one."""
    schedule, s = Schedule.cosine(T=50), 0.3
    other = rescaled(schedule, s)
    np.testing.assert_allclose(other.snr[1:], schedule.snr[1:] * s**2, rtol=1e-9)
    z_T = torch.randn(2000, 1, generator=generator, dtype=torch.float64)
    *_, last = ddim_sample(GaussianDenoiser(schedule, variance=s**2), schedule, z_T, steps=50)
    start = z_T / math.sqrt(schedule.alpha_bar[-1] * s**2 + 1 - schedule.alpha_bar[-1])
    *_, same = ddim_sample(GaussianDenoiser(other), other, start, steps=50)
    torch.testing.assert_close(last.x_t / s, same.x_t)
    torch.testing.assert_close(rescaled(schedule, 1.0).alpha_bar, schedule.alpha_bar)


def test_the_projection_is_that_of_scikit_learn(generator):
    from sklearn.decomposition import PCA

    e = torch.randn(300, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 2
    ours, theirs = Projection.measure(e, 3), PCA(3).fit(e.double().numpy())
    z = ours.into(e)
    np.testing.assert_allclose(
        np.abs((z * ours.scale).numpy()), np.abs(theirs.transform(e.double().numpy())), rtol=1e-3, atol=1e-3
    )
    assert z.square().mean() == pytest.approx(1, abs=1e-4) and z.mean(0).abs().max() < 1e-4
    back = theirs.inverse_transform(theirs.transform(e.double().numpy()))
    np.testing.assert_allclose(ours.back(z).numpy(), back, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused():
    for make, words in (
        (lambda: Latents((), 1.0), r"shift must be a number for each channel, got \(\)"),
        (lambda: Latents((0.0,), 0), "scale must be a positive number, got 0"),
        (lambda: Latents((math.nan,)), "shift must hold finite numbers, got nan"),
        (
            lambda: Latents((0.0, 0.0)).into(torch.zeros(3, 1, 2, 2)),
            r"z must have 2 channels, .* got shape \(3, 1, 2, 2\)",
        ),
        (lambda: Latents.measure(torch.zeros(1, 2, 3, 3)), r"mean must hold codes .* of two or more images"),
        (lambda: Latents.measure(torch.zeros(4, 2), torch.zeros(4, 3)), "mean and deviation must have the same shape"),
        (lambda: rescaled(Schedule.cosine(10), -1), "scale must lie between 1/1000 and 1000, got -1"),
        (
            lambda: Projection.measure(torch.zeros(5, 3), 4),
            "keep must be an integer from 1 to the numbers of an embedding, 3, got 4",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            make()
