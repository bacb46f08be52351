"""The U-Net with side inputs, and the denoiser of vectors."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.models.conditioned import ConditionedUNet
from diffnotes.models.mlp import MLPDenoiser
from diffnotes.models.unet import UNet, time_embedding

SMALL = dict(channels=8, multipliers=(1, 2), blocks=1, patch=2, num_classes=3, target="v")


def shaken(model: nn.Module) -> nn.Module:
    """With no weight left at the zero that it begins with."""
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return model.eval()


def test_without_side_inputs_it_is_the_unet(generator):
    x, t, y = torch.randn(2, 1, 8, 8, generator=generator), torch.tensor([3, 40]), torch.tensor([0, 3])
    plain, conditioned = UNet(**SMALL), ConditionedUNet(**SMALL)
    conditioned.load_state_dict(plain.state_dict())
    shaken(plain), shaken(conditioned)
    assert torch.equal(plain(x, t, y), conditioned(x, t, y))


def test_every_side_input_counts_for_its_own_image_alone(generator):
    model = shaken(ConditionedUNet(picture_channels=2, vector=5, level=True, **SMALL))
    x, t, y = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([3, 40, 9]), torch.tensor([0, 3, 1])
    side = {
        "picture": torch.randn(3, 2, 8, 8, generator=generator),
        "vector": torch.randn(3, 5, generator=generator),
        "level": torch.tensor([0, 10, 500]),
    }
    answer = model(x, t, y, **side)
    for name, value in side.items():
        other = value.clone()
        other[1] = 7
        changed = (model(x, t, y, **(side | {name: other})) - answer).flatten(1).abs().amax(1)
        assert changed[1] > 1e-4 and changed[0] < 1e-5 and changed[2] < 1e-5, name
    one_by_one = [
        model(x[i : i + 1], t[i : i + 1], y[i : i + 1], **{k: v[i : i + 1] for k, v in side.items()}) for i in range(3)
    ]
    torch.testing.assert_close(torch.cat(one_by_one), answer, rtol=1e-4, atol=1e-5)
    again = ConditionedUNet(**model.settings)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(x, t, y, **side), answer)


def test_the_denoiser_of_vectors_is_its_formula(generator):
    """h <- h + W_2 silu(W_1 (norm(h) (1 + scale) + shift)), scale and shift from the embeddings of time and label, summed."""
    model = shaken(MLPDenoiser(4, table=(3, 6), width=16, blocks=2))
    model.set_table(torch.randn(3, 6, generator=generator))
    z, t, y = torch.randn(5, 4, generator=generator), torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 1, 2, 0, 1])
    embedding = model.time(time_embedding(t, 64)) + model.label(model.table[y])
    h = model.first(z)
    for block in model.blocks:
        scale, shift = block.scale_shift(F.silu(embedding)).split(16, dim=1)
        normed = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        h = h + block.out(F.silu(block.wide(normed * (1 + scale) + shift)))
    torch.testing.assert_close(model(z, t, y), model.last(model.norm(h)), rtol=1e-4, atol=1e-5)


def test_the_denoiser_of_vectors(generator):
    model = shaken(MLPDenoiser(4, table=(3, 6), width=16, blocks=2, target="v"))
    rows = torch.randn(3, 6, generator=generator)
    model.set_table(rows)
    z, t = torch.randn(5, 4, generator=generator), torch.tensor([1, 2, 3, 4, 5])
    assert model.num_classes == 2 and torch.equal(model(z, t), model(z, t, 2))  # the last row is that of no label
    answer = model(z, t, 0)
    assert answer.shape == z.shape and not torch.allclose(answer, model(z, t, 1))
    model.set_table(rows.flip(0))
    torch.testing.assert_close(model(z, t, 2), answer)  # the label is its row, and no more
    again = MLPDenoiser(**model.settings)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(z, t, 1), model(z, t, 1))
    assert not any(name == "table" for name, _ in model.named_parameters())
    assert MLPDenoiser(4, width=8)(z, 3).shape == z.shape


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused():
    x, model = torch.zeros(2, 1, 8, 8), ConditionedUNet(picture_channels=1, **SMALL)
    for make, words in (
        (lambda: ConditionedUNet(level=1), "level must be True or False, got 1"),
        (lambda: ConditionedUNet(vector=-1), "vector must be at least 0, got -1"),
        (lambda: model(x, 1), "picture must be given"),
        (lambda: model(x, 1, picture=x, vector=x[:, 0, 0]), "vector must be None, this network takes none"),
        (lambda: model(x, 1, picture=x, level=3), "level must be None, this network takes none"),
        (lambda: ConditionedUNet(level=True, **SMALL)(x, 1, level=torch.zeros(3).long()), "level must hold one level"),
        (lambda: model(x, 1, picture=x[:1]), r"picture must have shape \(2, 1, 8, 8\), got \(1, 1, 8, 8\)"),
        (lambda: MLPDenoiser(0), "dim must be at least 1, got 0"),
        (lambda: MLPDenoiser(2, target="z"), 'target must be one of "eps", "x0", "v", "u", got \'z\''),
        (lambda: MLPDenoiser(2, table=(3,)), r"table must be two sizes, \(labels, numbers\), or None"),
        (lambda: MLPDenoiser(2, table=(1, 2)), "table's labels must be at least 2, got 1"),
        (lambda: MLPDenoiser(2)(torch.zeros(3, 4), 1), r"z_t must have shape \(B, 2\), got \(3, 4\)"),
        (lambda: MLPDenoiser(2)(torch.zeros(3, 2), 1, 0), "y was given, but this MLPDenoiser was made without labels"),
        (
            lambda: MLPDenoiser(2).set_table(torch.zeros(3, 2)),
            "rows were given, but this network was made without labels",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            make()
