"""The diffusion transformer: patches, counts, the identity at the start, waking, shuffling, and torch's own block."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from diffnotes import Schedule, TrainConfig, Trainer, UNet, ddim_sample, initial_noise, load_images, load_model
from diffnotes.models.dit import DiT, patches, unpatch
from diffnotes.models.transformer import Block
from diffnotes.models.unet import time_embedding
from diffnotes.training.muon import muon_groups


def small(**other) -> DiT:
    torch.manual_seed(0)
    return DiT(**{"width": 24, "depth": 2, "heads": 2, "side": 12, **other})


def opened(model: nn.Module, std: float = 0.2) -> nn.Module:
    """Weights far from the start, so that every part is at work."""
    torch.manual_seed(1)
    for weight in model.parameters():
        nn.init.normal_(weight, std=std)
    return model


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))


# -- patches ------------------------------------------------------------------------------------------------------------


def test_patches_there_and_back_and_as_squares():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    cut = patches(x, 2)
    assert cut.shape == (2, 6, 12) and torch.equal(unpatch(cut, 2, 4, 6), x)
    assert torch.equal(cut[1, 4].reshape(3, 2, 2), x[1, :, 2:, 2:4])  # second row of patches, second column


def test_a_linear_layer_on_patches_is_a_convolution():
    x, layer = torch.randn(2, 3, 8, 8), nn.Linear(48, 5)
    torch.testing.assert_close(
        layer(patches(x, 4)).mT.unflatten(2, (2, 2)),
        F.conv2d(x, layer.weight.reshape(5, 3, 4, 4), layer.bias, stride=4),
        rtol=1e-4,
        atol=1e-5,
    )


# -- the start ----------------------------------------------------------------------------------------------------------


def test_the_first_prediction_is_zero_and_every_block_is_the_identity(x):
    model = small(num_classes=3)
    assert torch.equal(model(x, 5), torch.zeros_like(x))
    tokens, _, shared = model._begin(x, 5, None)
    for block, table in zip(model.blocks, model.tables, strict=True):
        assert torch.equal(block(tokens, shared + table), tokens)


def test_the_zeros_wake_up_in_three_steps(x):
    """Output layer; then gates, last modulation, patch layer and positions; then everything (book, eq. 16.4)."""
    model, goal = small(num_classes=3), torch.randn(3, 1, 12, 12)
    descent, seen = torch.optim.SGD(model.parameters(), lr=0.1), []
    for _ in range(3):
        descent.zero_grad()
        (model(x, torch.tensor([100, 400, 900]), torch.tensor([0, 1, 2])) - goal).square().mean().backward()
        grads = {name: weight.grad for name, weight in model.named_parameters()}
        seen.append({name for name, grad in grads.items() if grad is not None and bool((grad != 0).any())})
        rows = grads["modulation.weight"].unflatten(0, (6, 24)).flatten(1)
        seen[-1] |= {f"row {k}" for k in range(6) if bool((rows[k] != 0).any())}
        descent.step()
    last = {"last.weight", "last.bias"}
    second = last | {"first.weight", "first.bias", "positions", "last_modulation.weight", "last_modulation.bias"}
    second |= {"modulation.weight", "modulation.bias", "tables", "row 2", "row 5"}
    assert seen[0] == last and seen[1] == second
    assert seen[2] >= {name for name, _ in model.named_parameters()} | {f"row {k}" for k in range(6)}


def test_the_order_of_the_zeros_is_not_left_to_chance():
    model = small(num_classes=3)
    for layer in (model.modulation, model.last_modulation, model.last):
        assert not layer.weight.any() and not layer.bias.any()
    assert not model.tables.any() and all(weight.any() for weight in model.blocks.parameters() if weight.ndim > 1)


def test_the_network_is_its_formula(x):
    mean = torch.linspace(0, 0.5, 11)
    model = opened(small(num_classes=3, input_mean=mean), 0.1).double()
    t, y, x = torch.tensor([1, 4, 10]), torch.tensor([2, 0, 3]), x.double()
    c = F.silu(model.time(time_embedding(t, 24).double()) + model.label.weight[y])
    tokens = model.first(patches(x - mean[t].double()[:, None, None, None], 4)) + model.positions
    shared = model.modulation(c).unflatten(1, (6, 24))
    for block, table in zip(model.blocks, model.tables, strict=True):
        tokens = block(tokens, shared + table)
    shift, scale = model.last_modulation(c)[:, None].chunk(2, dim=2)
    out = model.last((1 + scale) * F.layer_norm(tokens, (24,)) + shift)
    torch.testing.assert_close(model(x, t, y), unpatch(out, 4, 12, 12), rtol=1e-9, atol=1e-9)


# -- against others -----------------------------------------------------------------------------------------------------


def test_an_adaptive_block_is_torch_s_attention_with_scale_shift_and_gate():
    torch.manual_seed(0)
    block, modulation, x = (
        Block(24, 3, adaptive=True).double(),
        torch.randn(2, 6, 24).double(),
        torch.randn(2, 9, 24).double(),
    )
    other = nn.MultiheadAttention(24, 3, batch_first=True).double()
    other.in_proj_weight.data, other.in_proj_bias.data = (
        block.attention.query_key_value.weight,
        block.attention.query_key_value.bias,
    )
    other.out_proj.weight.data, other.out_proj.bias.data = block.attention.out.weight, block.attention.out.bias
    b1, a1, g1, b2, a2, g2 = modulation[:, :, None].unbind(1)
    h = (1 + a1) * F.layer_norm(x, (24,)) + b1
    y = x + g1 * other(h, h, h, need_weights=False)[0]
    h = (1 + a2) * F.layer_norm(y, (24,)) + b2
    y = y + g2 * block.mlp.last(F.gelu(block.mlp.first(h)))
    torch.testing.assert_close(block(x, modulation), y)


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_the_number_of_weights_does_not_depend_on_the_heads(heads):
    model, w = small(heads=heads, convolution=False), 24
    counted = sum(p.numel() for p in (*model.blocks.parameters(), *model.modulation.parameters(), model.tables))
    assert counted == 2 * (12 * w**2 + 15 * w) + 6 * w**2 + 6 * w


def test_diffusers_transformer_has_the_same_shapes_and_its_own_matrix_in_each_block():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=1,
        num_layers=2,
        sample_size=12,
        patch_size=4,
        num_embeds_ada_norm=10,
    )
    ours = small(convolution=False)

    def matrices(block: nn.Module) -> list[tuple[int, ...]]:
        return sorted(tuple(p.shape) for n, p in block.named_parameters() if p.ndim == 2 and "norm1" not in n)

    def count(weights: list[tuple[int, ...]]) -> int:
        return sum(rows * columns for rows, columns in weights)

    one, another = matrices(theirs.transformer_blocks[0]), matrices(ours.blocks[0])
    assert count(one) == count(another) == 12 * 24**2  # theirs are queries, keys and values apart
    modulation = dict(theirs.transformer_blocks[0].named_parameters())["norm1.linear.weight"]
    assert modulation.shape == ours.modulation.weight.shape == (6 * 24, 24)


def test_operations_are_those_of_the_formula():
    model, N, w = small(depth=3, convolution=False), 9, 24
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, 12, 12), 1)
    outside = 2 * (2 * N * 16 * w) + 2 * 2 * w**2 + 2 * 2 * w**2  # patches and output; time; last modulation
    assert counter.get_total_flops() == 3 * (24 * N * w**2 + 4 * N**2 * w) + 12 * w**2 + outside


def test_without_positions_and_convolution_it_commutes_with_shuffling(x):
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))

    def apart(model: nn.Module) -> float:
        shuffled = unpatch(patches(x, 4)[:, order], 4, 12, 12)
        return (patches(model(shuffled, 7), 4) - patches(model(x, 7), 4)[:, order]).abs().max().item()

    with torch.no_grad():
        plain, with_positions = opened(small(convolution=False)), opened(small(convolution=False))
        near = opened(small())
        plain.positions.zero_(), near.positions.zero_()
        assert apart(plain) < 1e-4 < 1e-2 < min(apart(with_positions), apart(near))


# -- as a network of the package ----------------------------------------------------------------------------------------


def test_attention_maps_are_those_of_the_forward_pass(x):
    model, seen = opened(small(num_classes=3)), []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda part, given, _: seen.append(part.weights(given[0])))
    with torch.no_grad():
        model(x, 5, 1)
        maps = model.attention_maps(x, 5, 1)
    assert maps.shape == (2, 3, 2, 9, 9)
    torch.testing.assert_close(maps, torch.stack(seen[:2]))
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 2, 9))


def test_time_label_and_mean_change_the_answer_and_no_label_is_the_last_one(x):
    model = opened(small(num_classes=3))
    with torch.no_grad():
        assert not torch.allclose(model(x, 5), model(x, 900)) and not torch.allclose(model(x, 5, 0), model(x, 5, 1))
        assert torch.equal(model(x, 5), model(x, 5, 3))
        centred = opened(small(num_classes=3, input_mean=[0.5] * 10))
        torch.testing.assert_close(centred(x, 5), model(x - 0.5, 5))


def test_muon_gets_the_matrices_of_the_blocks_alone():
    model = small(num_classes=3)
    chosen, others = muon_groups(model)
    assert chosen["muon"] and len(chosen["params"]) == 2 * 4 and all(p.ndim == 2 for p in chosen["params"])
    outside = {id(model.last.weight), id(model.positions), id(model.modulation.weight), id(model.first.weight)}
    assert outside <= {id(p) for p in others["params"]}


def test_it_trains_is_saved_and_samples(tmp_path):
    digits = load_images("digits", size=28)
    torch.manual_seed(0)
    model = DiT(24, 1, 2, patch=7, num_classes=10)
    trainer = Trainer(model, Schedule.cosine(20), digits, TrainConfig(batch_size=16, warmup=5))
    losses = [state.loss for state in trainer.steps(updates=30)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    trainer.save(tmp_path)
    again, schedule = load_model(tmp_path)
    assert isinstance(again, DiT) and again.settings == model.settings and again.item_shape == (1, 28, 28)
    *_, last = ddim_sample(again, schedule, initial_noise(0, 2), steps=2, y=torch.tensor([1, 2]))
    assert last.x_t.shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 25, "heads": 5}, r"^width must be divisible by 4 \(sine and cosine of row and column\), got 25$"),
        ({"heads": 5}, r"^width must be divisible by heads, got width 24 and 5 heads$"),
        ({"patch": 5}, r"^side must be divisible by patch, got side 12 and patch 5$"),
        ({"target": "z"}, r'^target must be one of "eps", "x0", "v", "u", got \'z\'$'),
        ({"depth": 0}, r"^depth must be at least 1, got 0$"),
        ({"num_classes": 0}, r"^num_classes must be at least 1, or None for no labels, got 0$"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        small(**given)


def test_another_size_is_refused_and_the_table_named(x):
    with pytest.raises(
        ValueError, match=r"^x_t must be 12 x 12, for each position has an entry in a table, got 16 x 16$"
    ):
        small()(torch.zeros(1, 1, 16, 16), 1)
    with pytest.raises(ValueError, match=r"^y was given, but this DiT was made without labels"):
        small()(x, 1, 0)
    with pytest.raises(ValueError, match=r"^x: height and width must be divisible by p = 5, got 12 x 12$"):
        patches(x, 5)
    with pytest.raises(ValueError, match=r"^tokens must have shape \(B, 9, C p\^2\), got \(1, 8, 16\)$"):
        unpatch(torch.zeros(1, 8, 16), 4, 12, 12)


# -- the U-Net's new arguments ------------------------------------------------------------------------------------------


def test_the_usual_u_net_has_the_settings_and_weights_that_it_had():
    torch.manual_seed(0)
    usual = UNet(channels=8)
    torch.manual_seed(0)
    named = UNet(channels=8, conditioning="scale_shift", head_channels=64)
    assert usual.settings == named.settings and not {"conditioning", "head_channels"} & set(usual.settings)
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), named.parameters(), strict=True))


def test_the_sum_before_the_norm_is_erased_where_a_group_is_one_channel():
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    size = {"multipliers": (1,), "blocks": 1, "attention": 0}
    with torch.no_grad():
        one_each, two_each = (opened(UNet(channels=n, conditioning="add", **size)) for n in (8, 16))
        torch.testing.assert_close(one_each(noisy, 1), one_each(noisy, 999), rtol=1e-3, atol=1e-4)
        assert (two_each(noisy, 1) - two_each(noisy, 999)).abs().max() > 1e-2
    assert two_each.settings["conditioning"] == "add"
    assert UNet(**two_each.settings).settings == two_each.settings


def test_heads_follow_from_their_channels():
    model = UNet(channels=32, multipliers=(1, 2), attention=2, head_channels=16)
    heads = {block.attention.heads for block in model.down if getattr(block, "attention", None) is not None}
    assert heads == {2, 4} and model.settings["head_channels"] == 16
    with pytest.raises(ValueError, match=r'^conditioning must be "scale_shift" or "add", got \'film\'$'):
        UNet(conditioning="film")
