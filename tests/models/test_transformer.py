"""The transformer: against torch's own attention, shuffled positions, exact probabilities, the cache, and what is refused."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.models.transformer import Attention, Block, TokenTransformer, grid_positions, sine_positions


@pytest.fixture(autouse=True)
def generator() -> torch.Generator:
    torch.manual_seed(0)
    return torch.Generator().manual_seed(0)


def stirred(model: nn.Module, generator: torch.Generator, size: float = 0.3) -> nn.Module:
    """The model in float64, all of its weights drawn by lot."""
    model = model.double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(size * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_torch(generator, causal):
    ours = stirred(Attention(12, 3, causal), generator)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.query_key_value.weight,
            "in_proj_bias": ours.query_key_value.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected, weights = theirs(x, x, x, attn_mask=later, average_attn_weights=False)
    assert torch.allclose(ours(x), expected, atol=1e-12)
    assert torch.allclose(ours.weights(x), weights, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_block_is_its_formula(generator, adaptive):
    block = stirred(Block(8, 2, ratio=3, adaptive=adaptive), generator)
    x = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)
    m = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64) if adaptive else None
    one = [torch.ones(2, 1, 8, dtype=torch.float64)] * 6
    b1, s1, g1, b2, s2, g2 = one if m is None else [part[:, None] for part in m.unbind(1)]

    def norm(layer, values, scale, shift):
        return layer(values) if m is None else (1 + scale) * F.layer_norm(values, (8,)) + shift

    expected = x + g1 * block.attention(norm(block.norm_1, x, s1, b1))
    hidden = F.gelu(block.mlp.first(norm(block.norm_2, expected, s2, b2)))
    expected = expected + g2 * block.mlp.last(hidden)
    assert torch.allclose(block(x, m), expected, atol=1e-12)


def test_an_adaptive_block_with_closed_gates_is_the_identity(generator):
    block = stirred(Block(8, 2, adaptive=True), generator)
    x, m = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64), torch.randn(2, 6, 8, dtype=torch.float64)
    m[:, [2, 5]] = 0
    assert torch.equal(block(x, m), x)


def test_without_places_shuffled_tokens_give_shuffled_answers(generator):
    x = torch.randn(2, 16, 8, generator=generator, dtype=torch.float64)
    order = torch.randperm(16, generator=generator)
    plain, local = stirred(Block(8, 2), generator), stirred(Block(8, 2, side=4), generator)
    assert torch.allclose(plain(x[:, order]), plain(x)[:, order], atol=1e-12)
    assert not torch.allclose(local(x[:, order]), local(x)[:, order], atol=1e-3)
    causal = stirred(Block(8, 2, causal=True), generator)
    assert not torch.allclose(causal(x[:, order]), causal(x)[:, order], atol=1e-3)


def test_the_convolution_in_the_mlp_looks_at_the_eight_neighbours(generator):
    mlp = stirred(Block(4, 1, side=5), generator).mlp
    x = torch.randn(1, 25, 4, generator=generator, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda one: mlp(one).sum((0, 2)), x)[:, 0].abs().sum(-1)
    rows, columns = torch.arange(25) // 5, torch.arange(25) % 5
    near = ((rows[:, None] - rows).abs() <= 1) & ((columns[:, None] - columns).abs() <= 1)
    assert torch.equal(jacobian > 0, near)


def test_the_product_of_two_places_depends_on_their_difference():
    e = sine_positions(20, 16).double()
    gram = e @ e.T
    for k in range(-19, 20):
        along = gram.diagonal(k)
        assert (along - along[0]).abs().max() < 1e-5
    assert gram[3, 3].item() == pytest.approx(8)
    rows, columns = sine_positions(3, 8), sine_positions(5, 8)
    grid = grid_positions(3, 5, 16)
    assert torch.equal(grid[2 * 5 + 4], torch.cat([rows[2], columns[4]]))


@pytest.mark.parametrize("near", [0, 2, 5])
@pytest.mark.parametrize("num_classes", [None, 2])
def test_the_probabilities_of_all_sequences_sum_to_one(generator, near, num_classes):
    """Whatever the weights, as long as position i sees nothing of what follows; a model that sees all has no such sum."""
    model = stirred(TokenTransformer(3, 4, 8, 2, 2, num_classes=num_classes, near=near), generator)
    rows = torch.tensor(list(itertools.product(range(3), repeat=4)))

    def mass(of: TokenTransformer) -> float:
        log_p = of(rows, 1 if num_classes else None).log_softmax(-1).gather(2, rows[:, :, None]).sum((1, 2))
        return log_p.exp().sum().item()

    assert mass(model) == pytest.approx(1, abs=1e-12)
    both = stirred(TokenTransformer(3, 4, 8, 2, 2, causal=False, num_classes=num_classes), generator)
    assert abs(mass(both) - 1) > 1e-2


@pytest.mark.parametrize("near", [0, 3])
def test_a_place_sees_what_it_may_see(generator, near):
    causal = stirred(TokenTransformer(5, 6, 8, 2, 2, near=near), generator)
    both = stirred(TokenTransformer(5, 6, 8, 2, 2, causal=False, near=near), generator)
    rows = torch.randint(5, (1, 6), generator=generator)
    for model, expected in ((causal, torch.ones(6, 6).tril(-1).bool()), (both, torch.ones(6, 6).bool())):
        answer, seen = model(rows), torch.zeros(6, 6, dtype=torch.bool)
        for j in range(6):
            other = rows.clone()
            other[0, j] = (rows[0, j] + 1) % 5
            seen[:, j] = (model(other) != answer)[0].any(-1)
        assert torch.equal(seen, expected)


@pytest.mark.parametrize(("num_classes", "near"), [(None, 0), (3, 0), (3, 5)])
def test_the_cache_changes_nothing(generator, num_classes, near):
    model = stirred(TokenTransformer(7, (3, 3), 8, 3, 2, num_classes=num_classes, near=near), generator)
    rows = torch.randint(7, (2, 9), generator=generator)
    y = None if num_classes is None else torch.tensor([0, 2])
    full, past = model(rows, y), {}
    for i in range(9):
        assert torch.allclose(model.next_logits(rows[:, :i], y, past), full[:, i], atol=1e-12)
    assert torch.allclose(model.next_logits(rows[:, :5], y, {}), full[:, 5], atol=1e-12)  # several positions at once
    past = {}
    model.next_logits(rows[:, :2], y, past)
    assert torch.allclose(model.next_logits(rows[:, :6], y, past), full[:, 6], atol=1e-12)


def test_the_label_stands_in_front_and_none_is_the_last_one(generator):
    for causal in (True, False):
        model = stirred(TokenTransformer(4, 5, 8, 1, 1, causal=causal, num_classes=3), generator)
        rows = torch.randint(4, (2, 5), generator=generator)
        assert torch.equal(model(rows, None), model(rows, torch.tensor([3, 3])))
        assert not torch.equal(model(rows, 1), model(rows, 2))


def test_the_first_prediction_is_nearly_uniform():
    model = TokenTransformer(64, (7, 7))
    log_p = model(torch.randint(64, (4, 49))).log_softmax(-1)
    assert log_p.mean().item() == pytest.approx(-torch.tensor(64.0).log().item(), abs=0.05)


def test_settings_build_the_same_model_and_muon_gets_the_blocks_matrices():
    model = TokenTransformer(5, (2, 3), 8, 2, 2, causal=False, num_classes=4, near=3)
    again = TokenTransformer(**model.settings)
    again.load_state_dict(model.state_dict())
    rows = torch.randint(6, (3, 6))
    assert torch.equal(again(rows, 2), model(rows, 2))
    names = dict(model.named_parameters())
    assert len(model.muon_parameters()) == 8
    assert all(names[name].ndim == 2 and name.startswith("blocks.") for name in model.muon_parameters())


def test_parameters_of_a_block_do_not_depend_on_the_heads():
    for d in (8, 24):
        for heads in (1, 2, 4):
            plain = sum(p.numel() for p in Block(d, heads, adaptive=True).parameters())
            assert plain == 12 * d**2 + 9 * d  # without the modulation


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TokenTransformer(1, 4), "vocab must be at least 2, got 1"),
        (
            lambda: TokenTransformer(4, 4, width=10, heads=4),
            "width must be divisible by heads, got width 10 and 4 heads",
        ),
        (lambda: TokenTransformer(4, (2, 3, 4)), "length must be a number of tokens, or rows and columns"),
        (lambda: TokenTransformer(4, 4, causal=False, near=4), "near must be odd"),
        (lambda: TokenTransformer(4, 4, causal=1), "causal must be True or False, got 1"),
        (lambda: Block(8, 3), "width must be divisible by heads"),
        (lambda: Block(8, 2)(torch.zeros(1, 2, 8), torch.zeros(1, 6, 8)), "modulation must be None: adaptive=False"),
        (lambda: Block(8, 2, adaptive=True)(torch.zeros(1, 2, 8)), "modulation must be given: adaptive=True"),
        (lambda: sine_positions(4, 3), "width must be even"),
        (lambda: grid_positions(4, 4, 6), "features must be divisible by 4"),
    ],
)
def test_wrong_settings_are_refused_by_name(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("tokens", "y", "text"),
    [
        (torch.zeros(2, 4), None, "tokens must be a tensor of integers (B, 4), got dtype torch.float32"),
        (torch.zeros(2, 5, dtype=torch.long), None, "tokens must have the shape (B, 4), got (2, 5)"),
        (torch.full((2, 4), 3), None, "tokens must lie in 0..2, got 3..3"),
        (torch.full((2, 4), -1), None, "tokens must lie in 0..2, got -1..-1"),
        (torch.zeros(2, 4, dtype=torch.long), 3, "y must hold labels 0..2 (2 = no label), got 3"),
        ([[0, 1, 2, 0]], None, "tokens must be a tensor of integers (B, 4), got list"),
    ],
)
def test_wrong_tokens_are_refused_by_name(tokens, y, text):
    with pytest.raises(ValueError) as caught:
        TokenTransformer(3, 4, 8, 1, 1, num_classes=2)(tokens, y)
    assert text in str(caught.value)


def test_the_mask_is_a_token_of_the_model_that_sees_all_only():
    rows = torch.full((1, 4), 3)
    assert TokenTransformer(3, 4, 8, 1, 1, causal=False)(rows).shape == (1, 4, 3)
    with pytest.raises(ValueError, match="labels"):
        TokenTransformer(3, 4, 8, 1, 1)(torch.zeros(1, 4, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="next_logits needs causal=True"):
        TokenTransformer(3, 4, 8, 1, 1, causal=False).next_logits(rows[:, :2], None, {})
    with pytest.raises(ValueError, match="tokens must be fewer than the 4 of a sequence, got 4"):
        TokenTransformer(3, 4, 8, 1, 1).next_logits(torch.zeros(1, 4, dtype=torch.long), None, {})
