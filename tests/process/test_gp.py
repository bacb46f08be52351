"""Gaussian processes against scikit-learn, and a mixture of them against simulation."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared

from diffnotes.process import gp

PLACE = torch.arange(30)
SEEN = (PLACE < 12) | (PLACE >= 22)


def test_kernel_and_posterior_against_scikit_learn():
    kernel = ExpSineSquared(length_scale=1.0, periodicity=12) * RBF(24.0)
    X = PLACE[:, None].numpy().astype(float)
    noise = 0.03
    K = gp.periodic_kernel(30, 12, noise=noise)
    np.testing.assert_allclose(K, (1 - noise) * kernel(X) + noise * np.eye(30), atol=1e-12)
    x = torch.from_numpy(np.random.default_rng(0).multivariate_normal(np.zeros(30), K.numpy()))
    mean, covariance = gp.gp_posterior(K, SEEN, x)
    theirs = GaussianProcessRegressor(0.97 * kernel, alpha=noise, optimizer=None).fit(X[SEEN], x[SEEN])
    at, spread = theirs.predict(X[~SEEN], return_cov=True)
    np.testing.assert_allclose(mean, at, atol=1e-7)
    np.testing.assert_allclose(covariance, spread + noise * np.eye(10), atol=1e-7)


def test_the_weights_of_the_periods_are_calibrated():
    """Of windows with posterior probability p for the first kernel, a share p comes from it."""
    kernels = torch.stack([gp.periodic_kernel(30, p, noise=0.05) for p in (12, 20)])
    first = gp.MixtureOfGPs(kernels[:1], torch.ones(1)).draw(400, torch.Generator().manual_seed(0))
    second = gp.MixtureOfGPs(kernels[1:], torch.ones(1)).draw(400, torch.Generator().manual_seed(1))
    both, seen = gp.MixtureOfGPs(kernels, torch.tensor([0.5, 0.5])), PLACE < 7
    p = torch.tensor([float(both.posterior_weights(seen, x)[0]) for x in torch.cat([first, second])])
    truth = torch.arange(800) < 400
    assert float(p.mean()) == pytest.approx(0.5, abs=0.05)
    doubtful = (p > 0.2) & (p < 0.8)
    assert doubtful.sum() > 100
    assert float(truth[doubtful].float().mean()) == pytest.approx(float(p[doubtful].mean()), abs=0.12)


def test_the_weights_of_the_kernels_follow_bayes_rule_from_unequal_ones():
    kernels, prior = torch.stack([gp.periodic_kernel(30, p, noise=0.05) for p in (12, 20)]), [0.9, 0.1]
    process = gp.MixtureOfGPs(kernels, torch.tensor(prior))
    x = process.draw(1, torch.Generator().manual_seed(4))[0]
    for seen in (PLACE < 5, PLACE < 0):
        joint = np.array(prior)
        if seen.any():
            joint *= [multivariate_normal(cov=K[seen][:, seen].numpy()).pdf(x[seen].numpy()) for K in kernels]
        np.testing.assert_allclose(process.posterior_weights(seen, x), joint / joint.sum(), atol=1e-7)


def test_posterior_draws_keep_what_is_seen_and_have_the_right_moments():
    process = gp.MixtureOfGPs(torch.stack([gp.periodic_kernel(30, 12, noise=0.05)] * 2), torch.tensor([0.3, 0.7]))
    x = process.draw(1, torch.Generator().manual_seed(2))[0]
    draws = process.posterior_draws(SEEN, x, 4000, torch.Generator().manual_seed(3))
    mean, covariance = gp.gp_posterior(process.kernels[0], SEEN, x)
    assert torch.equal(draws[:, SEEN], x[SEEN].expand(4000, -1))
    np.testing.assert_allclose(draws[:, ~SEEN].mean(0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(draws[:, ~SEEN].T.numpy()), covariance, atol=0.06)


def test_what_is_refused():
    K, x = gp.periodic_kernel(4, 2), torch.zeros(4)
    with pytest.raises(ValueError, match=r"^period must be a positive number, got 0$"):
        gp.periodic_kernel(4, 0)
    with pytest.raises(ValueError, match=r"^noise must lie in \[0, 1\], got 2$"):
        gp.periodic_kernel(4, 2, noise=2)
    with pytest.raises(ValueError, match=r"^seen must hold one entry for each of the 4 positions, got \(3,\)$"):
        gp.gp_posterior(K, torch.ones(3, dtype=torch.bool), x)
    with pytest.raises(ValueError, match=r"^weights must hold 1 probabilities"):
        gp.MixtureOfGPs(K[None], torch.tensor([0.5, 0.5]))
