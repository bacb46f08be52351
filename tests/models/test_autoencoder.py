"""The autoencoder of latent diffusion: against diffusers' Gaussian, and the VAE's formulas for maps."""

import pytest
import torch

from diffnotes.models.autoencoder import Autoencoder
from diffnotes.models.vae import prior_kl, reparameterize


@pytest.fixture
def coder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(latent_channels=2, width=8).eval()


def test_rate_and_draws_are_those_of_diffusers(coder, generator):
    """Its DiagonalGaussianDistribution has the same mean and log variance, one beside the other."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    x = torch.randn(3, 1, 28, 28, generator=generator).clamp(-1, 1)
    mean, log_variance = coder.encode(x)
    theirs = DiagonalGaussianDistribution(torch.cat([mean, log_variance], 1))
    torch.testing.assert_close(prior_kl(mean, log_variance), theirs.kl())
    eps = torch.randn(3, 2, 7, 7, generator=generator)
    torch.testing.assert_close(reparameterize(mean, log_variance, eps), theirs.mean + theirs.std * eps)
    terms = coder.terms(x, eps)
    torch.testing.assert_close(terms.rate, theirs.kl())
    decoded = coder.decode(theirs.mean + theirs.std * eps)
    torch.testing.assert_close(terms.squared_error, ((x - decoded) ** 2).sum((1, 2, 3)))


def test_shapes_and_settings(coder, generator):
    x = torch.randn(2, 1, 12, 20, generator=generator)
    assert coder.code_shape(x) == (2, 3, 5) and coder.encode(x)[0].shape == (2, 2, 3, 5)
    decoded = coder.decode(torch.randn(2, 2, 3, 5, generator=generator))
    assert decoded.shape == (2, 1, 12, 20) and decoded.abs().max() <= 1
    again = Autoencoder(**coder.settings)
    again.load_state_dict(coder.state_dict())
    assert torch.equal(again.eval().encode(x)[0], coder.encode(x)[0])


def test_several_draws_of_a_map(generator):
    mean, log_variance = torch.randn(2, 3, 2, 4, 4, generator=generator)
    eps = torch.randn(5, 3, 2, 4, 4, generator=generator)
    z = reparameterize(mean, log_variance, eps)
    torch.testing.assert_close(z[4, 2, 1], mean[2, 1] + (log_variance[2, 1] / 2).exp() * eps[4, 2, 1])


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused(coder):
    maps = torch.zeros(3, 2, 7, 7)
    for make, words in (
        (lambda: Autoencoder(latent_channels=0), "latent_channels must be at least 1, got 0"),
        (lambda: Autoencoder(width=1.5), "width must be an integer, got 1.5"),
        (
            lambda: coder.encode(torch.zeros(1, 1, 30, 28)),
            r"x must have height and width divisible by 4, got \(30, 28\)",
        ),
        (lambda: coder.decode(torch.zeros(1, 3, 7, 7)), r"z must have shape \(B, 2, H, W\), got \(1, 3, 7, 7\)"),
        (
            lambda: coder.terms(torch.zeros(1, 1, 28, 28), maps),
            r"eps must have shape \(1, 2, 7, 7\), got \(3, 2, 7, 7\)",
        ),
        (lambda: prior_kl(maps, maps[:1]), r"log_variance must have shape \(3, 2, 7, 7\), got \(1, 2, 7, 7\)"),
        (lambda: reparameterize(maps, maps, maps[0]), r"eps must have shape \(..., B, C, H, W\), got \(2, 7, 7\)"),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            make()
