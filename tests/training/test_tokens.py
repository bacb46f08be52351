"""Rows of tokens, and the objective that predicts each from those before it."""

import math

import pytest
import torch

from diffnotes.models.transformer import TokenTransformer
from diffnotes.training.config import TrainConfig
from diffnotes.training.objectives import Draw, NextToken
from diffnotes.training.restore import load_model
from diffnotes.training.tokens import Tokens
from diffnotes.training.trainer import Trainer


def counting(rows: int = 60, length: int = 6, vocab: int = 5) -> Tokens:
    """Sequences that count upwards from any number, modulo vocab: after the first token nothing is uncertain."""
    start = torch.arange(rows) % vocab
    return Tokens(
        (start[:, None] + torch.arange(length)) % vocab,
        vocab,
        "counting",
        "made here",
        y=start % 2,
        classes=("even", "odd"),
    )


def model(**settings) -> TokenTransformer:
    torch.manual_seed(0)
    return TokenTransformer(5, 6, 16, 1, 2, **settings)


def test_rows_come_as_batches_and_are_known_again():
    data = counting()
    batch = data[torch.tensor([3, 7])]
    assert batch.x.tolist() == [[3, 4, 0, 1, 2, 3], [2, 3, 4, 0, 1, 2]] and batch.y.tolist() == [1, 0]
    assert len(data[:7]) == 7 and data.item_shape == (6,) and data.to("cpu").vocab == 5
    assert data.digest() == counting().digest() != counting(61).digest()
    assert "60 rows of 6 tokens out of 5: counting" in repr(data)


def test_rows_as_text():
    data = Tokens([[0, 2, 1]], 3, "abc", "here", symbols=("a", "b", "c"))
    assert data.text(0) == "acb"
    with pytest.raises(ValueError, match="symbols must be given"):
        counting().text(0)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (dict(x=[[0, 5]]), "x must hold tokens 0..4, got 0..5"),
        (dict(x=[0, 1]), "x must have the shape (N, L), got (2,)"),
        (dict(x=[[0.5]]), "x must hold whole numbers, got torch.float32"),
        (dict(x="text"), "x must hold whole numbers, shape (N, L), got str"),
        (dict(x=[[0]], y=[0, 1]), "y must hold one label for each of the 1 rows of x, got 2"),
        (dict(x=[[0]], y=[1], classes=("a",)), "y must hold labels 0..0, got 1..1"),
        (dict(x=[[0]], vocab=1), "vocab must be an integer >= 2, got 1"),
        (dict(x=[[0]], symbols=("a",)), "symbols must hold one text for each of the 5 tokens, got 1"),
        (dict(x=[[0]], name=3), "name must be a text, got 3"),
    ],
)
def test_wrong_rows_are_refused_by_name(arguments, text):
    with pytest.raises(ValueError) as caught:
        Tokens(**(dict(x=[[0]], vocab=5, name="n", source="s") | arguments))
    assert text in str(caught.value)


def test_the_cost_is_the_chain_rules():
    net, data = model().double(), counting()[:4]
    losses = NextToken()(net, data, _draw(4))
    log_p = net(data.x).log_softmax(-1)
    expected = [-sum(log_p[b, i, data.x[b, i]].item() for i in range(6)) / 6 for b in range(4)]
    assert losses.total.tolist() == pytest.approx(expected)


def test_labels_are_hidden_from_the_share_asked_for():
    net, data, seen = model(num_classes=2), counting(1000), []
    net.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    NextToken(0.3)(net, data, _draw(1000))
    hidden = seen[0] == 2
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(seen[0][~hidden], data.y[~hidden])


def test_it_learns_to_count_is_saved_and_goes_on(tmp_path):
    data, config = counting(), TrainConfig(batch_size=20, learning_rate=1e-2, warmup=5)
    trainer = Trainer(model(num_classes=2), NextToken(), data, config)
    losses = [state.loss for state in trainer.steps(updates=120)]
    assert losses[0] == pytest.approx(math.log(5), abs=0.2)
    assert losses[-1] < (math.log(5) + 0.6) / 6  # the first token cannot be predicted, the others can
    trainer.save(tmp_path)
    net, schedule = load_model(tmp_path)
    assert schedule is None and isinstance(net, TokenTransformer) and net.item_shape == (6,)
    again = Trainer.load(tmp_path, data=data)
    assert again.update == 120 and again.objective == NextToken()


def test_what_does_not_go_together_is_refused():
    data = counting()
    with pytest.raises(ValueError, match="model must predict each token from those before it"):
        Trainer(model(causal=False), NextToken(), data)
    with pytest.raises(ValueError, match="model must be made for the 5 tokens of the data, got vocab 4"):
        Trainer(TokenTransformer(4, 6, 8, 1, 1), NextToken(), data)
    with pytest.raises(ValueError, match=r"model must take the labels 0\.\.1 of the data, got num_classes 1"):
        Trainer(model(num_classes=1), NextToken(), data)
    with pytest.raises(ValueError, match=r"label_dropout must lie between 0 and 1, got 1\.0"):
        NextToken(1.0)


class Leaky(TokenTransformer):
    """Says that it looks back only, and does not."""

    def forward(self, tokens, y=None):
        return super().forward(tokens, y) + 0.01 * tokens[:, -1:, None]


def test_a_leak_is_found():
    with pytest.raises(ValueError, match="its logits depend on the last token"):
        NextToken().check(Leaky(5, 6, 8, 1, 1), counting())


def _draw(size: int):
    return Draw(0, 0, size)
