"""Masked convolutions, PixelCNN, and what autoregressive models share: leaks, total probability, drawing, refusals."""

import itertools

import pytest
import torch
from torch import nn

from diffnotes.models.autoregressive import MaskedConv2d, PixelCNN, dependence, log_prob, sample
from diffnotes.models.transformer import TokenTransformer


def models(vocab: int = 3, side: int = 2, classes: int | None = None) -> list[nn.Module]:
    torch.manual_seed(0)
    found = [
        PixelCNN(vocab, (side, side), width=6, layers=2, num_classes=classes),
        TokenTransformer(vocab, (side, side), 8, 1, 2, num_classes=classes),
    ]
    for model in found:
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.5)
    return [model.double().eval() for model in found]


def jacobian(stack: nn.Module, rows: int, columns: int) -> torch.Tensor:
    """Which output (row) depends on which input (column)."""
    x = torch.randn(1, 1, rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.autograd.functional.jacobian(stack.double(), x)
    return found.reshape(rows * columns, rows * columns) != 0


def stack(*kinds: str, kernel: int = 3) -> nn.Module:
    layers = [MaskedConv2d(1, 1, kernel, kind) for kind in kinds]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers)


def test_a_first_then_b_sees_the_past_alone():
    past = torch.ones(30, 30).tril(-1).bool()
    assert not (jacobian(stack("A", "B", "B"), 5, 6) & ~past).any()
    assert jacobian(stack("B", "B", "B"), 5, 6).diagonal().all()  # the slip
    assert not jacobian(stack("A", "A", "A"), 5, 6).diagonal(-1).all()  # A alone forgets its neighbour


def test_the_blind_spot_is_what_the_formula_says():
    sees, position = jacobian(stack("A", *"B" * 12), 7, 7), torch.arange(49)
    up, right = position[:, None] // 7 - position // 7, position % 7 - position[:, None] % 7
    past = torch.ones(49, 49).tril(-1).bool()
    assert torch.equal(sees, past & (right <= up))
    assert int((past & ~sees).sum()) == 175 and int(past.sum()) == 1176


def test_gradients_of_masked_weights_are_zero():
    layer = MaskedConv2d(2, 3, (3, 5), "A")
    layer(torch.randn(1, 2, 6, 6)).square().sum().backward()
    hidden = layer.weight.grad * (1 - layer.mask)
    assert hidden.abs().max() == 0 and layer.mask.sum() == 7


@pytest.mark.parametrize("side", [2, 3, 5])
def test_both_models_see_the_whole_past_and_nothing_else(side):
    past = torch.ones(side**2, side**2).tril(-1).bool()
    for model in models(4, side, classes=3):
        assert torch.equal(dependence(model), past)
        assert torch.equal(dependence(model, 1), past)


def test_dependence_sees_a_leak():
    model = TokenTransformer(4, (2, 2), 8, 1, 2, causal=False)
    assert dependence(model).all()


def test_the_probabilities_of_all_boards_sum_to_one():
    boards = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for model in models(classes=2):
        for y in (0, 1, 2):
            assert log_prob(model, boards, y).exp().sum().item() == pytest.approx(1, abs=1e-12)
    leaking = TokenTransformer(3, (2, 2), 8, 1, 2, causal=False).double()
    nn.init.normal_(leaking.last.weight, std=1.0)
    assert abs(log_prob(leaking, boards).exp().sum().item() - 1) > 1e-4


def test_boards_come_as_often_as_their_probability_says():
    boards = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for model in models(classes=2):
        drawn = sample(model, torch.ones(20_000, dtype=torch.int64), generator=torch.Generator().manual_seed(1))
        number = (drawn * torch.tensor([27, 9, 3, 1])).sum(1)
        share = torch.bincount(number, minlength=81) / len(drawn)
        p = log_prob(model, boards, 1).exp()
        assert ((share - p).abs() < 5 * (p / len(drawn)).sqrt() + 1e-3).all()


