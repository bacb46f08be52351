"""Generator and discriminator: shapes, labels, spectral norm against the singular values, and what is refused."""

import pytest
import torch

from diffnotes.models.gan import Discriminator, Generator


def test_their_weights_are_those_of_the_layers_named():
    count = [sum(weight.numel() for weight in network.parameters()) for network in (Generator(), Discriminator())]
    linear, first, second, norms = 64 * 3136 + 3136, 64 * 32 * 16 + 32, 32 * 16 + 1, 2 * 64 + 2 * 32
    assert count[0] == linear + first + second + norms
    assert count[1] == (16 * 24 + 24) + (24 * 48 * 16 + 48) + (48 * 96 * 9 + 96) + (96 * 16 + 1)


def test_the_generator_draws_images_and_in_eval_mode_each_of_its_own_noise(generator):
    network, z = Generator(dim=5, channels=4), torch.randn(6, 5, generator=generator)
    x = network(z)
    assert x.shape == (6, 1, 28, 28) and x.abs().max() <= 1
    assert not torch.allclose(network(z[:3]), x[:3])  # batch normalisation: an image depends on its batch
    network.eval()
    torch.testing.assert_close(network(z[:3]), network(z)[:3])


def test_the_logit_of_an_image_depends_on_no_other(generator):
    network, x = Discriminator(channels=3), torch.randn(6, 1, 28, 28, generator=generator)
    torch.testing.assert_close(network(x[2:4]), network(x)[2:4])


def test_the_label_enters_as_a_projection(generator):
    network, x = Discriminator(channels=3, num_classes=4), torch.randn(5, 1, 28, 28, generator=generator)
    y = torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(network(x, y), network(x, 1))  # at first it says nothing
    torch.nn.init.normal_(network.label.weight, generator=generator)
    f = network.features(x)
    expected = [((network.logit.weight[0] + network.label.weight[k]) @ f[i]).item() for i, k in enumerate(y)]
    torch.testing.assert_close(network(x, y), torch.tensor(expected) + network.logit.bias)


def test_the_generator_heeds_its_label(generator):
    network, z = Generator(dim=5, channels=4, num_classes=3).eval(), torch.randn(2, 5, generator=generator)
    assert not torch.allclose(network(z, 0), network(z, 2))
    torch.testing.assert_close(network(z, torch.tensor([1, 2]))[1:], network(z[1:], 2))


def test_spectral_norm_makes_the_largest_singular_value_of_every_kernel_one(generator):
    network = Discriminator(channels=4, spectral=True)
    for _ in range(300):  # a step of power iteration a call
        network(torch.randn(1, 1, 28, 28, generator=generator))
    layers = [layer for layer in [*network.features, network.logit] if hasattr(layer, "weight")]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("network", [Generator(7, 4, 3), Discriminator(4, True, 3)])
def test_settings_make_it_again(network):
    again = type(network)(**network.settings)
    again.load_state_dict(network.state_dict())
    assert again.settings == network.settings


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused():
    x, z = torch.zeros(2, 1, 28, 28), torch.zeros(2, 64)
    for make, words in (
        (lambda: Generator(dim=0), "dim must be at least 1, got 0"),
        (lambda: Generator(channels=2.5), "channels must be an integer, got 2.5"),
        (lambda: Generator(num_classes=0), "num_classes must be at least 1, or None, got 0"),
        (lambda: Generator()(z[:, :3]), r"z must have shape \(B, 64\), got \(2, 3\)"),
        (lambda: Generator()(z, 1), r"y was given, but this generator was made without labels \(num_classes=None\)"),
        (lambda: Generator(num_classes=3)(z), "y must hold a label for each image: this generator was made with num_classes=3"),
        (lambda: Generator(num_classes=3)(z, 3), r"y must hold labels 0\.\.2, got 3\.\.3"),
        (lambda: Discriminator(spectral=1), "spectral must be True or False, got 1"),
        (lambda: Discriminator()(x[..., :14]), r"x must have shape \(B, 1, 28, 28\), got \(2, 1, 28, 14\)"),
        (lambda: Discriminator()(x, 1), "y was given, but this discriminator was made without labels"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            make()
