"""The masked autoencoder: patches, what it sees, and what is refused."""

import pytest
import torch

from diffnotes.models.masked import MaskedAutoencoder


@pytest.fixture
def model() -> MaskedAutoencoder:
    torch.manual_seed(0)
    found = MaskedAutoencoder(side=8, patch=4, width=8, depth=1, last=1, heads=2)
    torch.nn.init.normal_(found.last.weight, std=0.5)
    torch.nn.init.normal_(found.hidden)
    return found.eval()


def test_patches_and_images_go_over_into_each_other(model, generator):
    x = torch.randn(3, 1, 8, 8, generator=generator)
    patches = model.patches(x)
    assert patches.shape == (3, 4, 16)
    torch.testing.assert_close(patches[:, 1].reshape(3, 4, 4), x[:, 0, :4, 4:])
    torch.testing.assert_close(model.image(patches), x)


def test_hidden_patches_are_not_seen_and_visible_ones_are(model, generator):
    x, visible = torch.randn(1, 1, 8, 8, generator=generator, requires_grad=True), torch.tensor([[0, 3]])
    (gradient,) = torch.autograd.grad(model(x, visible).square().sum(), x)
    of_patches = model.patches(gradient).abs().sum(2)[0]
    assert (of_patches[[1, 2]] == 0).all() and (of_patches[[0, 3]] > 0).all()


def test_the_order_of_the_visible_patches_does_not_matter(model, generator):
    x = torch.randn(2, 1, 8, 8, generator=generator)
    a, b = (model(x, torch.tensor([order, order])) for order in ([0, 3], [3, 0]))
    torch.testing.assert_close(a, b)
    assert (a - model(x, torch.tensor([[0, 2], [0, 2]]))).abs().max() > 1e-3


def test_it_begins_near_the_mean_of_the_data(generator):
    x = torch.randn(50, 1, 8, 8, generator=generator) + 0.5
    fresh = MaskedAutoencoder(side=8, patch=4, width=8, depth=1, heads=2)
    fresh.set_mean(x)
    off = fresh(x[:3], torch.tensor([[0, 1]] * 3)) - fresh.patches(x).mean(0)
    assert off.abs().max() < 0.3


def test_settings_and_muon(model, generator):
    again = MaskedAutoencoder(**model.settings)
    again.load_state_dict(model.state_dict())
    x, visible = torch.randn(2, 1, 8, 8, generator=generator), torch.tensor([[1], [2]])
    assert torch.equal(again.eval()(x, visible), model(x, visible))
    weights = dict(model.named_parameters())
    assert len(model.muon_parameters()) == 8 and all(weights[name].ndim == 2 for name in model.muon_parameters())


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused(model):
    x = torch.zeros(2, 1, 8, 8)
    for call, words in (
        (lambda: MaskedAutoencoder(side=10, patch=4), "side must be divisible by patch, got 10 and 4"),
        (lambda: MaskedAutoencoder(width=10, heads=4), "width must be divisible by heads"),
        (lambda: model(x, torch.tensor([[0, 4], [0, 1]])), r"visible must hold positions 0\.\.3, got 0\.\.4"),
        (lambda: model(x, torch.tensor([[0, 1]])), r"visible must have the shape \(2, 1\.\.4\), got \(1, 2\)"),
        (lambda: model(x, torch.zeros(2, 2)), "visible must be a tensor of int64"),
        (lambda: model(x[:, :, :4], torch.tensor([[0], [0]])), r"x must have shape \(B, 1, 8, 8\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
