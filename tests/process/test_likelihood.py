"""Bits per dimension against models whose bits are known."""

import math

import pytest
import torch
from torch.distributions import Normal

from diffnotes.process.likelihood import GREY_STEP, bits_per_dim, dequantise


def test_a_uniform_density_pays_the_logarithm_of_the_number_of_grey_values():
    log_density = torch.full((3,), -784 * math.log(256 * GREY_STEP), dtype=torch.float64)  # uniform on 256 bins
    assert bits_per_dim(log_density, 784).sub(8).abs().max() < 1e-12
    assert bits_per_dim(torch.full((2,), -784 * math.log(256.0)), 784, bin_width=None).sub(8).abs().max() < 1e-6


def test_bits_do_not_depend_on_the_units_of_the_density():
    x = torch.randn(5, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit, grey = Normal(0.0, 1.0), Normal(0.0, 127.5)  # the same model, of x in [-1, 1] and of 127.5 x
    ours = bits_per_dim(unit.log_prob(x).sum(1), 10)
    theirs = bits_per_dim(grey.log_prob(127.5 * x).sum(1), 10, bin_width=1.0)
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_dequantised_values_stay_in_their_bins_and_fill_them():
    values = (torch.randint(0, 256, (2000, 8), generator=torch.Generator().manual_seed(1)).double()) / 127.5 - 1
    noisy = dequantise(values, generator=torch.Generator().manual_seed(2))
    assert torch.equal(((noisy + 1) * 127.5).round(), ((values + 1) * 127.5).round())
    u = (noisy - values) / GREY_STEP
    assert abs(float(u.mean())) < 4 * (1 / 12 / u.numel()) ** 0.5
    assert abs(float(u.var()) - 1 / 12) < 0.002


def test_dequantisation_bounds_the_bits_of_the_grey_values_from_above():
    density = Normal(0.1, 0.01)  # so narrow that its bins are not flat
    grid = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    p = density.cdf(grid + GREY_STEP / 2) - density.cdf(grid - GREY_STEP / 2)
    exact = float(-(p * p.clamp(min=1e-300).log2()).sum())
    values = grid[torch.multinomial(p, 200_000, replacement=True, generator=torch.Generator().manual_seed(3))][:, None]
    noisy = dequantise(values, generator=torch.Generator().manual_seed(4))
    bits = bits_per_dim(density.log_prob(noisy).sum(1), 1)
    assert float(bits.mean()) > exact + 4 * float(bits.std()) / len(bits) ** 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bits_per_dim(torch.zeros(2), 0), "dims must be"),
        (lambda: bits_per_dim(torch.zeros(2), 4, bin_width=0.0), "bin_width must be a positive number, got 0.0"),
        (lambda: dequantise(torch.zeros(2), bin_width=-1.0), "bin_width must be a positive number, got -1.0"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
