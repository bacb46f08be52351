"""Text encoder, captioned U-Net and CLIP: against torch's own cross-entropy, and what must not depend on what."""

import math
import re

import pytest
import torch
from torch.nn import functional as F

from diffnotes.models.captioned import CaptionedUNet, CaptionEmbedding
from diffnotes.models.clip import CLIP, LARGEST_SCALE, ImageEncoder, contrastive_loss
from diffnotes.models.text import TextEncoder
from diffnotes.models.unet import UNet

TOKENS = torch.tensor([[1, 2, 3, 0], [1, 3, 2, 0], [1, 4, 0, 0], [1, 2, 3, 4], [1, 0, 0, 0]])
SMALL = dict(channels=8, multipliers=(1,), blocks=1, attention=0, patch=2, target="v")


def stirred(model: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """The model with all of its weights drawn by lot."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model.eval()


# -- the text encoder ---------------------------------------------------------------------------------------------------


def test_a_bag_is_the_sum_of_its_words_in_any_order(generator):
    encoder = stirred(TextEncoder(5, 4, width=8, depth=0, gain=3), generator)
    words, pooled, said = encoder(TOKENS)
    by_hand = torch.stack([3 * encoder.embed.weight[row[row > 0]].sum(0) for row in TOKENS])
    assert torch.allclose(pooled, by_hand, atol=1e-6) and torch.equal(said, TOKENS > 0)
    assert torch.allclose(pooled[0], pooled[1], atol=1e-6) and words.shape == (5, 4, 8)


def test_with_blocks_the_order_of_the_words_counts(generator):
    encoder = stirred(TextEncoder(5, 4, width=8, depth=1, heads=2), generator)
    pooled = encoder(TOKENS)[1]
    assert (pooled[0] - pooled[1]).abs().max() > 1e-2


def test_what_fills_up_a_row_is_never_seen(generator):
    """The embedding of token 0 and what stands behind the last word change nothing: masked is removed."""
    encoder = stirred(TextEncoder(5, 4, width=8, depth=2, heads=2), generator)
    words, pooled, said = encoder(TOKENS)
    with torch.no_grad():
        encoder.embed.weight[0] = 100.0
    again = encoder(TOKENS)
    assert torch.equal(again[1], pooled) and torch.equal(again[0][said], words[said])
    short = TextEncoder(5, 2, width=8, depth=2, heads=2)
    kept = {name: weight[:2] if name == "positions" else weight for name, weight in encoder.state_dict().items()}
    short.load_state_dict(kept)
    assert torch.allclose(short.eval()(TOKENS[2:3, :2])[1], pooled[2:3], atol=1e-6)


# -- the captioned U-Net ------------------------------------------------------------------------------------------------


def test_equal_captions_are_encoded_alike_and_in_their_order(generator):
    table = CaptionEmbedding(stirred(TextEncoder(5, 4, width=8, depth=1, heads=2), generator), TOKENS)
    y = torch.tensor([3, 0, 3, 2])
    alone = torch.cat([table.encoder(TOKENS[n : n + 1])[1] for n in y.tolist()])
    assert torch.allclose(table(y), alone, atol=1e-6)


def test_it_takes_over_a_network_with_labels(generator):
    unet = stirred(UNet(**SMALL, num_classes=2), generator)
    network = CaptionedUNet(TOKENS, 5, SMALL, gain=20).eval()
    network.start_from(unet, words=[2, 4], start=1)
    x, t = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([1, 30, 50])
    assert torch.allclose(network(x, t), unet(x, t), atol=1e-5)
    assert torch.allclose(network(x, t, 2), unet(x, t, 1), atol=1e-5)  # caption 2 says the word 4, label 1
    assert torch.allclose(network(x, t, 0), unet(x, t, 0), atol=1e-5)  # the word 3 says nothing yet
    assert network.num_classes == 4 and network.target == "v"


def test_captions_beyond_the_table_are_refused():
    network = CaptionedUNet(TOKENS, 5, SMALL)
    with pytest.raises(ValueError, match=re.escape("y must hold labels 0..4")):
        network(torch.zeros(2, 1, 8, 8), 3, 5)


def test_settings_make_the_same_network_again(generator):
    for model in (CaptionedUNet(TOKENS, 5, SMALL, depth=1), CLIP(TOKENS, 5, dim=8, width=4, noise_aware=True)):
        other = type(model)(**model.settings)
        other.load_state_dict(stirred(model, generator).state_dict())
        y, t = torch.tensor([0, 3]), torch.tensor([5, 9])
        x = torch.randn(2, 1, 28, 28, generator=generator)
        if isinstance(model, CLIP):
            assert torch.equal(model.score(x, t, y), other.eval().score(x, t, y))
        else:
            assert torch.equal(model(x, t, y), other.eval()(x, t, y))


def test_the_unet_itself_has_not_changed():
    """Its default settings, names of weights and their number: checkpoints of before still load."""
    names = UNet(
        channels=24, multipliers=(1, 2), blocks=1, attention=1, patch=2, num_classes=10, target="v"
    ).state_dict()
    assert sum(weight.numel() for weight in names.values()) == 379_492 and names["label.weight"].shape == (11, 96)


# -- CLIP -----------------------------------------------------------------------------------------------------------------


def test_the_loss_is_two_cross_entropies(generator):
    u, v = (F.normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    u.requires_grad_()
    s = 7.0 * u @ v.T
    s.retain_grad()
    loss = (F.cross_entropy(s, torch.arange(6)) + F.cross_entropy(s.T, torch.arange(6))) / 2
    assert torch.allclose(contrastive_loss(u, v, 7.0).mean(), loss)
    loss.backward()
    by_formula = (s.softmax(1) + s.softmax(0) - 2 * torch.eye(6)) / 12
    assert torch.allclose(s.grad, by_formula) and abs(s.grad.sum().item()) < 1e-12
    assert not torch.allclose(F.cross_entropy(s, torch.arange(6)), loss)


def test_vectors_are_of_length_one(generator):
    model = stirred(CLIP(TOKENS, 5, dim=8, width=4), generator)
    x, y = torch.randn(5, 1, 28, 28, generator=generator), torch.arange(5)
    u, v = model.image(x), model.text(y)
    assert torch.allclose(u.norm(dim=1), torch.ones(5)) and torch.allclose(v.norm(dim=1), torch.ones(5))
    assert torch.allclose(model.score(x, 0, y), model.scale() * (u * v).sum(1))


def test_only_the_noise_aware_one_looks_at_the_time(generator):
    x = torch.randn(2, 1, 28, 28, generator=generator)
    for aware in (False, True):
        model = stirred(CLIP(TOKENS, 5, dim=8, width=4, noise_aware=aware), generator)
        changed = (model.image(x, 10) - model.image(x, 900)).abs().max().item()
        assert (changed > 1e-3) == aware


def test_the_time_scales_and_shifts_what_comes_out_of_the_norms(generator):
    """With the same scale 0.5 and shift 0.2 at every time: norms with weights 1.5 w, 1.5 b + 0.2, and no time."""
    aware, plain = (stirred(ImageEncoder(8, 4, noise_aware), generator) for noise_aware in (True, False))
    plain.load_state_dict({name: w for name, w in aware.state_dict().items() if not name.startswith("time.")})
    with torch.no_grad():
        aware.time[2].weight.zero_()
        aware.time[2].bias.copy_(
            torch.cat([torch.full((norm.num_channels,), v) for norm in aware.norms for v in (0.5, 0.2)])
        )
        for norm in plain.norms:
            norm.weight.mul_(1.5)
            norm.bias.mul_(1.5).add_(0.2)
    x = torch.randn(2, 1, 28, 28, generator=generator)
    assert torch.allclose(aware(x, torch.tensor([3, 9])), plain(x, torch.tensor([0, 0])), atol=1e-5)


def test_the_scale_is_an_exponential_and_stops_at_100():
    model = CLIP(TOKENS, 5, dim=8, width=4)
    assert model.scale().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.log_scale.fill_(math.log(250))
    assert model.scale().item() == pytest.approx(LARGEST_SCALE)
    model.scale().backward()
    assert model.log_scale.grad == 0  # beyond the limit it is not driven on


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: TextEncoder(5, 4, width=9, heads=2), "width must be divisible by heads, got width 9 and 2 heads"),
        (lambda: TextEncoder(5, 4)(torch.tensor([[1, 5, 0, 0]])), "tokens must lie in 0..4, got 0..5"),
        (lambda: TextEncoder(5, 4)(torch.tensor([[1, 0, 2, 0]])), "tokens must hold one word or more in each row"),
        (lambda: TextEncoder(5, 4)(torch.tensor([[0, 0, 0, 0]])), "tokens must hold one word or more in each row"),
        (lambda: TextEncoder(5, 4)(torch.ones(2, 4)), "tokens must be a tensor of integers (B, 4), got torch.float32"),
        (lambda: TextEncoder(5, 4)(torch.ones(2, 3).long()), "tokens must have the shape (B, 4), got (2, 3)"),
        (lambda: CLIP(TOKENS, 5, noise_aware=1), "noise_aware must be True or False, got 1"),
        (lambda: CLIP(TOKENS, 5).image(torch.zeros(1, 1, 8, 8)), "x must have shape (B, 1, 28, 28), got (1, 1, 8, 8)"),
        (
            lambda: CaptionedUNet(TOKENS[0], 5, SMALL),
            "tokens must be whole numbers (captions, L), got torch.int64 (4,)",
        ),
        (lambda: contrastive_loss(torch.ones(2, 3), torch.ones(3, 3), 1), "u and v must have the same shape (B, dim)"),
        (
            lambda: CaptionedUNet(TOKENS, 5, SMALL).start_from(UNet(**SMALL, num_classes=3), [2, 3], 1),
            "start_from needs a bag of words (depth=0), and a token for each label",
        ),
    ],
)
def test_wrong_arguments_are_named(call, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        call()