def test_guided_draws_are_those_of_the_steps():
    boards = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for model in models(classes=2):
        y = torch.zeros(20_000, dtype=torch.int64)
        drawn = sample(model, y, guidance=2.0, temperature=0.8, generator=torch.Generator().manual_seed(1))
        logs = 2 * model(boards, 0).log_softmax(-1) - model(boards, None).log_softmax(-1)
        steps = (logs / 0.8).log_softmax(-1).gather(-1, boards[..., None])[..., 0].sum(1).exp()
        share = torch.bincount((drawn * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81) / len(drawn)
        assert ((share - steps).abs() < 5 * (steps / len(drawn)).sqrt() + 1e-3).all()


def test_drawing_with_and_without_a_cache_is_the_same():
    class Whole(nn.Module):
        """The same model, asked for all the logits anew for each token."""

        def __init__(self, model) -> None:
            super().__init__()
            self.model, self.vocab, self.length, self.num_classes = model, model.vocab, model.length, model.num_classes

        def next_logits(self, tokens, y, past):
            rest = torch.zeros(len(tokens), self.length - tokens.shape[1], dtype=torch.int64)
            return self.model(torch.cat([tokens, rest], 1), y)[:, tokens.shape[1]]

    for model in models(5, 4, classes=3):
        seeds = (torch.Generator().manual_seed(2) for _ in range(2))
        y = torch.arange(12) % 3
        a, b = (sample(m, y, guidance=1.5, generator=g) for m, g in zip((model, Whole(model)), seeds, strict=True))
        assert torch.equal(a, b)


def test_a_prefix_is_kept_and_a_low_temperature_takes_the_likeliest():
    for model in models(5, 3, classes=3):
        prefix = torch.tensor([[1, 4, 0, 2]])
        drawn = sample(model, torch.arange(3), prefix=prefix, temperature=1e-4)
        assert drawn.shape == (3, 9) and (drawn[:, :4] == prefix).all()
        best = model(drawn, torch.arange(3)).argmax(-1)
        assert torch.equal(best[:, 4:], drawn[:, 4:])
    assert sample(models(5, 3)[0], None, number=2).shape == (2, 9)


def test_settings_build_the_same_network_again_and_muon_gets_the_kernels():
    torch.manual_seed(0)
    model = PixelCNN(7, (3, 2), width=5, layers=1, num_classes=4)
    again = PixelCNN(**model.settings)
    again.load_state_dict(model.state_dict())
    tokens = torch.randint(7, (2, 6))
    assert torch.equal(again(tokens, 3), model(tokens, 3))
    assert torch.equal(model(tokens), model(tokens, 4)) and not torch.equal(model(tokens), model(tokens, 3))
    kernels = {name for name, weight in model.named_parameters() if weight.ndim == 4 and name.startswith("layers")}
    assert set(model.muon_parameters()) == kernels and len(kernels) == 8


@pytest.mark.usefixtures("as_installed")
def test_what_is_refused():
    model, plain = PixelCNN(4, (2, 2), width=4, layers=1, num_classes=3), PixelCNN(4, (2, 2), width=4, layers=1)
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    for make, words in (
        (lambda: MaskedConv2d(1, 1, 3, "C"), 'kind must be "A" or "B", got \'C\''),
        (lambda: MaskedConv2d(1, 1, 4, "A"), "kernel must be odd, got 4 x 4"),
        (lambda: PixelCNN(4, 4), "length must be the rows and columns of a grid, got 4"),
        (lambda: PixelCNN(1), "vocab must be at least 2, got 1"),
        (lambda: model(tokens + 4), r"tokens must lie in 0\.\.3, got 4\.\.4"),
        (lambda: model(tokens[:, :3]), r"tokens must have the shape \(B, 4\), got \(2, 3\)"),
        (lambda: model(tokens.float()), "tokens must be a tensor of integers .*, got dtype torch.float32"),
        (lambda: model(tokens, 4), r"y must hold labels 0\.\.3 \(3 = no label\), got 4"),
        (lambda: plain(tokens, 1), "y was given, but this PixelCNN was made without labels"),
        (lambda: model.next_logits(tokens, None, {}), "tokens must be fewer than the 4 of a sequence, got 4"),
        (lambda: sample(model, torch.tensor([0]), temperature=0), "temperature must be above 0, got 0"),
        (lambda: sample(model, None, number=1, guidance=2.0), "guidance must be 1 without labels, got 2.0"),
        (lambda: sample(model, None), "number must say how many rows to draw"),
        (
            lambda: sample(model, torch.tensor([0, 1]), prefix=tokens[[0, 0, 0]]),
            r"prefix must have the shape \(2 or 1, 0\.\.4\)",
        ),
        (lambda: sample(model, 1), "y must hold one label for each row, got 1"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
