import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from diffnotes.models.vae import VAE, VAETerms, binarize, prior_kl, reparameterize


def small(latent: int = 2, seed: int = 0, width: int = 32) -> VAE:
    """A narrow VAE in float64, its weights large enough for codes and images to differ."""
    torch.manual_seed(seed)
    vae = VAE(latent=latent, width=width).double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(2)
    return vae


def pictures(number: int = 4, seed: int = 0) -> torch.Tensor:
    """Random black-and-white images, float64."""
    g = torch.Generator().manual_seed(seed)
    return binarize(torch.randn(number, 1, 28, 28, generator=g, dtype=torch.float64))


# -- black and white ------------------------------------------------------------------------------------------------


def test_grey_above_the_middle_becomes_ink():
    x = torch.tensor([-1.0, -0.1, 0.0, 0.004, 0.7, 1.0]).reshape(1, 1, 2, 3)
    assert binarize(x).flatten().tolist() == [-1, -1, -1, 1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_black_and_white_keeps_the_type_and_what_is_black_and_white(dtype):
    x = pictures().to(dtype)
    assert binarize(x).dtype == dtype and (binarize(x) == x).all()


# -- the Gaussian encoder's formulas ----------------------------------------------------------------------------------


def test_a_draw_is_the_mean_plus_sigma_times_the_noise():
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[math.log(4), math.log(0.25)]])
    noise = torch.tensor([[[1.0, 1.0]], [[-2.0, 4.0]]])
    assert reparameterize(mean, log_variance, noise).flatten().tolist() == pytest.approx([3, -1.5, -3, 0])


def test_gradients_pass_through_a_draw():
    mean, log_variance = torch.zeros(1, 2).requires_grad_(), torch.zeros(1, 2).requires_grad_()
    noise = torch.tensor([[0.5, -3.0]])
    reparameterize(mean, log_variance, noise).sum().backward()
    assert mean.grad is not None and mean.grad.tolist() == [[1, 1]]
    assert log_variance.grad is not None and log_variance.grad.tolist() == [[0.25, -1.5]]  # sigma' = sigma / 2


def test_the_prior_matching_term_is_the_divergence_of_two_gaussians():
    g = torch.Generator().manual_seed(1)
    mean, log_variance = torch.randn(2, 6, 3, generator=g, dtype=torch.float64)
    zero = torch.zeros(6, 3, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(zero, zero + 1)).sum(1)
    torch.testing.assert_close(prior_kl(mean, log_variance), expected, rtol=1e-13, atol=0)


def test_the_prior_costs_nothing():
    assert prior_kl(torch.zeros(3, 2), torch.zeros(3, 2)).tolist() == [0, 0, 0]


# -- the decoder ------------------------------------------------------------------------------------------------------


def test_the_log_likelihood_is_that_of_independent_bernoulli_pixels():
    vae, x, z = small(), pictures(), torch.randn(4, 2, dtype=torch.float64)
    expected = Bernoulli(logits=vae.logits(z)).log_prob((x + 1) / 2).sum((1, 2, 3))
    torch.testing.assert_close(vae.log_likelihood(x, z), expected, rtol=1e-12, atol=0)


def test_the_probabilities_of_a_pixel_sum_to_one():
    vae, x, z = small(), pictures(1), torch.randn(1, 2, dtype=torch.float64)
    flipped = x.clone()
    flipped[0, 0, 13, 7] *= -1
    both = torch.logaddexp(vae.log_likelihood(x, z), vae.log_likelihood(flipped, z))
    rest = vae.log_likelihood(x, z) - torch.log((1 + x * vae.decode(z)) / 2)[0, 0, 13, 7]
    torch.testing.assert_close(both, rest, rtol=1e-12, atol=0)


def test_an_image_as_unlikely_as_can_be_still_has_a_finite_log_likelihood():
    vae = small(width=16)
    with torch.no_grad():
        vae.decoder[-1].bias.fill_(1000.0)
    assert vae.log_likelihood(-torch.ones(1, 1, 28, 28).double(), torch.zeros(1, 2).double()).item() < -700_000


def test_the_mean_image_is_the_chance_of_ink_minus_that_of_none():
    vae, z = small(), torch.randn(5, 2, dtype=torch.float64)
    ink = torch.sigmoid(vae.logits(z))
    torch.testing.assert_close(vae.decode(z), ink - (1 - ink), rtol=1e-12, atol=1e-15)
    assert vae.decode(z).shape == (5, 1, 28, 28)


