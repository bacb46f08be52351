import copy
import json
import math

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.models.unet import Downsample, ResidualBlock, SelfAttention, UNet, Upsample, time_embedding


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with every weight random: the layers that start at zero would hide what is behind them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return module.eval()


def small(**settings) -> UNet:
    """A U-Net of two levels with random weights in all layers."""
    torch.manual_seed(0)
    return stirred(UNet(**{"channels": 16, "multipliers": (1, 2), "blocks": 1, **settings}))


def images(generator, n: int = 3, size: int = 8, channels: int = 1) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=generator)


# -- the embedding of time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_time_embedding_is_its_formula(dim):
    t = np.array([0, 1, 7, 500, 1000], dtype=np.float64)
    omega = 10000.0 ** (-2 * np.arange(dim // 2) / dim)
    angle = t[:, None] * omega
    expected = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    # float32: an angle of up to 1000 is off by up to a few 6e-8 * 1000
    np.testing.assert_allclose(time_embedding(torch.tensor(t).long(), dim).numpy(), expected, rtol=0, atol=3e-4)


def test_time_embedding_of_time_0_is_all_cosines():
    assert time_embedding(torch.tensor([0]), 6).tolist() == [[1, 1, 1, 0, 0, 0]]


def test_time_embedding_has_squared_norm_half_the_dimension_at_every_time():
    square = time_embedding(torch.arange(1001), 64).square().sum(1)
    np.testing.assert_allclose(square.numpy(), np.full(1001, 32), rtol=1e-5)


def test_time_embedding_of_an_odd_dimension_is_refused():
    with pytest.raises(ValueError, match=r"^dim must be even \(cosines and sines come in pairs\), got 7$"):
        time_embedding(torch.tensor([1]), 7)


# -- the parts ------------------------------------------------------------------------------------------------------


def group_norm(h: np.ndarray, groups: int, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(B, C, ...) normalised over each group of channels, float64."""
    grouped = h.reshape(len(h), groups, -1)
    mean, variance = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    channel = (1, -1) + (1,) * (h.ndim - 2)
    normal = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(h.shape)
    return normal * weight.reshape(channel) + bias.reshape(channel)


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.detach().double().numpy() for name, parameter in module.named_parameters()}


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def conv(h: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A convolution that keeps height and width, as a sum over the places of its window."""
    k = weight.shape[-1]
    padded = np.pad(h, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    H, W = h.shape[-2:]
    shifted = [
        np.einsum("oi,bihw->bohw", weight[:, :, i, j], padded[:, :, i : i + H, j : j + W])
        for i in range(k)
        for j in range(k)
    ]
    return sum(shifted) + bias[:, None, None]


@pytest.mark.parametrize(("channels_in", "channels_out"), [(16, 16), (16, 24), (12, 8)])
def test_residual_block_is_its_formula(generator, channels_in, channels_out):
    block = stirred(ResidualBlock(channels_in, channels_out, embedding=10))
    h, embedding = images(generator, 2, 5, channels_in), torch.randn(2, 10, generator=generator)
    w, x = weights(block), h.double().numpy()
    both = silu(embedding.double().numpy()) @ w["scale_shift.weight"].T + w["scale_shift.bias"]
    scale, shift = both[:, :channels_out, None, None], both[:, channels_out:, None, None]
    f = group_norm(x, math.gcd(8, channels_in), w["norm_1.weight"], w["norm_1.bias"])
    f = conv(silu(f), w["conv_1.weight"], w["conv_1.bias"])
    f = group_norm(f, 8, w["norm_2.weight"], w["norm_2.bias"]) * (1 + scale) + shift
    f = conv(silu(f), w["conv_2.weight"], w["conv_2.bias"])
    skip = x if channels_in == channels_out else conv(x, w["skip.weight"], w["skip.bias"])
    np.testing.assert_allclose(block(h, embedding).detach().numpy(), skip + f, rtol=1e-4, atol=1e-4)


def test_residual_block_starts_as_the_identity(generator):
    h, embedding = images(generator, 2, 5, 16), torch.randn(2, 10, generator=generator)
    assert torch.equal(ResidualBlock(16, 16, embedding=10, attend=True)(h, embedding), h)


@pytest.mark.parametrize(("channels", "heads"), [(16, 1), (128, 2), (192, 3), (160, 2)])
def test_self_attention_is_torchs_multihead_attention_of_the_normed_positions(generator, channels, heads):
    attention = stirred(SelfAttention(channels))
    theirs = nn.MultiheadAttention(channels, heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(attention.query_key_value.weight)
        theirs.in_proj_bias.copy_(attention.query_key_value.bias)
        theirs.out_proj.weight.copy_(attention.out.weight)
        theirs.out_proj.bias.copy_(attention.out.bias)
    h, w = images(generator, 2, 4, channels), weights(attention)
    normed = torch.tensor(group_norm(h.double().numpy(), 8, w["norm.weight"], w["norm.bias"])).float()
    places = normed.flatten(2).transpose(1, 2)
    seen, _ = theirs(places, places, places)
    expected = h + seen.transpose(1, 2).reshape(h.shape)
    np.testing.assert_allclose(attention(h).detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_self_attention_does_not_know_where_a_position_is(generator):
    attention, h = stirred(SelfAttention(16)), images(generator, 2, 4, 16)
    order = torch.randperm(16, generator=generator)

    def shuffle(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2)[:, :, order].reshape(x.shape)

    assert not torch.allclose(attention(h), attention(shuffle(h)))
    np.testing.assert_allclose(
        attention(shuffle(h)).detach().numpy(), shuffle(attention(h)).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_self_attention_looks_at_every_position(generator):
    attention = stirred(SelfAttention(16))
    h = images(generator, 1, 4, 16).requires_grad_()
    # one place of the output, less the position itself and the norm, still depends on all positions
    (gradient,) = torch.autograd.grad(attention(h)[0, 3, 0, 0], h)
    assert (gradient[0].abs().sum(0) > 0).all()


def test_downsample_convolves_at_every_second_position(generator):
    halve, h = stirred(Downsample(4)), images(generator, 2, 6, 4)
    w = weights(halve)
    expected = conv(h.double().numpy(), w["weight"], w["bias"])[:, :, ::2, ::2]
    np.testing.assert_allclose(halve(h).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_upsample_repeats_every_position_and_convolves(generator):
    double, h = stirred(Upsample(4)), images(generator, 2, 3, 4)
    w = weights(double)
    repeated = h.double().numpy().repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(double(h).detach().numpy(), conv(repeated, w["weight"], w["bias"]), rtol=1e-4, atol=1e-5)


# -- the whole ------------------------------------------------------------------------------------------------------


def test_unet_of_two_levels_is_the_path_of_the_drawing(generator):
    """first, down, halve, down, middle, up with the skips, double, up with the skips, last - spelled out."""
    model = small(attention=1, num_classes=5)
    x, t, y = images(generator), torch.tensor([1, 500, 1000]), torch.tensor([0, 3, 5])
    embedding = model.time(time_embedding(t, 32)) + model.label.weight[y]
    block_0, halve, block_1 = model.down
    up_1a, up_1b, double, up_0a, up_0b = model.up

    first = F.conv2d(x, model.first.weight, model.first.bias, padding=1)
    a = block_0(first, embedding)  # 16 channels, 8 x 8
    b = halve(a)  # 16 channels, 4 x 4
    c = block_1(b, embedding)  # 32 channels, 4 x 4
    h = model.middle(c, embedding)
    h = up_1a(torch.cat([h, c], 1), embedding)
    h = up_1b(torch.cat([h, b], 1), embedding)
    h = double(h)
    h = up_0a(torch.cat([h, a], 1), embedding)
    h = up_0b(torch.cat([h, first], 1), embedding)
    h = F.silu(F.group_norm(h, 8, model.norm.weight, model.norm.bias))
    expected = F.conv2d(h, model.last.weight, model.last.bias, padding=1)
    np.testing.assert_allclose(model(x, t, y).detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", [0, 1, 2])
def test_attention_counts_levels_from_the_smallest_pictures(attention):
    model = UNet(16, (1, 2, 2), blocks=1, attention=attention)
    attends = [isinstance(layer.attention, SelfAttention) for layer in model.down if isinstance(layer, ResidualBlock)]
    assert attends == [level >= 3 - attention for level in range(3)]
    assert isinstance(model.middle.attention, SelfAttention) == (attention > 0)


@pytest.mark.parametrize(
    ("size", "multipliers", "patch"),
    [
        (8, (1, 2), 1),
        (8, (1,), 1),
        (16, (1, 2, 2), 1),
        (28, (1, 2, 2), 1),
        (32, (1, 1, 2, 2), 1),
        (8, (1, 2), 2),
        (28, (1, 2), 2),
        (32, (1, 2, 2), 2),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_of_the_output_depends_on_the_pixel_it_stands_for(generator, size, multipliers, patch, channels):
    model = small(multipliers=multipliers, patch=patch, image_channels=channels, attention=0)
    x = images(generator, 1, size, channels).requires_grad_()
    output = model(x, torch.tensor([300]))
    assert output.shape == x.shape
    for row, column in [(0, 0), (size // 2, size - 1), (size - 1, 3)]:
        (gradient,) = torch.autograd.grad(output[0, 0, row, column], x, retain_graph=True)
        assert gradient[0, :, row, column].abs().min() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_pixels_folded_into_channels_and_back(generator, channels):
    folding = small(patch=2, image_channels=channels)
    plain = small(image_channels=4 * channels)
    plain.load_state_dict(folding.state_dict())
    x, t = images(generator, 3, 8, channels), torch.tensor([1, 500, 1000])
    folded = x.reshape(3, channels, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).reshape(3, 4 * channels, 4, 4)
    output = plain(folded, t).reshape(3, channels, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(x.shape)
    np.testing.assert_allclose(folding(x, t).detach().numpy(), output.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_every_parameter_gets_a_gradient(generator):
    model = small(multipliers=(1, 2, 2), num_classes=3, attention=2)
    output = model(images(generator, 4, 8), torch.tensor([1, 10, 500, 1000]), torch.tensor([0, 1, 2, 3]))
    (output * images(generator, 4, 8)).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not (p.grad.abs().max() > 0)]
    assert without == []
    assert (model.label.weight.grad.abs().amax(1) > 0).all()


def test_every_parameter_gets_a_gradient_within_three_updates_from_the_start(generator):
    torch.manual_seed(0)
    model = UNet(16, (1, 2), blocks=1, num_classes=2)
    x, t, y = images(generator, 4, 8), torch.tensor([1, 10, 500, 1000]), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):  # `last` first, then the layers that start at zero, then what they hid
        optimizer.step()
        optimizer.zero_grad()
        F.mse_loss(model(x, t, y), x).backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().max() > 0] == []


def test_untrained_model_predicts_0_everywhere(generator):
    model = UNet(16, (1, 2), num_classes=3)
    assert torch.equal(model(images(generator), torch.tensor([1, 500, 1000])), torch.zeros(3, 1, 8, 8))


def test_time_changes_the_output(generator):
    model, x = small(), images(generator, 1)
    early, late = model(x, torch.tensor([1])), model(x, torch.tensor([1000]))
    assert (early - late).abs().max() > 1e-2


def test_each_image_is_predicted_at_its_own_time(generator):
    model, x, t = small(), images(generator), torch.tensor([1, 500, 1000])
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(model(x, t).detach().numpy(), alone.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_images_of_a_batch_do_not_influence_each_other(generator):
    model, x = small(), images(generator)
    other = x.clone()
    other[1:] = 5 * images(generator, 2)
    t, other_t = torch.tensor([7, 500, 1000]), torch.tensor([7, 3, 4])
    model_x, model_other = model(x, t), model(other, other_t)
    np.testing.assert_allclose(model_x[0].detach().numpy(), model_other[0].detach().numpy(), rtol=1e-5, atol=1e-6)
    assert (model_x[1:] - model_other[1:]).abs().max() > 1e-2


def test_no_label_is_the_label_num_classes(generator):
    model, x, t = small(num_classes=3), images(generator), torch.tensor([1, 500, 1000])
    assert torch.equal(model(x, t), model(x, t, torch.tensor([3, 3, 3])))


def test_labels_change_the_output(generator):
    model, x, t = small(num_classes=3), images(generator, 1).expand(4, -1, -1, -1), torch.tensor([500] * 4)
    output = model(x, t, torch.tensor([0, 1, 2, 3]))
    for i in range(4):
        for j in range(i):
            assert (output[i] - output[j]).abs().max() > 1e-3


def test_settings_build_the_same_model_again(generator):
    model = small(
        channels=8, multipliers=[1, 3], blocks=2, attention=2, num_classes=4, patch=2, target="v", image_channels=3
    )
    again = UNet(**model.settings)
    again.load_state_dict(model.state_dict())
    x, t, y = images(generator, 2, 8, 3), torch.tensor([1, 500]), torch.tensor([0, 4])
    assert torch.equal(again(x, t, y), model(x, t, y))
    assert (again.target, again.settings) == ("v", model.settings)


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "size", "factor"),
    [
        ({"multipliers": (1, 2, 2)}, (10, 8), 4),
        ({"multipliers": (1, 1, 2, 2)}, (28, 28), 8),
        ({"multipliers": (1, 2), "patch": 2}, (8, 6), 4),
    ],
)
def test_a_size_that_cannot_be_halved_is_refused(settings, size, factor):
    expected = (
        rf"^x_t: height and width must be divisible by {factor} = patch \* 2\^\(levels - 1\), "
        rf"got {size[0]} x {size[1]}; use fewer multipliers or a smaller patch$"
    )
    with pytest.raises(ValueError, match=expected):
        UNet(8, blocks=1, **settings)(torch.zeros(1, 1, *size), torch.tensor([1]))


def test_a_number_of_times_that_is_not_the_number_of_images_is_refused(as_installed):
    with pytest.raises(ValueError, match=r"^t must hold one time for each image: got 2 times for 3 images$"):
        small()(torch.zeros(3, 1, 8, 8), torch.tensor([1, 2]))


def test_a_number_of_labels_that_is_not_the_number_of_images_is_refused(as_installed):
    with pytest.raises(ValueError, match=r"^y must hold one label for each image: got 1 labels for 3 images$"):
        small(num_classes=3)(torch.zeros(3, 1, 8, 8), torch.tensor([1, 2, 3]), torch.tensor([1]))


def test_labels_are_refused_by_a_model_without_them():
    with pytest.raises(ValueError, match=r"^y was given, but this UNet was made without labels \(num_classes=None\)$"):
        small()(torch.zeros(1, 1, 8, 8), torch.tensor([1]), torch.tensor([0]))


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_does_not_exist_is_refused(label):
    with pytest.raises(ValueError, match=rf"^y must hold labels 0\.\.3 \(3 = no label\), got {label}$"):
        small(num_classes=3)(torch.zeros(2, 1, 8, 8), torch.tensor([1, 1]), torch.tensor([1, label]))


@pytest.mark.parametrize("name", ["channels", "blocks", "patch", "image_channels"])
def test_settings_below_1_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must be at least 1, got 0$"):
        UNet(**{name: 0})


@pytest.mark.parametrize(("multipliers", "shown"), [((), r"\(\)"), ((1, 0), r"\(1, 0\)")])
def test_multipliers_that_are_none_or_below_1_are_refused(multipliers, shown):
    expected = rf"^multipliers must be one or more numbers >= 1, one for each level, got {shown}$"
    with pytest.raises(ValueError, match=expected):
        UNet(8, multipliers)


@pytest.mark.parametrize("attention", [-1, 3])
def test_attention_on_levels_that_do_not_exist_is_refused(attention):
    with pytest.raises(ValueError, match=rf"^attention must be a number of levels from 0 to 2, got {attention}$"):
        UNet(8, (1, 2), attention=attention)


def test_no_classes_at_all_are_refused():
    with pytest.raises(ValueError, match=r"^num_classes must be at least 1, or None for no labels, got 0$"):
        UNet(8, num_classes=0)


def test_unknown_target_is_refused():
    with pytest.raises(ValueError, match=r'^target must be one of "eps", "x0", "v", "u", got \'noise\'$'):
        UNet(8, target="noise")


# -- dtypes, and numbers of numpy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cast", "atol"), [("half", 2e-2), ("bfloat16", 2e-1), ("double", 1e-4)])
def test_a_network_in_another_dtype_predicts_the_same_to_its_precision(generator, cast, atol):
    model, x, t, y = (
        small(num_classes=3, attention=1),
        images(generator),
        torch.tensor([1, 500, 1000]),
        torch.tensor([0, 3, 1]),
    )
    expected = model(x, t, y)
    changed = getattr(model, cast)()
    dtype = next(changed.parameters()).dtype
    prediction = changed(x.to(dtype), t, y)
    assert prediction.dtype == dtype
    assert (prediction.float() - expected).abs().max() < atol * expected.abs().max()
    with pytest.raises(
        ValueError, match=rf"^x_t must have the dtype of the network's weights, {dtype}, got torch\.float32$"
    ):
        changed(x, t)


def test_under_autocast_images_stay_float32(generator):
    model, x, t = small(), images(generator), torch.tensor([1, 500, 1000])
    with torch.autocast("cpu", torch.bfloat16):
        assert (model(x, t).float() - model.float()(x, t)).abs().max() < 0.1


def test_times_and_labels_in_every_form_give_the_same_prediction(as_installed, generator):
    model, x = small(num_classes=3), images(generator)
    usual = model(x, torch.tensor([1, 500, 1000]), torch.tensor([2, 0, 3]))
    for t in ([1, 500, 1000], (1, 500, 1000), np.array([1, 500, 1000]), torch.tensor([1, 500, 1000]).int()):
        for y in ([2, 0, 3], np.array([3, 0, 2])[::-1], torch.tensor([2, 0, 3]).byte(), [np.int64(2), 0, 3]):
            assert torch.equal(model(x, t, y), usual)
    one = model(x, torch.tensor([7, 7, 7]), torch.tensor([2, 2, 2]))
    for seven, two in ((7, 2), (np.int64(7), np.uint8(2)), (torch.tensor(7), torch.tensor(2))):
        assert torch.equal(model(x, seven, two), one)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"x_t": torch.zeros(8, 8)}, r"^x_t must have shape \(B, 1, H, W\), got \(8, 8\)$"),
        ({"x_t": torch.zeros(1, 8, 8)}, r"^x_t must have shape \(B, 1, H, W\), got \(1, 8, 8\)$"),
        ({"x_t": torch.zeros(2, 3, 8, 8)}, r"^x_t must have shape \(B, 1, H, W\), got \(2, 3, 8, 8\)$"),
        (
            {"x_t": torch.zeros(2, 1, 8, 8).byte()},
            r"^x_t must be a floating-point tensor of shape \(B, 1, H, W\), got dtype torch",
        ),
        (
            {"x_t": np.zeros((2, 1, 8, 8))},
            r"^x_t must be a floating-point tensor of shape \(B, 1, H, W\), got ndarray$",
        ),
        (
            {"x_t": torch.zeros(2, 1, 8, 8, device="meta")},
            r"^x_t must be a dense tensor that holds numbers, got torch\.strided on meta$",
        ),
        (
            {"x_t": torch.zeros(2, 1, 8, 8).double()},
            r"^x_t must have the dtype of the network's weights, torch\.float32, got torch\.f",
        ),
        ({"t": torch.tensor([0.1, 0.5])}, r"^t must hold integers, a time for each image, got dtype torch\.float32$"),
        ({"t": 0.5}, r"^t must hold integers, a time for each image, got 0\.5$"),
        ({"t": None}, r"^t must hold integers, a time for each image, got None$"),
        ({"t": [1, 2, 3]}, r"^t must hold one time for each image: got 3 times for 2 images$"),
        ({"y": [0.0, 1.0]}, r"^y must hold integers, a label for each image, got \[0\.0, 1\.0\]$"),
        ({"y": "01"}, r"^y must hold integers, a label for each image, got '01'$"),
        ({"y": [True, False]}, r"^y must hold integers, a label for each image, got \[True, False\]$"),
        ({"y": [[0], [1]]}, r"^y must hold one label for each image: got shape \(2, 1\) for 2 images$"),
    ],
)
def test_arguments_that_are_none_are_refused_by_name(as_installed, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        small(num_classes=3)(**{"x_t": torch.zeros(2, 1, 8, 8), "t": torch.tensor([1, 2]), **arguments})


def test_settings_of_numpy_become_pythons_own():
    model = UNet(np.int64(8), np.array([1, 2]), blocks=np.uint8(1), attention=np.int32(1), num_classes=torch.tensor(3))
    settings = json.loads(json.dumps(model.settings))
    assert settings == {**UNet(8, (1, 2), 1, 1, 3).settings, "multipliers": [1, 2]}
    assert UNet(**settings).settings == model.settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"channels": 8.0}, r"^channels must be an integer, got 8\.0$"),
        ({"channels": "8"}, r"^channels must be an integer, got '8'$"),
        ({"channels": True}, r"^channels must be an integer, got True$"),
        ({"blocks": 10**9}, r"^blocks must be at most 1,000,000, got 1000000000$"),
        ({"multipliers": "12"}, r"^multipliers must be one or more numbers >= 1, one for each level, got '12'$"),
        ({"multipliers": 2}, r"^multipliers must be one or more numbers >= 1, one for each level, got 2$"),
        (
            {"multipliers": (1, 2.5)},
            r"^multipliers must be one or more numbers >= 1, one for each level, got \(1, 2\.5\)$",
        ),
        ({"target": 3}, r'^target must be one of "eps", "x0", "v", "u", got 3$'),
        ({"num_classes": "ten"}, r"^num_classes must be an integer, got 'ten'$"),
    ],
)
def test_settings_that_are_none_are_refused_by_name(as_installed, settings, expected):
    with pytest.raises(ValueError, match=expected):
        UNet(**settings)


def test_what_the_weights_were_trained_on_is_written_down_beside_the_settings():
    model = UNet(8, (1,), blocks=1)
    assert (model.item_shape, model.classes, model.label_dropout) == (None, (), None)
    model.item_shape, model.classes, model.label_dropout = (3, 32, 32), ("cat", "dog"), 0.1
    again = copy.deepcopy(model)
    assert (again.item_shape, again.classes, again.label_dropout) == ((3, 32, 32), ("cat", "dog"), 0.1)
    assert not {"item_shape", "classes", "label_dropout"} & (set(model.settings) | set(model.state_dict()))
    assert UNet(8).item_shape is None


# -- centred input --------------------------------------------------------------------------------------------------------


def test_the_mean_of_the_input_is_subtracted_at_its_time():
    mean = torch.linspace(-0.8, 0.0, 11)
    torch.manual_seed(0)
    centred = stirred(UNet(8, (1, 2), 1, patch=2, input_mean=mean)).eval()
    plain = UNet(8, (1, 2), 1, patch=2).eval()
    plain.load_state_dict(centred.state_dict())  # the same weights: the table is no weight
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0, 4, 10])
    with torch.no_grad():
        assert torch.equal(centred(x, t), plain(x - mean[t][:, None, None, None], t))
        assert not torch.allclose(centred(x, t)[1], plain(x, t)[1])


@pytest.mark.parametrize("as_given", [torch.Tensor.tolist, torch.Tensor.numpy, lambda table: table.requires_grad_()])
def test_settings_with_the_mean_make_the_same_network_again(as_given):
    table = torch.tensor([0.1, -0.25, 1 / 3], dtype=torch.float64)
    model = UNet(8, (1,), 1, input_mean=as_given(table.clone()))
    again = UNet(**json.loads(json.dumps(model.settings)))
    assert torch.equal(again.input_mean, model.input_mean) and model.input_mean.dtype == torch.float32
    assert "input_mean" not in UNet(8, (1,), 1).settings


def test_a_time_without_a_mean_is_refused():
    model = UNet(8, (1,), 1, input_mean=[0.0, 0.5])
    for t in (-1, 2):
        with pytest.raises(ValueError, match=rf"t must lie in 0..1, for which input_mean was given, got {t}..{t}"):
            model(torch.zeros(1, 1, 4, 4), t)


@pytest.mark.parametrize("wrong", ["zero", [], [0.0, float("nan")], 0.5, [[0.0]]])
def test_a_mean_that_is_no_row_of_numbers_is_refused(wrong):
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="input_mean"):
        UNet(8, (1,), 1, input_mean=wrong)