def test_different_codes_are_different_images_and_the_other_way_round():
    vae, x = small(), pictures(3)
    mean, log_variance = vae.encode(x)
    assert mean.shape == log_variance.shape == (3, 2)
    assert (mean[0] != mean[1]).any() and (log_variance[0] != log_variance[1]).any()
    images = vae.decode(torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64))
    assert (images[0] - images[1]).abs().max() > 1e-3


def test_the_encoder_gives_the_means_first_and_the_log_variances_after_them():
    vae = small()
    with torch.no_grad():
        vae.encoder[-1].weight.zero_()
        vae.encoder[-1].bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert [rows.tolist() for rows in vae.encode(pictures(1))] == [[[1, 2]], [[3, 4]]]


# -- the bound --------------------------------------------------------------------------------------------------------


def test_the_elbo_is_reconstruction_minus_prior_matching():
    terms = VAETerms(reconstruction=torch.tensor([-100.0, -90.0]), prior_kl=torch.tensor([3.0, 5.0]))
    assert terms.elbo.tolist() == [-103, -95]


def test_the_terms_cannot_be_changed():
    terms = VAETerms(reconstruction=torch.zeros(1), prior_kl=torch.zeros(1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        terms.prior_kl = torch.ones(1)  # type: ignore[misc]


def test_the_reconstruction_is_a_mean_over_the_draws_and_no_sum():
    vae, x = small(), pictures(3)
    noise = torch.randn(4, 3, 2, dtype=torch.float64)
    single = [vae.elbo(x, one[None]).reconstruction for one in noise]
    torch.testing.assert_close(vae.elbo(x, noise).reconstruction, sum(single) / 4, rtol=1e-12, atol=0)
    repeated = vae.elbo(x, noise[:1].expand(7, -1, -1)).reconstruction
    torch.testing.assert_close(repeated, single[0], rtol=1e-12, atol=0)


def test_each_draw_is_of_the_encoders_distribution():
    vae, x, noise = small(), pictures(2), torch.randn(1, 2, 2, dtype=torch.float64)
    mean, log_variance = vae.encode(x)
    terms = vae.elbo(x, noise)
    z = mean + (log_variance / 2).exp() * noise[0]
    torch.testing.assert_close(terms.reconstruction, vae.log_likelihood(x, z), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.prior_kl, prior_kl(mean, log_variance), rtol=1e-12, atol=0)


def test_the_elbo_is_below_the_evidence_by_the_divergence_to_the_posterior():
    """With one latent coordinate every integral is a sum over a line."""
    vae, x = small(latent=1), pictures(1)
    line = torch.linspace(-9, 9, 6001, dtype=torch.float64)
    step = line[1] - line[0]
    with torch.no_grad():
        mean, log_variance = vae.encode(x)
        log_joint = vae.log_likelihood(x.expand(6001, -1, -1, -1), line[:, None]) + Normal(0, 1).log_prob(line)
        log_evidence = torch.logsumexp(log_joint, 0) + step.log()
        log_q = Normal(mean[0, 0], (log_variance / 2).exp()[0, 0]).log_prob(line)
        gap = (log_q.exp() * (log_q - (log_joint - log_evidence))).sum() * step
        noise = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        draws = vae.log_likelihood(x.expand(40_000, -1, -1, -1), reparameterize(mean, log_variance, noise))
    elbo = draws.mean() - prior_kl(mean, log_variance)[0]
    assert abs((elbo + gap - log_evidence).item()) < 5 * draws.std().item() / 200
    assert gap > 0.01


def test_the_gradient_is_that_of_the_bound_with_the_noise_held_fixed():
    vae, x, noise = small(), pictures(3), torch.randn(2, 3, 2, dtype=torch.float64)
    weight = vae.encoder[-1].weight
    vae.elbo(x, noise).elbo.sum().backward()
    assert weight.grad is not None
    for place in ((0, 3), (1, 5), (2, 7), (3, 1)):  # rows 0 and 1 are means, 2 and 3 log variances
        numeric = []
        for side in (1e-6, -1e-6):
            with torch.no_grad():
                weight[place] += side
                numeric.append(vae.elbo(x, noise).elbo.sum().item())
                weight[place] -= side
        assert weight.grad[place].item() == pytest.approx((numeric[0] - numeric[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_climbing_it_raises_it():
    torch.manual_seed(0)
    vae, x = VAE(width=32), pictures(16).float()
    g = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    values = []
    for _ in range(60):
        elbo = vae.elbo(x, torch.randn(1, 16, 2, generator=g)).elbo.mean()
        optimizer.zero_grad()
        (-elbo).backward()
        optimizer.step()
        values.append(elbo.item())
    assert np.mean(values[-5:]) > np.mean(values[:5]) + 20


@pytest.mark.parametrize("latent", [1, 3, 10])
def test_it_has_as_many_coordinates_as_asked_for(latent):
    vae = VAE(latent=latent, width=8)
    assert vae.encode(pictures(2).float())[1].shape == (2, latent)
    assert vae.decode(torch.zeros(3, latent)).shape == (3, 1, 28, 28)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_vae_without_a_latent_coordinate_is_refused():
    with pytest.raises(ValueError, match=r"^latent must be at least 1, got 0$"):
        VAE(latent=0)


def test_a_vae_without_width_is_refused():
    with pytest.raises(ValueError, match=r"^width must be at least 2, got 1$"):
        VAE(width=1)
    assert VAE(width=2).encode(pictures(1).float())[0].shape == (1, 2)


@pytest.mark.parametrize("call", ["encode", "log_likelihood", "elbo"])
def test_grey_images_are_refused(call):
    vae, x = VAE(width=8), torch.full((1, 1, 28, 28), 0.25)
    rest = {"encode": (), "log_likelihood": (torch.zeros(1, 2),), "elbo": (torch.zeros(1, 1, 2),)}[call]
    with pytest.raises(ValueError, match=r"^x must be black and white, .* got a pixel of 0\.25; use binarize\(x\)$"):
        getattr(vae, call)(x, *rest)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"^x must have shape \(B, 1, 28, 28\), got \(2, 1, 8, 8\)$"):
        VAE(width=8).encode(torch.ones(2, 1, 8, 8))


def test_codes_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"^z must have shape \(B, 2\), got \(4, 3\)$"):
        VAE(width=8).decode(torch.zeros(4, 3))


@pytest.mark.parametrize("shape", [(3, 2), (1, 4, 2), (1, 3, 5)])
def test_noise_that_does_not_fit_is_refused(as_installed, shape):
    came = ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=rf"^eps must have shape \(L, 3, 2\), got \({came}\)$"):
        VAE(width=8).elbo(pictures(3).float(), torch.zeros(shape))


def test_no_draws_at_all_are_refused():
    with pytest.raises(ValueError, match=r"^eps must hold one or more draws for each image, got none$"):
        VAE(width=8).elbo(pictures(3).float(), torch.zeros(0, 3, 2))


def test_settings_build_the_same_model_again():
    vae = VAE(latent=np.int64(3), width=np.int64(8))
    again = VAE(**json.loads(json.dumps(vae.settings)))
    again.load_state_dict(vae.state_dict())
    assert torch.equal(again.encode(pictures(2).float())[0], vae.encode(pictures(2).float())[0])


def test_nan_does_not_become_black():
    with pytest.raises(ValueError, match=r"^x must hold numbers, found NaN$"):
        binarize(torch.full((1, 1, 2, 2), torch.nan))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: VAE(latent=2.5), r"^latent must be an integer, got 2\.5$"),
        (lambda: VAE(width="8"), r"^width must be an integer, got '8'$"),
        (
            lambda: VAE(width=8).encode(pictures(1)),
            r"^x must have the dtype of the network's weights, torch\.float32, got torch\.float64$",
        ),
        (lambda: VAE(width=8).decode([[0.0, 0.0]]), r"^z must be a floating-point tensor of shape \(B, 2\), got list$"),
        (
            lambda: VAE(width=8).log_likelihood(pictures(2).float(), torch.zeros(3, 2)),
            r"^z must have shape \(2, 2\), got \(3, 2\)$",
        ),
        (
            lambda: prior_kl(torch.zeros(2, 3), torch.zeros(2, 1)),
            r"^log_variance must have shape \(2, 3\), got \(2, 1\)$",
        ),
        (
            lambda: reparameterize(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(5, 4, 2)),
            r"^mean must have shape \(1 or 4, 2\), got \(3, 2\)$",
        ),
        (
            lambda: binarize(torch.zeros(1, 1, 2, 2).byte()),
            r"^x must be a floating-point tensor of .* got dtype torch\.uint8$",
        ),
    ],
)
def test_arguments_that_are_none_are_refused_by_name(as_installed, call, expected):
    with pytest.raises(ValueError, match=expected):
        call()
